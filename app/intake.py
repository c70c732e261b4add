"""Intake: requests that come while another one is being written share the next transaction.

    a ──▶ writes alone ───▶ answered
    b ──▶ waits its turn ─┬▶ writes b, c, d ──▶ answered
    c ──▶ waits its turn ─┤
    d ──▶ waits its turn ─┘

A commit costs a wait for the disk, whatever it holds. So each request stands in the line of its catalogue; whoever has
the turn writes for all who stand there, up to `MOST` events, and each is answered once that is committed. One that is
cancelled leaves the line; when it was just writing, the others stand there again and the next one writes for them:
what was committed already does nothing twice that matters (an `id` is known, a notice merges).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import structlog
from sqlalchemy import Table, func
from sqlmodel import SQLModel, col, select

from app import catalogues
from app.db import Database, ReadSession, WriteSession
from app.dialects import now_ms, upsert
from app.errors import Problem, TooMuch, Unavailable
from app.events import BLANK, put
from app.models import Catalogue, Event
from app.notices import ARRIVED, MOST, Notice

TRIES = 3
"""How often accepting is tried: two that insert the same products in the same moment may deadlock."""

Counts = dict[str, int]
"""`{"accepted", "coalesced", "duplicates"}` of one request."""

KEYS: Table = SQLModel.metadata.tables["event_key"]

log = structlog.get_logger("reshelve.intake")


# --- stand in line ---------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Request:
    """What one sender told, and what is answered to it."""

    notices: Sequence[Notice]
    answer: Counts | Problem | None = None


@dataclass(eq=False)
class Line:
    """Those who wait for one catalogue, and whose turn it is to write."""

    waiting: list[Request] = field(default_factory=list)
    turn: anyio.Lock = field(default_factory=anyio.Lock)

    def group(self) -> list[Request]:
        """Those at the head, taken out of the line: one at least, and more while they have up to `MOST` events."""
        count = events = 0
        for one in self.waiting:
            events += len(one.notices)
            if count and events > MOST:
                break
            count += 1
        group, self.waiting[:count] = self.waiting[:count], []
        return group


class Intake:
    """Takes the events of all requests of this process."""

    def __init__(self, db: Database, most: int) -> None:
        self.db, self.room = db, Room(most)
        self._lines: dict[str, Line] = {}

    async def take(self, name: str, notices: Sequence[Notice]) -> Counts:
        """As `take`, and committed with what others sent in the same moment."""
        line, request = self._lines.setdefault(name, Line()), Request(notices)
        line.waiting.append(request)
        try:
            async with line.turn:
                while request.answer is None:
                    await self._write(name, line)
        finally:
            if request in line.waiting:
                line.waiting.remove(request)
            if not line.waiting:
                self._lines.pop(name, None)
        if isinstance(request.answer, Problem):
            raise request.answer
        return request.answer

    async def _write(self, name: str, line: Line) -> None:
        group = line.group()
        try:
            answers = await take_all(self.db, name, [one.notices for one in group], self.room)
        except Problem as problem:
            problem.headers.update({"Retry-After": "5"} if problem.transient else {})
            answers = [problem] * len(group)
        except BaseException:
            line.waiting[:0] = group
            raise
        for one, answer in zip(group, answers, strict=True):
            one.answer = answer


# --- accept ----------------------------------------------------------------------------------------------------------


class Room:
    """How many entries wait, as this process knows it: counted once a second, and added to as they come."""

    def __init__(self, most: int, seconds: float = 1.0) -> None:
        self.most, self._seconds = most, seconds
        self._known: dict[str, tuple[float, int]] = {}

    async def refusal(self, session: ReadSession, name: str, count: int) -> TooMuch | None:
        """What to answer when *count* more are too many."""
        at, waiting = self._known.get(name, (0.0, 0))
        if time.monotonic() - at > self._seconds:
            at, waiting = time.monotonic(), await self._count(session, name)
            self._known[name] = (at, waiting)
        if waiting + count > self.most:
            detail = f"{waiting} events of {name} wait, at most {self.most} may (EVENTS_MOST): send these again later."
            return TooMuch(detail, code="outbox_full", headers={"Retry-After": "5"})
        self._known[name] = (at, waiting + count)
        return None

    async def _count(self, session: ReadSession, name: str) -> int:
        """Not further than it matters."""
        some = select(col(Event.seq)).where(col(Event.catalogue) == name, col(Event.status) == "pending")
        return (await session.exec(select(func.count()).select_from(some.limit(self.most + 1).subquery()))).one()


async def take(db: Database, name: str, notices: Sequence[Notice], room: Room) -> Counts:
    """The events of one request. Raises `NotFound`, `TooMuch(code="outbox_full")`, `Unavailable`."""
    (answer,) = await take_all(db, name, [notices], room)
    if isinstance(answer, Problem):
        raise answer
    return answer


async def take_all(
    db: Database, name: str, requests: Sequence[Sequence[Notice]], room: Room
) -> Sequence[Counts | Problem]:
    """`accept` in a transaction of its own, again where two of them stood in each other's way."""
    for _ in range(TRIES - 1):
        try:
            async with db.writing() as session:
                return await accept(session, name, requests, room)
        except Unavailable as problem:
            log.info("accept_again", catalogue=name, code=problem.code)
    async with db.writing() as session:
        return await accept(session, name, requests, room)


