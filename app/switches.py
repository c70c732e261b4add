"""The switch: promotion and rollback as one kind of row, a number that serves once, settled by anybody at any time.

    open (committed) ──▶ move, in one call ──▶ read back ──▶ moved (committed)
                           └ refused ─▶ burn the number ─▶ read back ─▶ burnt or moved (committed)

1. *Open*: one transaction takes the catalogue's number n and writes the row; a partial unique index allows one open
   row a catalogue. Nothing has moved yet.
2. *Act*: the move takes the alias and `switch-n` from where they are and puts the alias and `switch-(n+1)` on the
   target. Refused, or to give up: the number is burnt, `switch-n` becomes `switch-(n+1)` in place. After either, no
   call that carries n can do anything any more, however late it comes. Only then:
3. *Read*: `switch-(n+1)` on the target means moved, on another index burnt, nowhere yet: read again. Reading first
   and deciding by it would be wrong: a late call could still land.
4. *Commit*, where the row is still open: states of the generations, the number, the hold after a rollback. Whoever
   comes second finds the row settled and goes by it.

A process that dies after 1, 2 or 3 leaves an open row; each step may be repeated by anybody, any number of times. An
engine out of reach leaves the row open: the caller hears a transient error, nothing has been decided.

Locks, in this order: run, catalogue, switch, generations.
"""

import random
from contextlib import suppress
from typing import Any, Protocol

import anyio
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from app import audit, catalogues, generations, maintenance, progress
from app.aliases import Finding, Stand, findings, look, open_switch
from app.columns import iso, utc_now
from app.db import Database, WriteSession
from app.errors import Conflict, EngineUnavailable, IndexMissing, NotFound, RunCanceled, SwitchSpent
from app.models import Catalogue, Generation, Run, Switch
from app.sync.engine_port import Engine, Reader, Target
from app.sync.words import Move

ROLLBACK_PATIENCE = 5.0
"""Seconds for which a rollback tries an engine that does not answer; its caller waits."""

READS, READ_AGAIN = 5, 0.2
"""How often, and after how many seconds, it is asked again where the next number is: some engines answer from a node
that may lag behind, and a number that is nowhere yet says nothing. After that it is nowhere: somebody removed it."""

TRIES = 5
"""How often a rollback settles what came between before it says so."""


class Engines(Protocol):
    """Who has the engines of the settings open."""

    async def engine(self, name: str) -> Engine:
        """The engine of that name. Raises `Problem`."""


# --- open ------------------------------------------------------------------------------------------------------------


async def open_promotion(session: WriteSession, catalogue: Catalogue, run: Run, draft: str, stand: Stand) -> Switch:
    """The intent to put *run*'s draft behind the alias; run and catalogue are locked by the caller.

    Raises `SwitchSpent` with code `rolled_back_meanwhile` when the number is not the one that the run began with, or
    `draft_given_up` when the draft has left the fed set: it has missed events.
    """
    if run.switch_seen != catalogue.switch_number or await open_switch(session, catalogue.name):
        raise overtaken()
    if (to := await generations.get(session, catalogue.name, draft)).state != "sealed":
        raise SwitchSpent(f"{to.index} did not take what events brought: nothing moved.", code="draft_given_up")
    source = await _source(session, catalogue, draft, stand)
    run.from_generation = source
    return await _open(session, catalogue, "promotion", source, draft, run=run.id, who=run.requested_by)


async def _source(session: WriteSession, catalogue: Catalogue, draft: str, stand: Stand) -> str | None:
    """The generation the alias is on; an index that no row knows gets one, `retired` as it is on its way out."""
    if stand.live or not stand.on:
        return stand.live.id if stand.live else None
    index = stand.on[0].name
    try:
        return (await generations.get(session, catalogue.name, index)).id
    except NotFound:
        return await generations.adopt(session, catalogue, index, draft)


async def open_rollback(
    session: WriteSession, catalogue: Catalogue, to: Generation, here: Generation, who: str
) -> Switch:
    """The intent to go back to a retired generation; the catalogue is locked by the caller."""
    return await _open(session, catalogue, "rollback", here.id, to.id, who=who)


async def _open(
    session: WriteSession,
    catalogue: Catalogue,
    kind: str,
    source: str | None,
    to: str,
    *,
    who: str,
    run: str | None = None,
) -> Switch:
    switch = Switch(
        catalogue=catalogue.name, number=catalogue.switch_number, kind=kind, from_generation=source, to_generation=to,
        run=run, requested_by=who,
    )  # fmt: skip
    try:
        async with session.begin_nested():
            session.add(switch)
    except IntegrityError:
        raise overtaken() from None
    return switch


