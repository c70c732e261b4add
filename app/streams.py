"""Progress as Server-Sent Events: stored lines in order, without gap or repeat, until the story ends.

    connect ──▶ after the last line of an ended run? ──▶ 204, the browser stops asking
       │
       ├─ the id is one we do not have any more (or never had) ──▶ `event: resync`, the full state, no id
       │
       └─▶ lines (`id:` their number) ─▶ wait ─▶ lines ─▶ ... ─┬─ the run has ended ──▶ `event: end`, the run
                                                               ├─ this process stops ─▶ `event: bye`
                                                               └─ the database is out ▶ `event: bye`

A reader takes the bell's event *before* it reads and waits on it after, so no line is missed; lines that other
processes write are seen at the next poll. The state of a run is read before its lines: a run that is seen ended has all
its lines stored. After `bye` a browser reconnects by itself with the id it saw last, to whichever process answers then.

Only stored lines carry an id. Heartbeats and the rest do not, so that none of them can move a reader's place. Nothing
is kept for a slow reader but the page of lines it is taking; one that takes nothing for `SEND_SECONDS` is let go.
"""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

import anyio
import orjson
import structlog
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from app import catalogues, overview, progress, runs, telemetry
from app.db import Database, ReadSession, heard
from app.errors import Invalid, NotFound, Problem, TooMuch
from app.models import Progress

STREAMS_PER_CALLER = 50
"""Open streams of one token (or of everybody on this machine, without tokens)."""

HEARTBEAT_SECONDS = 10
SEND_SECONDS = 30.0
BYE_SECONDS = 5.0
"""How long streams get to say good-bye before they are cut."""

log = structlog.get_logger("reshelve.streams")


class Which(TypedDict, total=False):
    """How `progress` selects lines."""

    run: str
    catalogue: str


class Subject(Protocol):
    """Whose story is told."""

    @property
    def topic(self) -> str:
        """What the bell rings for it."""

    @property
    def which(self) -> Which:
        """How `progress` selects its lines."""

    async def ended(self, session: ReadSession) -> bool:
        """Whether no line will follow those that are stored. Raises `NotFound`."""

    async def state(self, session: ReadSession) -> dict[str, Any]:
        """The full state. Raises `NotFound`."""


@dataclass(frozen=True)
class RunStory:
    """The lines of one run."""

    id: str

    @property
    def topic(self) -> str:
        """A run's topic is its id."""
        return self.id

    @property
    def which(self) -> Which:
        """Its lines by `seq`."""
        return {"run": self.id}

    async def ended(self, session: ReadSession) -> bool:
        """When it is neither queued nor running."""
        return (await runs.get(session, self.id)).state not in ("queued", "running")

    async def state(self, session: ReadSession) -> dict[str, Any]:
        """The run."""
        return runs.view(await runs.get(session, self.id))


@dataclass(frozen=True)
class CatalogueStory:
    """The lines of one catalogue: of all its runs, rollbacks, releases. It never ends."""

    name: str

    @property
    def topic(self) -> str:
        """As `progress` names it."""
        return progress.topic(self.name)

    @property
    def which(self) -> Which:
        """Its lines by `number`."""
        return {"catalogue": self.name}

    async def ended(self, session: ReadSession) -> bool:
        """Never, while it is there."""
        await catalogues.get(session, self.name)
        return False

    async def state(self, session: ReadSession) -> dict[str, Any]:
        """The catalogue with its live generation and last run."""
        return await overview.of(session, await catalogues.get(session, self.name))


# --- the answer ------------------------------------------------------------------------------------------------------


async def answer(
    db: Database, subject: Subject, after: int, draining: anyio.Event, request_id: str | None = None
) -> Response:
    """The stream of *subject* beyond line *after*, or 204 when there is nothing to come. Raises `NotFound`.

    *draining* is set when the process begins to stop.
    """
    async with db.reading() as session:
        ended = await subject.ended(session)
        last = await progress.last(session, **subject.which)
    if ended and 0 < after >= (last or 0):
        return Response(status_code=204)
    return EventSourceResponse(
        told(db, subject, after, draining, request_id),
        ping=HEARTBEAT_SECONDS,
        ping_message_factory=lambda: event({}, "heartbeat"),
        send_timeout=SEND_SECONDS,
        shutdown_event=draining,
        shutdown_grace_period=BYE_SECONDS,
        sep="\n",
    )


