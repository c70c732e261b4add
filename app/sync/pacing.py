"""Keeps below an endpoint's requests and tokens per minute, as its rate-limit headers teach them.

An answer may carry `x-ratelimit-limit-*`, `-remaining-*` and `-reset-*` (the time until the bucket is full again) for
requests and for tokens. From them each bucket knows its size, its level and how fast it fills. Before a request both
are drawn from; what is not there is waited for. Nothing is known before the first answer, and of an endpoint without
such headers ever: then nothing waits.
"""

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import anyio

LONGEST = 60.0
"""No wait is longer than the minute that the limits speak of; then the endpoint is asked again."""

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str | None) -> float | None:
    """A duration as headers write it (`20ms`, `1s`, `6m0s`, `1.5`), in seconds; None for anything else."""
    text = (text or "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text):
        return float(text)
    if not re.fullmatch(r"(\d{1,9}(\.\d{1,9})?(ms|s|m|h|d))+", text):
        return None
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m|h|d)", text))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """How long the endpoint asks to be left alone, in seconds: `retry-after-ms`, or `retry-after` in either form."""
    millis = seconds(headers.get("retry-after-ms"))
    if millis is not None:
        return millis / 1000
    text = headers.get("retry-after")
    plain = seconds(text)
    if plain is not None or not text:
        return plain
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


class Bucket:
    """A level that fills by itself and is drawn from; None while nothing is known."""

    def __init__(self) -> None:
        self.size: float | None = None
        self.level = self.rate = self.at = 0.0

    def learn(self, limit: float | None, remaining: float | None, reset: float | None, now: float) -> None:
        """What an answer said. Draws that it does not know of yet keep the level below what it says."""
        if limit is None or remaining is None or limit <= 0:
            return
        used = limit - remaining
        self.rate = used / reset if reset and used > 0 else limit / 60
        self.level = remaining if self.size is None else min(self.filled(now), remaining)
        self.size, self.at = limit, now

    def filled(self, now: float) -> float:
        """The level at *now*."""
        assert self.size is not None
        return min(self.size, self.level + (now - self.at) * self.rate)

    def draw(self, amount: float, now: float) -> float:
        """Take *amount*; how many seconds to wait before using it. The level may fall below nothing: others queue."""
        if self.size is None:
            return 0.0
        self.level, self.at = self.filled(now) - min(amount, self.size), now
        return max(0.0, -self.level / self.rate)


class Pace:
    """The two buckets of one endpoint, shared by all who ask it."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._buckets = {"requests": Bucket(), "tokens": Bucket()}
        self._quiet_until = 0.0

    async def turn(self, tokens: int) -> None:
        """Wait until one request of *tokens* tokens may go out."""
        now = self._clock()
        full = max(self._buckets["requests"].draw(1, now), self._buckets["tokens"].draw(tokens, now))
        wait = min(LONGEST, max(full, self._quiet_until - now))
        if wait > 0:
            await self._sleep(wait)

    def learn(self, headers: Mapping[str, str]) -> None:
        """Take in what an answer's headers say."""
        for kind, bucket in self._buckets.items():
            limit, remaining, reset = (
                seconds(headers.get(f"x-ratelimit-{word}-{kind}")) for word in ("limit", "remaining", "reset")
            )
            bucket.learn(limit, remaining, reset, self._clock())

    def pause(self, wait: float) -> None:
        """Nobody asks for *wait* seconds: the endpoint wants to be left alone."""
        self._quiet_until = max(self._quiet_until, self._clock() + min(wait, LONGEST))
