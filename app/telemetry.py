"""Figures for Prometheus, prefix `reshelve_`: what runs did, what they cost, when each catalogue last succeeded.

Counters belong to the process and grow while a run works: `observe` is given a run's figures as often as one likes and
adds what is new since the last time, `run_finished` adds the rest. Gauges that must be the same in every process are
asked of the database when Prometheus asks us. Labels come from closed sets, but for the names of catalogues, which
only an administrator makes; of those at most `CATALOGUES` are shown.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import anyio
import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from sqlmodel import col, func, select

from app.db import Database, ReadSession
from app.errors import Problem
from app.models import ACTIVE, Run
from app.sync.apply import UNCHANGED, WITHHELD, Done, Failed, Later, Outcome
from app.sync.ports import Embedder
from app.sync.words import Embedding, ModelStamp

__all__ = [
    "CONTENT_TYPE_LATEST",
    "CountedEmbedder",
    "EventFigures",
    "event_searchable",
    "events_settled",
    "exposition",
    "observe",
    "run_finished",
    "show_breakers",
    "show_events",
]

CATALOGUES = 500
SCRAPE_SECONDS = 3.0
"""How long the database may take to answer a scrape; then its gauges keep their last values."""

FRESH_BUCKETS = (0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 15, 30, 60, 300)

RUNS = Counter("reshelve_runs", "Runs that ended, by strategy and final state.", ["strategy", "state"])
ACTIVE_RUNS = Gauge("reshelve_active_runs", "Runs queued or running now, in all processes.", ["state"])
LAST_SUCCESS = Gauge("reshelve_last_success_timestamp_seconds", "When a catalogue's last run got ready.", ["catalogue"])
RUN_SECONDS = Histogram(
    "reshelve_run_seconds",
    "Seconds from start to end of a run.",
    ["strategy", "state"],
    buckets=(1, 5, 15, 60, 300, 900, 3600, 14400),
)
STAGE_SECONDS = Counter("reshelve_stage_seconds", "Seconds spent in a stage.", ["stage"])
STAGE_RETRIES = Counter("reshelve_retries", "Requests tried again, by stage.", ["stage"])
STAGE_ERRORS = Counter("reshelve_errors", "Errors met in a stage, by origin.", ["stage", "origin"])
DOCUMENTS = Counter("reshelve_documents", "Documents by what became of them.", ["outcome"])
BYTES = Counter("reshelve_loaded_bytes", "Bytes of bulk requests that the engine took.")
EMBEDDING_CALLS = Counter("reshelve_embedding_calls", "Calls of an embedder.", ["result"])
EMBEDDING_SECONDS = Histogram("reshelve_embedding_seconds", "Seconds of one call of an embedder.")
EMBEDDING_TEXTS = Counter("reshelve_embedding_texts", "Texts embedded.")
EMBEDDING_TOKENS = Counter("reshelve_embedding_tokens", "Tokens embedded, as the embedder counts them.")
EVENTS_DONE = Counter("reshelve_events_processed", "Events applied.", ["catalogue"])
EVENTS_FAILED = Counter("reshelve_events_failed", "Events that ended as failed, by reason.", ["catalogue", "reason"])
EVENT_RETRIES = Counter("reshelve_event_retries", "Events scheduled to be tried again.", ["catalogue", "reason"])
EVENTS = Gauge("reshelve_events", "Events in the outbox, by where they stand.", ["catalogue", "state"])
EVENTS_OLDEST = Gauge("reshelve_events_oldest_seconds", "Seconds since the oldest due event came.", ["catalogue"])
EVENTS_SATURATION = Gauge("reshelve_events_saturation", "Waiting events over EVENTS_MOST.", ["catalogue"])
EVENT_SEARCHABLE = Histogram(
    "reshelve_event_to_searchable_seconds",
    "Seconds from receiving an event to a search that finds what it told of; one event at a time is followed.",
    ["catalogue", "kind"],
    buckets=FRESH_BUCKETS,
)
EVENT_SECONDS = Histogram(
    "reshelve_event_seconds",
    "Seconds from receiving an event to having written it to every fed generation.",
    ["catalogue", "kind"],
    buckets=FRESH_BUCKETS,
)
BREAKERS = Gauge("reshelve_breaker_open", "1 while a dependency that is out holds events back.", ["dependency"])
STREAMS = Gauge("reshelve_sse_streams", "Open progress streams.")
DATABASE = Gauge("reshelve_database_up", "1 when the database answered the last scrape.")

OUTCOMES = ("read", "loaded", "embedded", "reused", "excluded", "rejected", "truncated", "added", "modified", "deleted")
STATES = ("pending", "due", "processing", "stuck", "failed", "withheld")
STAGES = ("planning", "filling", "sealing", "verifying", "promoting", "cleaning")

log = structlog.get_logger("reshelve.telemetry")

# --- runs ------------------------------------------------------------------------------------------------------------

_seen: dict[str, dict[tuple[str, ...], float]] = {}
"""What has been added for each run that this process works on."""


def observe(run_id: str, figures: Mapping[str, Any]) -> None:
    """Add what is new in *figures* (`{"counts", "stages"}` as a tally and a run show them) since the last call."""
    before = _seen.setdefault(run_id, {})
    for key, value in _flat(figures).items():
        if value > before.get(key, 0.0):
            _add(key, value - before.get(key, 0.0))
            before[key] = value


def _flat(figures: Mapping[str, Any]) -> dict[tuple[str, ...], float]:
    """Each figure under the name of its counter and labels."""
    counts = figures.get("counts") or {}
    flat: dict[tuple[str, ...], float] = {("documents", name): counts.get(name) or 0 for name in OUTCOMES}
    for stage in figures.get("stages") or ():
        name = stage["stage"]
        if name in STAGES:
            flat["seconds", name] = stage["seconds"]
            flat["retries", name] = stage["retries"]
            flat["bytes", name] = stage["bytes"]
            flat |= {("errors", name, origin): found for origin, found in stage["errors"].items()}
    return flat


def _add(key: tuple[str, ...], more: float) -> None:
    match key:
        case ("documents", outcome):
            DOCUMENTS.labels(outcome).inc(more)
        case ("seconds", stage):
            STAGE_SECONDS.labels(stage).inc(more)
        case ("retries", stage):
            STAGE_RETRIES.labels(stage).inc(more)
        case ("bytes", _):
            BYTES.inc(more)
        case ("errors", stage, origin):
            STAGE_ERRORS.labels(stage, origin).inc(more)


def run_finished(run: Run) -> None:
    """Count a run that has ended, with what it did since the last `observe`."""
    observe(run.id, {"counts": run.counts, "stages": run.stages})
    _seen.pop(run.id, None)
    RUNS.labels(run.strategy, run.state).inc()
    if run.started_at and run.finished_at:
        RUN_SECONDS.labels(run.strategy, run.state).observe((run.finished_at - run.started_at).total_seconds())


# --- events -----------------------------------------------------------------------------------------------------------


WAITING = frozenset({"missing", UNCHANGED, WITHHELD})
"""Codes of entries that are looked at again as a matter of course: nothing is in trouble."""


def events_settled(catalogue: str, ages: Mapping[str, float], outcomes: Mapping[str, Outcome]) -> None:
    """Count what became of a claim's entries; *ages* are seconds since each was received."""
    for product_id, outcome in outcomes.items():
        match outcome:
            case Done():
                EVENTS_DONE.labels(catalogue).inc()
                EVENT_SECONDS.labels(catalogue, "deletion" if outcome.deleted else "write").observe(ages[product_id])
            case Failed():
                EVENTS_FAILED.labels(catalogue, outcome.code).inc()
            case Later() if outcome.code not in WAITING:
                EVENT_RETRIES.labels(catalogue, outcome.code).inc()