def overtaken() -> SwitchSpent:
    """What a run hears whose number somebody else has taken."""
    return SwitchSpent(
        "Somebody rolled back or moved the alias while this run was building: nothing moved. Order a new run.",
        code="rolled_back_meanwhile",
    )


# --- settle ----------------------------------------------------------------------------------------------------------


async def settle(
    db: Database, target: Engine, name: str, *, number: int | None = None, give_up: bool = False, patience: float = 30.0
) -> Switch | None:
    """Settle the open switch of catalogue *name*, or see switch *number* settled; the row as it stands then.

    *give_up* burns the number instead of moving (it may have moved before: the row says); so does a cancel of the
    run whose switch it is, for as long as it has not moved. Engine trouble that passes is
    tried again for *patience* seconds, then raised as `EngineUnavailable`: the switch stays open, nothing is decided.
    """
    with anyio.move_on_after(patience) as limit:
        while True:
            switch, move, canceled = await _move_of(db, name, number)
            if switch is None or move is None:
                return switch
            try:
                return await _commit(db, switch, moved=await _act(target, move, give_up=give_up or canceled))
            except EngineUnavailable:
                if limit.deadline - anyio.current_time() < 1:
                    raise
                await anyio.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - spreads callers out, keeps no secret
    raise EngineUnavailable("The engine did not answer in time: the switch is open, whoever comes next settles it.")


async def _move_of(db: Database, name: str, number: int | None) -> tuple[Switch | None, Move | None, bool]:
    """The switch in question, its move as long as it is open, and whether its run is to be canceled.

    Everything the move needs is in the database.
    """
    async with db.reading() as session:
        switch = await open_switch(session, name)
        if number is not None and (switch is None or switch.number != number):
            return await session.get(Switch, (name, number)), None, False
        if switch is None:
            return None, None, False
        catalogue = await catalogues.get(session, name)
        to = await generations.get(session, name, switch.to_generation)
        source = await generations.get(session, name, switch.from_generation) if switch.from_generation else None
        run = await session.get(Run, switch.run) if switch.run else None
    holder = source if source and source.state == "live" else to
    move = Move(catalogue.alias, switch.number, holder.index, source.index if source else None, to.index)
    return switch, move, run is not None and run.cancel_requested


async def _act(target: Engine, move: Move, *, give_up: bool) -> bool:
    """Spend the number, by moving or by burning it, then read: whether it moved."""
    if give_up or not await _moves(target, move):
        await _burn(target, move)
    for _ in range(READS):
        if found := await target.resolve(move.next_token):
            arrived = [info for info in found if info.name == move.target]
            # In the first switch the next number is on the target either way: there the alias tells.
            return any(move.holder != move.target or move.alias in info.aliases for info in arrived)
        await anyio.sleep(READ_AGAIN)
    return False


async def _moves(target: Target, move: Move) -> bool:
    try:
        await target.move(move)
    except (SwitchSpent, IndexMissing):
        return False
    return True


async def _burn(target: Target, move: Move) -> None:
    """A number that is not where it should be is spent already."""
    with suppress(SwitchSpent, IndexMissing):
        await target.burn(move.alias, move.number, move.holder)


# --- commit ----------------------------------------------------------------------------------------------------------


async def _commit(db: Database, switch: Switch, *, moved: bool) -> Switch:
    async with db.writing() as session:
        if switch.run:
            await session.exec(select(Run.id).where(col(Run.id) == switch.run).with_for_update())
        catalogue = await catalogues.locked(session, switch.catalogue)
        row = await session.get(Switch, (switch.catalogue, switch.number), populate_existing=True, with_for_update=True)
        assert row is not None
        if row.state == "open":
            row.state, row.settled_at = "moved" if moved else "burnt", utc_now()
            catalogue.switch_number = row.number + 1
            await (_moved if moved else _burnt)(session, catalogue, row)
        return row


async def _moved(session: WriteSession, catalogue: Catalogue, switch: Switch) -> None:
    to = await generations.take_over(session, catalogue, switch, utc_now())
    await _tell(session, switch, to)


async def _burnt(session: WriteSession, catalogue: Catalogue, switch: Switch) -> None:
    await generations.disown(session, switch)
    data = {"switch": switch.number, "kind": switch.kind, "moved": False}
    await progress.say(session, catalogue.name, "note", data, switch.run)


async def _tell(session: WriteSession, switch: Switch, to: Generation) -> None:
    data = {
        "switch": switch.number, "kind": switch.kind, "moved": True,
        "from": switch.from_generation, "to": to.id, "index": to.index,
    }  # fmt: skip
    await progress.say(session, switch.catalogue, "note", data, switch.run)
    if switch.kind == "rollback":
        who = switch.requested_by or "anonymous"
        await catalogues.hold(session, switch.catalogue, f"{who} rolled back to {to.index}")
        left = switch.from_generation
        await audit.record(session, who, "rollback", switch.catalogue, to.id, left=left, switch=switch.number)


