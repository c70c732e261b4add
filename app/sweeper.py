"""What nobody owns goes away: old generations, drafts of ended runs, points in time, switches and write blocks left
behind, old lines.

The engine is listed first and the database read second: an index that is made in between has its name in the database
already, so it is never taken for an orphan. An index is dropped only when

- its mark names this installation, this catalogue, and the very generation whose row has its name (or the one that it
  is a clone of: the engine copies the mark), and that row is `dropped`; or it has no row, but its mark names a run of
  this catalogue that is over;
- no open switch names it, and it is behind no alias that readers use, asked once more just before.

Rows become `dropped` first, under the catalogue's lock: a rollback that comes later finds them gone, one that came
before has an open switch. Foreign indices have no mark of ours. An index of ours that the database knows nothing of
(a restored backup, a forgotten catalogue) is left to a person.

Only a run that clones needs a live index to refuse writes, from the row of its clone to the moment that it is fed. A
block that is found outside of that was left by a worker that died or was late, and is lifted: nobody else would. If a
run begins to clone at this very moment, the engine refuses its clone, and nothing is lost.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy import delete
from sqlmodel import col, select

from app import aliases, catalogues, events, generations, idempotency, retention, runs, settling, switches
from app.columns import utc_now
from app.db import Database, ReadSession, WriteSession
from app.errors import Conflict, Problem
from app.models import Catalogue, ChangeRow, Generation, Progress, RejectRow, Run
from app.switches import Engines
from app.sync.engine_port import Engine
from app.sync.words import IndexInfo

ABANDONED = timedelta(seconds=60)
"""After this a rollback that is still open has no caller any more, who was told that it failed: its number is burnt."""

log = structlog.get_logger("reshelve.sweeper")


async def sweep(db: Database, connections: Engines, *, retention_days: int = 90, now: datetime | None = None) -> int:
    """Sweep every catalogue once; how many indices were dropped. A catalogue in trouble is logged and passed over."""
    moment = now or utc_now()
    async with db.reading() as session:
        everything = (await session.exec(select(Catalogue).order_by(col(Catalogue.name)))).all()
    dropped = 0
    for catalogue in everything:
        try:
            dropped += await _catalogue(db, connections, catalogue, moment)
        except Problem as problem:
            log.warning("not_swept", catalogue=catalogue.name, code=problem.code, detail=problem.detail)
    async with db.writing() as session:
        await _old_rows(session, moment, retention_days)
    await events.forget_old(db)
    return dropped


async def _catalogue(db: Database, connections: Engines, catalogue: Catalogue, now: datetime) -> int:
    target = await connections.engine(catalogue.engine)
    await _abandoned_switch(db, target, catalogue.name, now)
    dropped = await clean(db, target, catalogue.name, now)
    for run in await _ended_with_pit(db, catalogue.name):
        await settling.close_pit(db, connections, catalogue, run)
    return dropped


async def clean(db: Database, target: Engine, name: str, now: datetime | None = None) -> int:
    """Drop what nothing keeps of one catalogue: the last stage of a run, and part of every sweep; how many indices."""
    async with db.writing() as session:
        catalogue = await catalogues.locked(session, name)
        await retention.overdue(session, catalogue, now)
        await _orphaned_drafts(session, name)
    listed = await target.listed(f"{generations.base_of(catalogue.alias)}-")
    async with db.reading() as session:
        gone = [info for info in listed if await _is_garbage(session, catalogue, info)]
        blocked = [info for info in listed if info.write_blocked and await _is_left_blocked(session, catalogue, info)]
    for info in blocked:
        await target.unblock(info.name)
        log.warning("block_lifted", catalogue=name, index=info.name)
    return sum([await _drop(db, target, catalogue, info) for info in gone])


async def forget(db: Database, connections: Engines, name: str, who: str, *, purge: bool) -> None:
    """Forget a catalogue; with *purge* drop every index that this installation made for it, but no foreign one.

    It is held first, so that nothing is built meanwhile, and forgotten last: whoever is interrupted does it again.
    Raises `Conflict` while a run is active.
    """
    if purge:
        await _purge(db, connections, name, who)
    async with db.writing() as session:
        await catalogues.forget(session, name, who)


async def _purge(db: Database, connections: Engines, name: str, who: str) -> None:
    async with db.writing() as session:
        catalogue = await catalogues.get(session, name)
        if active := await runs.active(session, name):
            raise Conflict("A run of this catalogue is active: cancel it first.", code="active", run_id=active)
        await catalogues.hold(session, name, f"{who} is removing it")
        owner = await generations.owner(session)
    target = await connections.engine(catalogue.engine)
    for info in await target.listed(f"{generations.base_of(catalogue.alias)}-"):
        if info.mark and (info.mark.owner, info.mark.catalogue) == (owner, name):
            await target.drop(info.name)


# --- which -----------------------------------------------------------------------------------------------------------


async def _orphaned_drafts(session: WriteSession, name: str) -> None:
    """Drafts of ended runs whose worker could not say so; the catalogue's row is locked."""
    ended = select(Run.id).where(col(Run.catalogue) == name, col(Run.state).in_(runs.OVER))
    building = select(Generation).where(
        col(Generation.catalogue) == name,
        col(Generation.state).in_(generations.BUILDING),
        col(Generation.created_by).in_(ended),
    )
    opened = await aliases.open_switch(session, name)
    for draft in (await session.exec(building)).all():
        if opened is None or opened.to_generation != draft.id:
            draft.state, draft.fed = "dropped", False