def event_searchable(catalogue: str, kind: str, seconds: float) -> None:
    """An event that was followed is found by searches."""
    EVENT_SEARCHABLE.labels(catalogue, kind).observe(seconds)


class EventFigures:
    """What making vectors for events counts (`sync.vectors.Figures`)."""

    def timed(self, name: str) -> AbstractContextManager[Any]:  # noqa: ARG002 - the run's steps; events have none
        """Nothing is kept."""
        return nullcontext()

    def retried(self, step: str) -> Callable[[Problem], None]:
        """Count under the step."""

        def tell(problem: Problem) -> None:  # noqa: ARG001
            STAGE_RETRIES.labels(f"event_{step}").inc()

        return tell

    def embedded(self, count: int, tokens: int) -> None:
        """Counted by the embedder itself."""

    def add(self, **counts: int) -> None:
        """Only how many vectors were known."""
        DOCUMENTS.labels("reused").inc(counts.get("reused", 0))

    def left_out(self, rejects: Any) -> None:
        """They become outcomes of their events."""


# --- embedders -------------------------------------------------------------------------------------------------------


class CountedEmbedder:
    """An embedder whose calls are counted; otherwise the one it wraps."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner

    @property
    def stamp(self) -> ModelStamp:
        """The inner one's."""
        return self._inner.stamp

    async def ready(self) -> ModelStamp:
        """The inner one's."""
        return await self._inner.ready()

    def portions(self, texts: Sequence[str]) -> Sequence[Sequence[str]]:
        """The inner one's."""
        return self._inner.portions(texts)

    async def tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """The inner one's."""
        return await self._inner.tokens(texts)

    async def embed(self, texts: Sequence[str]) -> Embedding:
        """The inner one's, timed. What it raises is counted by its code (a closed set) and passed on."""
        began = time.monotonic()
        try:
            made = await self._inner.embed(texts)
        except Problem as problem:
            EMBEDDING_CALLS.labels(problem.code).inc()
            raise
        EMBEDDING_CALLS.labels("ok").inc()
        EMBEDDING_SECONDS.observe(time.monotonic() - began)
        EMBEDDING_TEXTS.inc(len(texts))
        EMBEDDING_TOKENS.inc(made.tokens)
        return made

    async def close(self) -> None:
        """The inner one's."""
        await self._inner.close()