async def accept(
    session: WriteSession, name: str, requests: Sequence[Sequence[Notice]], room: Room
) -> Sequence[Counts | Problem]:
    """Into the outbox of a catalogue: `{"accepted", "coalesced", "duplicates"}` of each request, or why it was refused.

    Raises `NotFound`. Committed when the session is.
    """
    now = await _clock(session, name)
    refusals = [await room.refusal(session, name, len(notices)) for notices in requests]
    let_in = [() if refusal else notices for notices, refusal in zip(requests, refusals, strict=True)]
    fresh = await _fresh(session, name, let_in, now)
    new = await put(session, _entries(name, [one for notices in fresh for one in notices], now))
    session.ring(ARRIVED)
    counts = []
    for notices, unused in zip(let_in, fresh, strict=True):
        first = {one.product_id for one in unused} & new
        new -= first
        counts.append(_counts(len(unused), len(unused) - len(first), len(notices) - len(unused)))
    return [refusal or count for refusal, count in zip(refusals, counts, strict=True)]


def _counts(accepted: int, coalesced: int, duplicates: int) -> Counts:
    return {"accepted": accepted, "coalesced": coalesced, "duplicates": duplicates}


async def _clock(session: WriteSession, name: str) -> int:
    """The database's clock, if there is such a catalogue. Raises `NotFound`."""
    if (now := (await session.exec(select(now_ms()).where(col(Catalogue.name) == name))).first()) is None:
        raise catalogues.unknown(name)
    return now


async def _fresh(
    session: WriteSession, name: str, requests: Sequence[Sequence[Notice]], now: int
) -> Sequence[Sequence[Notice]]:
    """Of each request those events whose `id` is new, or that have none."""
    ids = sorted({one.id for notices in requests for one in notices if one.id is not None})
    unused = await _new_ids(session, name, ids, now) if ids else set()

    def is_fresh(one: Notice) -> bool:
        if one.id is None:
            return True
        was_unused = one.id in unused
        unused.discard(one.id)
        return was_unused

    return [[one for one in notices if is_fresh(one)] for notices in requests]


async def _new_ids(session: WriteSession, name: str, ids: Sequence[str], now: int) -> set[str]:
    insert = upsert(session, KEYS).on_conflict_do_nothing().returning(KEYS.c.id)
    rows = await (await session.connection()).execute(
        insert, [{"catalogue": name, "id": one, "at": now} for one in ids]
    )
    return set(rows.scalars())


def _entries(name: str, notices: Sequence[Notice], now: int) -> Sequence[dict[str, Any]]:
    """One entry a product."""
    entries: dict[str, dict[str, Any]] = {}
    for one in notices:
        not_before = int(one.not_before.timestamp() * 1000) if one.not_before else 0
        due, lane = max(now, not_before), "priority" if one.priority or one.action == "delete" else "normal"
        known = entries.get(one.product_id)
        if known:
            due, not_before = min(due, known["due_at"]), max(not_before, known["not_before"])
            lane = "priority" if "priority" in (lane, known["lane"]) else "normal"
        entries[one.product_id] = {
            **BLANK, "catalogue": name, "product_id": one.product_id, "action": one.action, "lane": lane,
            "received_at": now, "due_at": due, "not_before": not_before,
        }  # fmt: skip
    return list(entries.values())
