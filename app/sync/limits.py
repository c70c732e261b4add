"""The limits that all runs of a process share, and the one layer that tries again.

`retrying` calls until the answer comes, and asks one question of an error: is it `transient`? Every other error leaves
at once. Before each new try it waits:

- a random time between nothing and a ceiling that doubles (full jitter), so that callers who failed together do not
  come back together;
- at least as long as the other side asked for (`retry_after` seconds, carried by the problem);
- until the budget has room: retries are at most a share of the requests of the last seconds, so that a side that is
  down is not also flooded.

A 429 says that the other side is alive, so it is no attempt; time counts always. Out of attempts or out of time, the
last error leaves as it came.
"""

import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import anyio

from app.config import Settings
from app.errors import EmbedderBusy, EngineBusy, Problem

T = TypeVar("T")

EVENTS_SHARE, EVENTS_SECONDS = 2, 5.0
"""Events have one place for so many of the runs', and try for so many seconds what may pass."""

BUSY = (EngineBusy, EmbedderBusy)
"""Answers of somebody who is alive and wants less."""


def ignore(error: Problem) -> None:
    """Nobody wants to know of retries."""


def is_transient(error: Problem) -> bool:
    """Whether another try is safe by the error's own word."""
    return error.transient


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long to try again; waits in seconds. Clock, sleep and dice are for the tests to set."""

    attempts: int = 8
    first: float = 0.5
    longest: float = 30.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    dice: Callable[[], float] = random.random

    def wait(self, tries: int, error: Problem) -> float:
        """Seconds to wait after the *tries*-th failure, not less than the other side asked for."""
        jitter = self.dice() * min(self.longest, self.first * 2.0 ** min(tries - 1, 16))
        asked = error.extra.get("retry_after")
        if isinstance(asked, int | float) and asked > 0:
            return max(jitter, asked + self.dice() * self.first)
        return jitter

    def allowed(self, error: Problem) -> int:
        """Attempts for this kind of error: a problem may carry a smaller number of its own."""
        own = error.extra.get("attempts")
        return min(self.attempts, own) if isinstance(own, int) else self.attempts


class Budget:
    """Retries of one dependency: at most *share* of its requests within *window* seconds, but always *floor*."""

    def __init__(
        self, share: float = 0.2, floor: int = 10, window: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._share, self._floor, self._window, self._clock = share, floor, window, clock
        self._requests: deque[float] = deque()
        self._retries: list[float] = []

    def sent(self) -> None:
        """A request goes out for the first time."""
        self._forget()
        self._requests.append(self._clock())

    def delay(self) -> float:
        """Seconds until there is room for a retry."""
        self._forget()
        excess = len(self._retries) - max(self._floor, int(self._share * len(self._requests)))
        if excess < 0:
            return 0.0
        return max(0.0, sorted(self._retries)[excess] + self._window - self._clock())

    def spend(self, wait: float) -> None:
        """A retry goes out after *wait* seconds."""
        self._retries.append(self._clock() + wait)

    def _forget(self) -> None:
        past = self._clock() - self._window
        while self._requests and self._requests[0] <= past:
            self._requests.popleft()
        self._retries = [moment for moment in self._retries if moment > past]


async def retrying(
    call: Callable[[], Awaitable[T]],
    *,
    deadline: float,
    on_retry: Callable[[Problem], None] = ignore,
    budget: Budget | None = None,
    patience: Patience | None = None,
    again: Callable[[Problem], bool] = is_transient,
) -> T:
    """The answer of *call*, tried *again* after transient errors; *deadline* in seconds from now.

    *on_retry* is told the error that each retry follows. A wait that would pass the deadline is not begun.
    """
    patience, budget = patience or Patience(), budget or Budget()
    end, tries, attempts = patience.clock() + deadline, 0, 0
    budget.sent()
    while True:
        try:
            return await call()
        except Problem as error:
            tries += 1
            attempts += not isinstance(error, BUSY)
            if not again(error) or attempts >= patience.allowed(error):
                raise
            wait = max(patience.wait(tries, error), budget.delay())
            if patience.clock() + wait > end:
                raise
            on_retry(error)
        budget.spend(wait)
        await patience.sleep(wait)


@dataclass(frozen=True)
class Limits:
    """Built once per process and passed down: how much may be under way at once, all runs together."""

    embedding: anyio.Semaphore
    bulk: anyio.Semaphore
    embedding_hands: int = 2
    bulk_hands: int = 2
    bulk_bytes: int = 5_000_000
    stall_deadline: float = 600.0
    patience: Patience = field(default_factory=Patience)
    embedding_budget: Budget = field(default_factory=Budget)
    bulk_budget: Budget = field(default_factory=Budget)

    @classmethod
    def of(cls, settings: Settings, patience: Patience | None = None) -> "Limits":
        """The limits that *settings* ask for."""
        patience = patience or Patience()
        return cls(
            embedding=anyio.Semaphore(settings.embedding_concurrency),
            bulk=anyio.Semaphore(settings.bulk_concurrency),
            embedding_hands=settings.embedding_concurrency,
            bulk_hands=settings.bulk_concurrency,
            bulk_bytes=settings.bulk_bytes,
            stall_deadline=settings.stall_deadline,
            patience=patience,
            embedding_budget=Budget(clock=patience.clock),
            bulk_budget=Budget(clock=patience.clock),
        )

    def for_events(self) -> "Limits":
        """The share that events have for themselves, beside what runs use: neither starves the other.

        An event goes back rather than waiting: it is tried again soon.
        """
        return replace(
            self,
            embedding=anyio.Semaphore(max(1, self.embedding_hands // EVENTS_SHARE)),
            bulk=anyio.Semaphore(max(1, self.bulk_hands // EVENTS_SHARE)),
            stall_deadline=EVENTS_SECONDS,
            patience=replace(self.patience, first=0.1, longest=2.0),
            embedding_budget=Budget(clock=self.patience.clock),
            bulk_budget=Budget(clock=self.patience.clock),
        )
