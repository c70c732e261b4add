"""Claims: some entries of a catalogue in the hands of one applier, until they are settled.

1. *Claim*, one transaction under the catalogue's lock: due entries (none whose product is being applied already), a
   lease, the next number of the catalogue, its epoch, the generations it feeds. The number is taken before the source
   is read, so that an older read cannot overwrite a newer one; no two claims have the same, so it is the fence, too.
2. The applier reads, writes to every fed generation, and comes back with an outcome for each entry.
3. *Settle*, one transaction under the catalogue's lock: only where the number is still that of the entries, and the
   epoch the one the claim saw. A generation that joined, left or was sealed meanwhile has made it another: the claim
   takes a new number and does it all again, which costs no attempt.

- A lease is not renewed: an applier gives up, by its own clock, before it ends (`app.applier`). What ran out is taken
  back with one life less; entries that lost lives are claimed in ever smaller company, so that one that kills its
  worker ends up alone, and is given up after `LIVES`.
- The priority lane goes first; a `SHARE` of a claim is the other lane's as long as something waits there.
- Whoever claims twice as fast waits for nobody: claims of one catalogue follow each other, their work does not.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import exists, update
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from app import catalogues, generations, telemetry
from app.db import ReadSession, WriteSession, clock_ms
from app.dialects import now_ms
from app.errors import LeaseLost
from app.events import BLANK, DELETED, TABLE, put
from app.models import Catalogue, Event, Generation, Installation
from app.notices import ARRIVED
from app.sync.apply import ABSENT, Done, Failed, Later, Outcome

AT_ONCE = 200
"""Entries of one claim."""

SHARE = 5
"""One entry in so many is the normal lane's, however much the priority lane holds."""

LIVES, SHRINKS = 5, 4
"""An entry is given up after so many lives; who lost n of them is claimed with AT_ONCE / SHRINKS ** n at most."""

HOUR = 3_600_000

LOST = "The lease of these events has run out: whoever took them back applies them."

log = structlog.get_logger("reshelve.claims")

_QUIET = {"synchronize_session": False}


@dataclass(frozen=True)
class Claim:
    """Entries in one applier's hands. `number` is version and fence, `epoch` that of `fed` when it was taken."""

    catalogue: Catalogue
    number: int
    epoch: int
    now: int
    entries: Sequence[Event]
    fed: Sequence[Generation]


# --- claim -----------------------------------------------------------------------------------------------------------


async def due(session: ReadSession) -> Sequence[str]:
    """The catalogues in which something can be claimed now; none while the service is read-only."""
    if (await session.exec(select(Installation.read_only))).one():
        return ()
    entry = select(Event.seq).where(col(Event.catalogue) == col(Catalogue.name))
    waits = entry.where(col(Event.status) == "pending", col(Event.due_at) <= now_ms())
    stuck = entry.where(col(Event.status) == "processing", col(Event.lease_until) <= now_ms())
    query = select(Catalogue.name).where(col(Catalogue.paused).is_(False), exists(waits) | exists(stuck))
    return (await session.exec(query.order_by(col(Catalogue.name)))).all()


async def claim(session: WriteSession, name: str, worker: str, seconds: float, most: int = AT_ONCE) -> Claim | None:
    """Due entries of a catalogue, held for *seconds*; None when there is nothing to do (any more)."""
    catalogue = await catalogues.locked(session, name)
    if catalogue.paused or (await session.exec(select(Installation.read_only))).one():
        return None
    now = await clock_ms(session)
    await _take_back(session, name, now)
    entries = together(await _due(session, name, now, most), most)
    if not entries:
        return None
    catalogue.number = max(catalogue.number + 1, now)
    held = {"status": "processing", "number": catalogue.number, "lease_until": now + int(seconds * 1000)}
    mine = col(Event.seq).in_([one.seq for one in entries])
    await session.exec(update(Event).where(mine).values(**held, worker=worker), execution_options=_QUIET)
    fed = await generations.fed(session, name)
    return Claim(catalogue, catalogue.number, catalogue.epoch, now, entries, fed)


