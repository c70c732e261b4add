"""A run whose worker is gone: settled by whoever finds its lease run out.

    take over (fence + 1) ─┬─ its switch is open ──▶ settle: move again, or burn it when a cancel was asked for
                           ├─ its switch moved ────▶ the run is ready
                           └─ nothing moved ───────▶ shut the old worker out, row dropped, index dropped ─▶ failed
                                                     (point in time closed on every way; what a clone was made of
                                                      accepts writes again)

Each step may be the last one of this process: then the lease runs out again, and the next one begins anew and finds
what is done. Rows are changed before indices are dropped, so that an index left behind is known to the sweeper. An
engine out of reach keeps a run only while a switch is open, because nobody can say which way it went; otherwise the
run ends, and the sweeper removes what could not be reached.
"""

import structlog

from app import catalogues, generations, runs, switches
from app.db import Database
from app.errors import Conflict, IndexMissing, Problem, RunCanceled, RunFailed, SwitchSpent
from app.leases import locked
from app.models import Catalogue, Generation, Run, Switch
from app.spec import IndexSource
from app.switches import Engines
from app.sync.engine_port import Engine
from app.sync.words import Draft

log = structlog.get_logger("reshelve.settling")


async def settle_run(db: Database, connections: Engines, run_id: str, worker: str, lease_seconds: float) -> Run | None:
    """End a run whose lease has run out; None when somebody else was quicker.

    Raises what the engine raises while the run's switch is open: the run then stays, and is found again.
    """
    async with db.writing() as session:
        run = await runs.take_over(session, run_id, worker, lease_seconds)
        if run is None:
            return None
        catalogue = await catalogues.get(session, run.catalogue)
        switch = await runs.last_switch(session, run)
    if switch and switch.state == "open":
        switch = await _settle_switch(db, connections, catalogue, run, switch)
    moved = switch is not None and switch.state == "moved"
    if not moved:
        await _drop_drafts(db, connections, catalogue, run)
    await close_pit(db, connections, catalogue, run)
    return await _end(db, run, moved=moved)


async def _settle_switch(
    db: Database, connections: Engines, catalogue: Catalogue, run: Run, switch: Switch
) -> Switch | None:
    target = await connections.engine(catalogue.engine)
    return await switches.settle(db, target, catalogue.name, number=switch.number, give_up=run.cancel_requested)


async def _end(db: Database, run: Run, *, moved: bool) -> Run:
    async with db.writing() as session:
        if moved:
            return await runs.finish(session, run.id, run.fence, "ready")
        if run.cancel_requested:
            return await runs.finish(
                session, run.id, run.fence, "canceled", RunCanceled(f"Canceled by {run.canceled_by}.")
            )
        lost = RunFailed("The worker of this run is gone; nothing was promoted: order it again.", code="worker_lost")
        return await runs.finish(session, run.id, run.fence, "failed", lost)


# --- what it leaves --------------------------------------------------------------------------------------------------


async def _drop_drafts(db: Database, connections: Engines, catalogue: Catalogue, run: Run) -> None:
    async with db.reading() as session:
        drafts = [
            one for one in await generations.of_run(session, run.id) if one.state in (*generations.BUILDING, "dropped")
        ]
    for draft in drafts:
        try:
            target = await connections.engine(catalogue.engine)
            await _shut_out(target, run, draft)
        except Problem as problem:
            log.warning("draft_unreachable", run_id=run.id, index=draft.index, code=problem.code)
        await _leave(db, run, draft)
        await _drop(connections, catalogue, run, draft)
        await _unblock(db, connections, catalogue, draft)


async def _shut_out(target: Engine, run: Run, draft: Generation) -> None:
    """Swap the alias through which the old worker fills for this fence's: what it still sends is refused."""
    mine = Draft(run.catalogue, run.id, draft.id, draft.index, run.fence, draft.recipe_hash or "").fill
    for info in await target.resolve(draft.index):
        for old in info.aliases:
            if old.startswith(f"{draft.index}.fill-") and old != mine:
                try:
                    await target.swap_alias(draft.index, old, mine)
                except (SwitchSpent, IndexMissing):
                    continue  # sealed or dropped at this very moment: shut out as well


async def _leave(db: Database, run: Run, draft: Generation) -> None:
    async with db.writing() as session:
        await locked(session, run.id, run.fence)
        catalogue = await catalogues.locked(session, run.catalogue)
        try:
            await generations.leave(session, catalogue, draft.id, "dropped")
        except Conflict as conflict:
            log.warning("draft_kept", run_id=run.id, index=draft.index, code=conflict.code)
            raise


async def _drop(connections: Engines, catalogue: Catalogue, run: Run, draft: Generation) -> None:
    try:
        await (await connections.engine(catalogue.engine)).drop(draft.index)
    except Problem as problem:
        log.warning("index_left", run_id=run.id, index=draft.index, code=problem.code)


async def _unblock(db: Database, connections: Engines, catalogue: Catalogue, clone: Generation) -> None:
    """What a clone was made of accepts writes again; where the engine is out of reach the sweeper sees to it."""
    async with db.reading() as session:
        source = await session.get(Generation, clone.cloned_from) if clone.cloned_from else None
    if source is None or source.origin != "own" or source.state not in ("live", "retired"):
        return
    try:
        target = await connections.engine(catalogue.engine)
        for info in await target.resolve(source.index):
            if info.write_blocked:
                await target.unblock(info.name)
    except Problem as problem:
        log.warning("block_left", index=source.index, code=problem.code)


async def close_pit(db: Database, connections: Engines, catalogue: Catalogue, run: Run) -> bool:
    """Close the point in time that *run* wrote down, then forget it; whether there is none any more."""
    if run.pit is None:
        return True
    source = catalogues.spec_of(catalogue).source
    try:
        if isinstance(source, IndexSource):
            await (await connections.engine(source.engine)).close_pit(run.pit)
    except Problem as problem:
        log.warning("pit_left", run_id=run.id, code=problem.code)
        return False
    async with db.writing() as session:
        row = await runs.get(session, run.id)
        row.pit = None if row.pit == run.pit else row.pit
    return True