async def _is_garbage(session: ReadSession, catalogue: Catalogue, info: IndexInfo) -> bool:
    mark, base = info.mark, re.escape(generations.base_of(catalogue.alias))
    if (
        mark is None
        or not re.fullmatch(rf"{base}-\d{{14}}", info.name)
        or await _is_read(session, catalogue, info.aliases)
    ):
        return False
    if (mark.owner, mark.catalogue) != (await generations.owner(session), catalogue.name):
        return False
    row = await _row(session, catalogue, info)
    if row is None:
        return await _run_is_over(session, catalogue.name, mark.run)
    return _agree(row, catalogue, info) and row.state == "dropped"


async def _is_left_blocked(session: ReadSession, catalogue: Catalogue, info: IndexInfo) -> bool:
    """Whether an index that refuses writes is one of ours that is fed, and no run is cloning (the drafts of ended runs
    are dropped by now)."""
    row = await _row(session, catalogue, info)
    if row is None or not row.fed or row.state not in ("live", "retired") or not _agree(row, catalogue, info):
        return False
    return not await generations.is_cloning(session, catalogue.name)


async def _row(session: ReadSession, catalogue: Catalogue, info: IndexInfo) -> Generation | None:
    named = select(Generation).where(col(Generation.engine) == catalogue.engine, col(Generation.index) == info.name)
    return (await session.exec(named)).first()


def _agree(row: Generation, catalogue: Catalogue, info: IndexInfo) -> bool:
    """Whether row and mark say the same; a clone has the mark of what it was made of until it is given its own."""
    marked = info.mark.generation if info.mark else None
    own = (row.catalogue, row.origin) == (catalogue.name, "own")
    return own and marked is not None and marked in (row.id, row.cloned_from)


async def _is_read(session: ReadSession, catalogue: Catalogue, names: Mapping[str, bool]) -> bool:
    """Whether one of *names* is the alias of any catalogue on this engine."""
    query = select(Catalogue.name).where(
        col(Catalogue.engine) == catalogue.engine, col(Catalogue.alias).in_(list(names))
    )
    return (await session.exec(query)).first() is not None


async def _run_is_over(session: ReadSession, name: str, run_id: str) -> bool:
    run = await session.get(Run, run_id)
    return run is not None and run.catalogue == name and run.state in runs.OVER


async def _drop(db: Database, target: Engine, catalogue: Catalogue, info: IndexInfo) -> bool:
    """Look once more, then drop; a `dropped` row never comes back, so only an alias set by hand can be in the way."""
    still = await target.resolve(info.name)
    async with db.reading() as session:
        if len(still) != 1 or still[0].uuid != info.uuid or not await _is_garbage(session, catalogue, still[0]):
            return False
    await target.drop(info.name)
    log.info("index_dropped", catalogue=catalogue.name, index=info.name)
    return True


# --- the rest --------------------------------------------------------------------------------------------------------


async def _abandoned_switch(db: Database, target: Engine, name: str, now: datetime) -> None:
    """A rollback nobody waits for is given up. A promotion is settled with its run."""
    async with db.reading() as session:
        opened = await aliases.open_switch(session, name)
    if opened and opened.kind == "rollback" and opened.opened_at <= now - ABANDONED:
        await switches.settle(db, target, name, number=opened.number, give_up=True)


async def _ended_with_pit(db: Database, name: str) -> Sequence[Run]:
    async with db.reading() as session:
        query = select(Run).where(col(Run.catalogue) == name, col(Run.state).in_(runs.OVER), col(Run.pit).is_not(None))
        return (await session.exec(query)).all()


async def _old_rows(session: WriteSession, now: datetime, days: int) -> None:
    """Lines, rejects and changes past retention, keys past their day. Runs, generations, switches, audit stay."""
    before = now - timedelta(days=days)
    old = select(Run.id).where(col(Run.finished_at) < before)
    for query in (
        delete(Progress).where(col(Progress.at) < before),
        delete(RejectRow).where(col(RejectRow.run).in_(old)),
        delete(ChangeRow).where(col(ChangeRow.catalogue).in_(select(Catalogue.name)), col(ChangeRow.at) < before),
    ):
        await session.exec(query, execution_options={"synchronize_session": False})
    await idempotency.forget(session, now)
