"""What a run has done so far: counts, and per stage and step seconds, documents, bytes, retries, errors by origin.

Kept in memory by the worker that holds the run, written to its row about once a second and at every stage's end. One
tally belongs to one run and one event loop; nothing here is shared.
"""

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from app.errors import EmbedderError, Problem
from app.sync.words import Batch, Page, Receipt

COUNTS = (
    "source", "read", "added", "modified", "deleted", "unchanged",
    "embedded", "reused", "loaded", "truncated", "excluded", "rejected",
)  # fmt: skip
"""The names of `counts` on a run; a strategy that does not find one out leaves it null."""

RATE_WINDOW = 10.0
"""Seconds over which the shown rate is measured."""


@dataclass(slots=True)
class Figures:
    """Figures of one stage or step."""

    seconds: float = 0.0
    documents: int = 0
    bytes: int = 0
    retries: int = 0
    errors: dict[str, int] = field(default_factory=lambda: {"engine": 0, "embedder": 0, "data": 0})

    def view(self) -> dict[str, Any]:
        """As the run shows it."""
        return {
            "seconds": round(self.seconds, 3),
            "documents": self.documents,
            "bytes": self.bytes,
            "retries": self.retries,
            "errors": dict(self.errors),
        }


@dataclass(slots=True)
class Tally:
    """The running figures of one run."""

    clock: Callable[[], float] = time.monotonic
    counts: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    stages: dict[str, Figures] = field(default_factory=dict)
    steps: dict[str, dict[str, Figures]] = field(default_factory=dict)
    moved_at: float = field(default_factory=time.monotonic)
    stage: str | None = None
    leaving: bool = False
    skipped: int = 0
    furthest: int = 0
    _since: float = 0.0
    _through: deque[tuple[float, int]] = field(default_factory=deque)

    def enter(self, stage: str) -> None:
        """*stage* begins, the one before it ends."""
        self._close()
        self.stage, self._since = stage, self.clock()
        self.stages.setdefault(stage, Figures())
        self.moved()

    def _close(self) -> None:
        if self.stage is not None:
            now = self.clock()
            self.stages[self.stage].seconds += now - self._since
            self._since = now

    def leave(self) -> None:
        """The run ends early and cleans up, in bounded time: its reason is known."""
        self.leaving = True

    def begin_again(self) -> None:
        """A draft was dropped and another one follows: what was spent stays, what was found is found anew."""
        self.leaving, self.skipped = False, 0
        self.counts = {name: self.counts[name] for name in ("embedded",) if name in self.counts}

    def reached(self, stage: str) -> bool:
        """Whether *stage* has begun."""
        return stage in self.stages

    def moved(self) -> None:
        """Something went on: the run is not stalled."""
        self.moved_at = self.clock()

    def still(self) -> float:
        """Seconds since something went on."""
        return self.clock() - self.moved_at

    def add(self, **counts: int) -> None:
        """Add to the run's counts."""
        for name, value in counts.items():
            self.counts[name] = self.counts.get(name, 0) + value
        self.moved()

    def step(self, name: str) -> Figures:
        """The figures of a step of the present stage."""
        return self.steps.setdefault(self.stage or "", {}).setdefault(name, Figures())

    @contextmanager
    def timed(self, name: str) -> Iterator[Figures]:
        """Seconds of work in a step, added up over all hands (so they may exceed the stage's own)."""
        figures, start = self.step(name), self.clock()
        try:
            yield figures
            self.moved()
        finally:
            figures.seconds += self.clock() - start

    def retried(self, step: str | None = None) -> Callable[[Problem], None]:
        """To be told of each retry, in the present stage and in its *step*."""

        def on_retry(error: Problem) -> None:
            origin = "embedder" if isinstance(error, EmbedderError) else "engine"
            for figures in (self.stages.setdefault(self.stage or "", Figures()), *([self.step(step)] if step else ())):
                figures.retries += 1
                figures.errors[origin] += 1

        return on_retry

    async def reading(self, pages: AsyncIterator[Page]) -> AsyncIterator[Page]:
        """The same pages, counted as they arrive; the seconds are those in which one was waited for."""
        while True:
            with self.timed("read") as figures:
                page = await anext(pages, None)
            if page is None:
                return
            figures.documents += len(page.hits)
            figures.bytes += page.size
            self.add(read=len(page.hits))
            yield page

    def prepared(self, batch: Batch) -> None:
        """A page became a batch."""
        figures = self.step("prepare")
        figures.documents += len(batch.documents)
        figures.bytes += sum(len(document.text) for document in batch.documents)
        self.left_out(batch.rejects)
        self.skipped += batch.unchanged
        self._through.append((self.clock(), batch.unchanged))
        self.add(truncated=sum(document.truncated for document in batch.documents))

    def left_out(self, rejects: Any) -> None:
        """Rejects were found, by rule or for cause."""
        by_rule = sum(reject.by == "rule" for reject in rejects)
        self.add(excluded=by_rule, rejected=len(rejects) - by_rule)
        for reject in rejects:
            if reject.by != "rule":
                self.stages[self.stage or ""].errors[reject.by] += 1

    def embedded(self, count: int, tokens: int) -> None:
        """Texts were embedded."""
        self.step("embed").documents += count
        self.tokens += tokens
        self.add(embedded=count)

    def loaded(self, receipt: Receipt) -> None:
        """The engine acknowledged some documents."""
        for figures in (self.step("load"), self.stages[self.stage or ""]):
            figures.documents += receipt.loaded
            figures.bytes += receipt.size
        self.left_out(receipt.rejects)
        self.add(loaded=receipt.loaded)
        self._through.append((self.clock(), receipt.loaded))

    def rate(self) -> float:
        """Documents a second that were loaded or found to be held as they are, over the last seconds."""
        now = self.clock()
        while self._through and self._through[0][0] < now - RATE_WINDOW:
            self._through.popleft()
        spent = self.stages[self.stage].seconds + now - self._since if self.stage else 0.0
        span = min(RATE_WINDOW, max(spent, 0.001))
        return sum(count for _, count in self._through) / span

    def view(self) -> Mapping[str, Any]:
        """`{"counts", "stages", "rate", "remaining", "documents", "of"}` as the run and its stream show them.

        *documents* are those that are through: loaded, left out, or held as they are; they reach *of* when the filling
        ends, and never go back, also where a draft is begun anew.
        """
        self._close()
        rate, of = self.rate() if self.stage == "filling" else 0.0, self.counts.get("source")
        through = self.skipped + sum(self.counts.get(name, 0) for name in ("loaded", "excluded", "rejected"))
        self.furthest = done = max(self.furthest, through if of is None else min(through, of))
        return {
            "counts": {name: self.counts.get(name) for name in COUNTS},
            "stages": [self._stage_view(stage, figures) for stage, figures in self.stages.items()],
            "tokens": self.tokens,
            "rate": round(rate, 1),
            "remaining": round(max(of - done, 0) / rate, 1) if rate and of is not None else None,
            "documents": done,
            "of": of,
        }

    def _stage_view(self, stage: str, figures: Figures) -> dict[str, Any]:
        steps = {name: step.view() for name, step in self.steps.get(stage, {}).items()}
        return {"stage": stage, **figures.view(), "steps": steps}
