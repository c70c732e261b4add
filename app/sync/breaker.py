"""A circuit breaker: while a dependency is out, work waits for it instead of failing, and one call at a time tries.

        closed ──THRESHOLD failures in a row──▶ open ──wait──▶ one probe ──success──▶ closed
                                                 ▲                └──failure──▶ (waits longer)
                                                 └────────────────┘

Whoever wants to call enters first, and says afterwards how it went. A call that was cancelled, or that never came to
ask the dependency, says nothing of it: a probe of that kind leaves its place to the next one. Nor does an answer to a
call from before it opened: while it is open the probe decides, and afterwards what was called since.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

THRESHOLD = 3
"""Failures in a row that open it."""

FIRST, LONGEST = 1.0, 30.0
"""Seconds until the first probe, doubled with each that fails, and the most they become."""


@dataclass
class Breaker:
    """One dependency's; clock and dice are for the tests to set. `opened` counts how often it opened."""

    name: str
    clock: Callable[[], float] = time.monotonic
    dice: Callable[[], float] = random.random
    opened: int = 0
    _failures: int = 0
    _waits: int = 0
    _again_at: float | None = None
    _probe: object | None = field(default=None, repr=False)

    @property
    def is_open(self) -> bool:
        """Whether calls are held back."""
        return self._again_at is not None

    @property
    def admits(self) -> bool:
        """Whether somebody may enter now."""
        return self._again_at is None or (self._probe is None and self.clock() >= self._again_at)

    def enter(self) -> "Call | None":
        """A call that may go out; None while it must wait."""
        if not self.admits:
            return None
        call = Call(self, self.opened)
        if self.is_open:
            self._probe = call
        return call

    def _succeeded(self) -> None:
        self._failures, self._waits, self._again_at, self._probe = 0, 0, None, None

    def _failed(self) -> None:
        self._failures += 1
        if self.is_open or self._failures >= THRESHOLD:
            self.opened += not self.is_open
            wait = min(LONGEST, FIRST * 2**self._waits)
            self._waits = min(self._waits + 1, 16)
            self._again_at, self._probe = self.clock() + wait * (0.5 + self.dice() / 2), None

    def _left(self, call: "Call") -> None:
        if self._probe is call:
            self._probe = None


@dataclass(eq=False)
class Call:
    """One call that was let in, after *era* openings; the first word on how it went counts."""

    breaker: Breaker
    era: int
    _over: bool = False

    @property
    def is_probe(self) -> bool:
        """Whether it is the one that tries."""
        return self.breaker._probe is self

    def succeeded(self) -> None:
        """The dependency answered."""
        if self._end() and self.era == self.breaker.opened:
            self.breaker._succeeded()

    def failed(self) -> None:
        """It did not."""
        if self._end() and self.era == self.breaker.opened:
            self.breaker._failed()

    def left(self) -> None:
        """Nothing was learnt: cancelled, or never asked."""
        if self._end():
            self.breaker._left(self)

    def _end(self) -> bool:
        was, self._over = self._over, True
        return not was