def event(data: Any, name: str | None = None, number: int | None = None) -> ServerSentEvent:
    """One event; lines have a number and no name, so that a browser's `onmessage` gets them."""
    text = orjson.dumps(data).decode()
    return ServerSentEvent(text, event=name, id=None if number is None else str(number), sep="\n")


async def told(
    db: Database, subject: Subject, after: int, draining: anyio.Event, request_id: str | None = None
) -> AsyncGenerator[ServerSentEvent, None]:
    """Everything a reader gets, in order. Ends by itself."""
    yield ServerSentEvent(comment=f"request {request_id}", sep="\n")
    try:
        async with aclosing(_story(db, subject, after, draining)) as story:
            async for one in story:
                yield one
    except NotFound:
        yield event({"gone": True}, "end")
    except Problem as problem:
        log.warning("stream_broke_off", code=problem.code, detail=problem.detail)
        yield event({"reason": problem.code, "request_id": request_id}, "bye")


async def _story(
    db: Database, subject: Subject, after: int, draining: anyio.Event
) -> AsyncGenerator[ServerSentEvent, None]:
    if (missed := await _resync(db, subject, after)) is not None:
        state, after = missed
        yield event(state, "resync")
    while not draining.is_set():
        rung = db.bell.listen(subject.topic)
        ended, lines = await _read(db, subject, after)
        for line in lines:
            after = _number(line, subject)
            yield event(progress.view(line, of_catalogue="catalogue" in subject.which), number=after)
        if len(lines) == progress.PAGE:
            continue
        if ended:
            yield event(await _state(db, subject), "end")
            return
        await heard(rung, progress.POLL_SECONDS)
    yield event({"reason": "draining"}, "bye")


async def _resync(db: Database, subject: Subject, after: int) -> tuple[dict[str, Any], int] | None:
    """The full state and the line it stands at, when the lines beyond *after* are not all there any more."""
    async with db.reading() as session:
        oldest = await progress.oldest(session, **subject.which)
        last = await progress.last(session, **subject.which) or 0
        if after <= last and (oldest is None or after >= oldest - 1):
            return None
        return await subject.state(session), last


async def _read(db: Database, subject: Subject, after: int) -> tuple[bool, Sequence[Progress]]:
    """Whether it has ended, *then* the lines: see above."""
    async with db.reading() as session:
        ended = await subject.ended(session)
        return ended, await progress.lines(session, after, **subject.which)


async def _state(db: Database, subject: Subject) -> dict[str, Any]:
    async with db.reading() as session:
        return await subject.state(session)


def _number(line: Progress, subject: Subject) -> int:
    return line.number if "catalogue" in subject.which or line.seq is None else line.seq


# --- where to begin --------------------------------------------------------------------------------------------------


def place(last_event_id: str | None, after: int | None) -> int:
    """The line a reader saw last; the header of a reconnect counts more than the address it began with."""
    if not last_event_id:
        return after or 0
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 19):
        wrong = {"where": "header.Last-Event-ID", "why": "is not the id of a line"}
        raise Invalid("Last-Event-ID must be the id of a line.", errors=[wrong])
    return int(last_event_id)


def further(found: Sequence[Progress], limit: int) -> str | None:
    """The `after` of the next page of a run's lines, while there may be more."""
    return str(found[-1].seq) if len(found) == limit else None


# --- how many at once ------------------------------------------------------------------------------------------------


class Places:
    """How many streams each caller has open in this process."""

    def __init__(self, most: int = STREAMS_PER_CALLER) -> None:
        self._open: Counter[str] = Counter()
        self.most = most

    @asynccontextmanager
    async def taken(self, who: str) -> AsyncIterator[None]:
        """Hold one place while the block lasts. Raises `TooMuch` when *who* has no more."""
        if self._open[who] >= self.most:
            why = f"{self.most} streams are open already: close one."
            raise TooMuch(why, code="too_many_streams", headers={"Retry-After": "5"})
        self._open[who] += 1
        telemetry.STREAMS.inc()
        try:
            yield
        finally:
            telemetry.STREAMS.dec()
            self._open[who] -= 1