# --- scrapes ----------------------------------------------------------------------------------------------------------


async def exposition(
    db: Database, http: CollectorRegistry, more: Callable[[ReadSession], Awaitable[None]] | None = None
) -> bytes:
    """All figures in Prometheus' text format; *http* holds those of the requests, and *more* is asked of the database,
    too. Never fails for the database."""
    try:
        with anyio.fail_after(SCRAPE_SECONDS):
            async with db.reading() as session:
                await _ask(session)
                if more is not None:
                    await more(session)
        DATABASE.set(1)
    except (Problem, TimeoutError):
        DATABASE.set(0)
    return generate_latest(REGISTRY) + generate_latest(http)


async def _ask(session: ReadSession) -> None:
    states = await session.exec(select(col(Run.state), func.count()).where(ACTIVE).group_by(col(Run.state)))
    found = dict(states.all())
    for state in ("queued", "running"):
        ACTIVE_RUNS.labels(state).set(found.get(state, 0))
    newest = select(col(Run.catalogue), func.max(col(Run.finished_at))).where(col(Run.state) == "ready")
    rows = await session.exec(newest.where(col(Run.dry_run).is_(False)).group_by(col(Run.catalogue)).limit(CATALOGUES))
    LAST_SUCCESS.clear()
    for catalogue, finished in rows.all():
        if finished is not None:
            LAST_SUCCESS.labels(catalogue).set(finished.timestamp())


def show_events(names: Sequence[str], backlogs: Mapping[str, Mapping[str, Any]], most: int) -> None:
    """How far events are behind in the catalogues *names* (`app.backlog.of_all`); at most *most* may wait in each.

    A catalogue without any shows zeros: what grows from nothing is seen to grow.
    """
    for gauge in (EVENTS, EVENTS_OLDEST, EVENTS_SATURATION):
        gauge.clear()
    for catalogue in names:
        figures = backlogs.get(catalogue, {})
        for state in STATES:
            EVENTS.labels(catalogue, state).set(figures.get(state, 0))
        EVENTS_OLDEST.labels(catalogue).set(figures.get("oldest_seconds") or 0)
        EVENTS_SATURATION.labels(catalogue).set(figures.get("pending", 0) / most)


def show_breakers(are_open: Mapping[str, bool]) -> None:
    """Which dependencies this process holds events back for."""
    BREAKERS.clear()
    for dependency, is_open in are_open.items():
        BREAKERS.labels(dependency).set(is_open)