async def _due(session: WriteSession, name: str, now: int, most: int) -> list[Event]:
    """What may be claimed of both lanes, the priority lane first and the oldest first in each."""
    other = aliased(Event)
    busy = exists().where(
        col(other.catalogue) == name, col(other.product_id) == col(Event.product_id), col(other.status) == "processing"
    )
    lanes = []
    for lane in ("priority", "normal"):
        query = select(Event).where(
            col(Event.catalogue) == name, col(Event.status) == "pending", col(Event.lane) == lane,
            col(Event.due_at) <= now, ~busy,
        )  # fmt: skip
        query = query.order_by(col(Event.due_at), col(Event.seq)).limit(most)
        lanes.append((await session.exec(query.with_for_update(skip_locked=True, of=Event))).all())
    priority, normal = lanes
    share = min(len(normal), max(most // SHARE, most - len(priority)))
    return [*priority[: most - share], *normal[:share]]


def together(entries: Sequence[Event], most: int) -> Sequence[Event]:
    """Those of *entries* that are claimed together: all that lost as many lives as the one that is due longest."""
    if not entries:
        return ()
    lost = _lost(min(entries, key=lambda one: one.due_at))
    return [one for one in entries if _lost(one) == lost][: max(1, most // SHRINKS**lost)]


def _lost(entry: Event) -> int:
    """Lives, or tries that came to nothing while everything it needs was well."""
    return max(entry.lives, entry.attempts // 2)


async def _take_back(session: WriteSession, name: str, now: int) -> None:
    """What an applier held beyond its lease: one life less each, and given up without any left."""
    query = select(Event).where(
        col(Event.catalogue) == name, col(Event.status) == "processing", col(Event.lease_until) <= now
    )
    stuck = (await session.exec(query.with_for_update())).all()
    for one in stuck:
        one.lives += 1
    await session.flush()
    detail = f"Whoever applied it did not come back, {LIVES} times: see the service's log, then replay it."
    ended: list[tuple[Event, Done | Failed]]
    ended = [(one, Failed("kills_worker", detail)) for one in stuck if one.lives >= LIVES]
    back = [(one, Later("lease_ran_out")) for one in stuck if one.lives < LIVES]
    await _end(session, ended, now)
    await _give_back(session, back, now, now)
    outcomes: dict[str, Outcome] = {one.product_id: given for one, given in back}
    telemetry.events_settled(name, {}, outcomes | {one.product_id: given for one, given in ended})


# --- settle ----------------------------------------------------------------------------------------------------------


async def settle(
    session: WriteSession, claim: Claim, outcomes: Mapping[str, Outcome], highest: int = 0
) -> Claim | None:
    """Write down what became of a claim's entries; a new claim of the same when it all must be done again.

    *outcomes* are by product; *highest* is the largest version met in the fed generations. One above the catalogue's
    counter was not given out by this database, which has lost numbers then: the counter is raised, and the entries
    are read again. Raises `LeaseLost` when the entries are somebody else's by now.
    """
    name = claim.catalogue.name
    catalogue = await catalogues.locked(session, name)
    rows = await _mine(session, claim)
    now = await clock_ms(session)
    if highest > catalogue.number:
        log.error("numbers_lost", catalogue=name, number=catalogue.number, found=highest)
    if catalogue.epoch != claim.epoch or highest > catalogue.number:
        return await _again(session, claim, catalogue, rows, max(highest, now))
    back: list[tuple[Event, Later]] = []
    ended: list[tuple[Event, Done | Failed]] = []
    for row in rows:
        outcome = outcomes[row.product_id]
        if isinstance(outcome, Later):
            back.append((row, outcome))
        else:
            ended.append((row, outcome))
    await _end(session, ended, now)
    await put(session, [_second(row, now) for row, _ in ended if row.not_before > claim.now])
    await _give_back(session, back, now, claim.now)
    return None


async def _end(session: WriteSession, ended: Sequence[tuple[Event, Done | Failed]], now: int) -> None:
    """Entries that are over, one statement for all that ended alike: nearly all of them do."""
    alike: dict[tuple[str, bool, str | None, str | None], list[int | None]] = {}
    for row, outcome in ended:
        alike.setdefault(_end_of(row, outcome), []).append(row.seq)
    for (status, deleted, code, detail), seqs in alike.items():
        said = {"status": status, "deleted": deleted, "reason_code": code, "detail": detail}
        over = update(Event).where(col(Event.seq).in_(seqs)).values(**said, done_at=now, lease_until=None, worker=None)
        await session.exec(over, execution_options=_QUIET)


def _end_of(row: Event, outcome: Done | Failed) -> tuple[str, bool, str | None, str | None]:
    """Status, whether it is deleted, code and detail."""
    if isinstance(outcome, Failed):
        return "failed", row.deleted, outcome.code, outcome.detail[:500]
    was_counted = outcome.deleted and row.deleted  # permitted, and deleted by an earlier try
    return "done", outcome.deleted, None if was_counted else outcome.code, None


def _second(row: Event, now: int) -> dict[str, Any]:
    """The look that is due when the last of the notices that were merged can be read."""
    same = {"catalogue": row.catalogue, "product_id": row.product_id, "action": row.action, "lane": row.lane}
    return {**BLANK, **same, "received_at": now, "due_at": row.not_before, "not_before": row.not_before}


async def release(session: WriteSession, claim: Claim, later: Later) -> None:
    """Give a claim back as a whole. Raises `LeaseLost` when its entries are somebody else's by now."""
    await catalogues.locked(session, claim.catalogue.name)
    rows = await _mine(session, claim)
    await _give_back(session, [(row, later) for row in rows], await clock_ms(session), claim.now)


async def _mine(session: WriteSession, claim: Claim) -> Sequence[Event]:
    query = select(Event).where(
        col(Event.catalogue) == claim.catalogue.name,
        col(Event.status) == "processing",
        col(Event.number) == claim.number,
        col(Event.lease_until) > now_ms(),
    )
    rows = (await session.exec(query.with_for_update(), execution_options={"populate_existing": True})).all()
    if len(rows) != len(claim.entries):
        raise LeaseLost(LOST)
    return rows


async def _again(session: WriteSession, claim: Claim, catalogue: Catalogue, rows: Sequence[Event], floor: int) -> Claim:
    """The same entries under a new number, for the generations that are fed now."""
    catalogue.number = max(catalogue.number, floor) + 1
    mine = update(Event).where(col(Event.seq).in_([row.seq for row in rows]))
    await session.exec(mine.values(number=catalogue.number), execution_options=_QUIET)
    fed = await generations.fed(session, catalogue.name)
    return Claim(catalogue, catalogue.number, catalogue.epoch, claim.now, rows, fed)


async def _give_back(session: WriteSession, back: Sequence[tuple[Event, Later]], now: int, seen: int) -> None:
    """Entries that wait again, each under its `seq`; merged where something newer waits for the product already.

    *seen* is when the source was asked: a product that is missing was so since then at the latest.
    """
    if not back:
        return
    entries = [_waiting(row, later, now, seen) for row, later in back]
    for row, _ in back:
        session.expunge(row)
    gone = TABLE.delete().where(TABLE.c.seq.in_([entry["seq"] for entry in entries]))
    await (await session.connection()).execute(gone)
    await put(session, entries)
    session.ring(ARRIVED)


def _waiting(row: Event, later: Later, now: int, seen: int) -> dict[str, Any]:
    since = row.missing_since if later.missing is None else (row.missing_since or seen) if later.missing else None
    return {
        **row.model_dump(), "status": "pending", "lease_until": None, "worker": None,
        "deleted": row.deleted and later.missing is not False,
        "due_at": now + int(later.seconds * 1000), "reason_code": later.code, "detail": later.detail[:500] or None,
        "attempts": row.attempts + later.counts, "looks": row.looks + later.looked, "missing_since": since,
    }  # fmt: skip


# --- the guard over deletions ----------------------------------------------------------------------------------------


async def permit(session: WriteSession, claim: Claim, ids: Collection[str], most: int) -> set[str]:
    """Those of *ids*, products of a claim that readers have, whose deletion keeps this hour's within *most*.

    What is permitted counts from now on, also while it is being applied or goes back half done, so that appliers
    together keep to it. Raises `LeaseLost` when the entries are somebody else's by now.
    """
    await catalogues.locked(session, claim.catalogue.name)
    hour = claim.now - HOUR
    counted = select(Event.product_id).where(
        col(Event.catalogue) == claim.catalogue.name, DELETED, col(Event.number) > hour,
        col(Event.reason_code).is_distinct_from(ABSENT),
    )  # fmt: skip
    gone = set((await session.exec(counted.distinct())).all())
    free = max(most - len(gone), 0)
    again = [one for one in ids if one in gone]
    allowed = {*again, *[one for one in ids if one not in gone][:free]}
    mine = update(Event).where(
        col(Event.catalogue) == claim.catalogue.name, col(Event.status) == "processing",
        col(Event.number) == claim.number, col(Event.lease_until) > now_ms(), col(Event.product_id).in_(allowed),
    )  # fmt: skip
    marked = await session.exec(mine.values(deleted=True), execution_options=_QUIET)
    if marked.rowcount != len(allowed):
        raise LeaseLost(LOST)
    return allowed