# --- roll back -------------------------------------------------------------------------------------------------------


async def rollback(
    db: Database, connections: Engines, name: str, *, to: str | None = None, stale: bool = False, who: str
) -> dict[str, Any]:
    """Put a kept generation behind the alias again, at once: `{"from", "to", "stale_since"}`; the catalogue is held.

    *to* is any retired generation; without it, the one that the live one replaced (`generations.before`). An open
    rollback to the same place, left by a caller that heard of engine trouble, is finished instead of going back once
    more. An open promotion is given up: its run fails. Raises `Conflict` with code `nothing_behind`, `already_live`,
    `not_kept`, `stale` (with `stale_since`), or what is wrong with the alias.
    """
    async with db.reading() as session:
        await maintenance.check(session)
        engine = (await catalogues.get(session, name)).engine
    target = await connections.engine(engine)
    switch = await _intent(db, target, name, to, stale=stale, who=who)
    settled = await settle(db, target, name, number=switch.number, patience=ROLLBACK_PATIENCE)
    if settled is None or settled.state != "moved":
        raise Conflict("Somebody moved the alias at this moment: look where it is and ask again.", code="switch_spent")
    async with db.reading() as session:
        there = await generations.get(session, name, settled.to_generation)
    return {"from": settled.from_generation, "to": settled.to_generation, "stale_since": iso(there.stale_since)}


async def _intent(db: Database, target: Engine, name: str, to: str | None, *, stale: bool, who: str) -> Switch:
    for _ in range(TRIES):
        async with db.reading() as session:
            opened = await open_switch(session, name)
            wanted = (await generations.get(session, name, to)).id if to else None
        if opened and opened.kind == "rollback" and wanted in (None, opened.to_generation):
            return opened
        if opened:
            await settle(db, target, name, number=opened.number, give_up=True, patience=ROLLBACK_PATIENCE)
        await _check_alias(db, target, name)
        try:
            async with db.writing() as session:
                catalogue = await catalogues.locked(session, name)
                here, there = await _route(session, name, wanted, stale)
                return await open_rollback(session, catalogue, there, here, who)
        except SwitchSpent:
            continue
    raise Conflict("Others are switching this catalogue now: look where it is and ask again.", code="switch_spent")


async def _route(session: WriteSession, name: str, to: str | None, stale: bool) -> tuple[Generation, Generation]:
    """From where to where. Raises `Conflict`."""
    here = await generations.live(session, name)
    there = await generations.get(session, name, to) if to else await generations.before(session, name)
    if here is None or there is None:
        raise Conflict("There is no generation behind the live one to go back to.", code="nothing_behind")
    if there.id == here.id:
        raise Conflict(f"{there.index} is live already.", code="already_live")
    if there.state != "retired":
        raise Conflict(
            f"{there.index} is {there.state}: only to a retired generation can one go back.", code="not_kept"
        )
    if there.stale_since and not stale:
        since = iso(there.stale_since)
        raise Conflict(
            f"{there.index} has missed events since {since}: say `stale: true` to go back to it all the same.",
            code="stale",
            stale_since=since,
        )
    return here, there


async def _check_alias(db: Database, target: Engine, name: str) -> None:
    stand = await look(db, target, name)
    if stand.lost:
        raise Conflict(
            f"Index {stand.lost.index}, live as far as we know, is gone from the engine: order a run, it begins anew.",
            code="live_lost",
        )
    if wrong := findings(stand):
        raise Conflict(wrong[0]["detail"], code=wrong[0]["code"])


async def alias_findings(db: Database, target: Reader, name: str) -> list[Finding]:
    """What would make a switch of catalogue *name* fail now; asked before a run and at its beginning."""
    return findings(await look(db, target, name))


async def why_burnt(db: Database, target: Reader, switch: Switch) -> SwitchSpent | RunCanceled:
    """Why a promotion did not move, for the person who reads its run."""
    async with db.reading() as session:
        catalogue = await catalogues.get(session, switch.catalogue)
        run = await session.get(Run, switch.run)
    if run and run.cancel_requested:
        return RunCanceled(f"Canceled by {run.canceled_by}.")
    stand = await look(db, target, switch.catalogue)
    if catalogue.held or stand.open or stand.number > switch.number + 1:
        return overtaken()
    for wrong in findings(stand):
        return SwitchSpent(f"{wrong['detail']} Nothing moved.", code=wrong["code"])
    return moved_away(stand.alias)


def moved_away(alias: str) -> SwitchSpent:
    """What a run hears that finds the alias elsewhere than when it began."""
    return SwitchSpent(
        f"Somebody moved alias {alias} while this run was building: nothing moved. Order a new run when it is right.",
        code="alias_moved",
    )
