"""The road from the shop to the outbox, as bad as it may be: late, out of order, twice, and interrupted.

What it promises is what a sender promises: a notice goes out after its change can be read, and is sent again, under the
same `id`, until somebody answered that it was accepted.
"""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import anyio

from app.db import heard
from tests.soak.journal import Journal, now_ms

Told = dict[str, Any]
"""A notice as JSON."""

Send = Callable[[Sequence[Told]], Awaitable[Mapping[str, int]]]
"""Gives notices to the outbox, and comes back when they are accepted."""

AT_ONCE = 25
"""Notices of one delivery, at most."""

LONGEST = 0.3
"""Seconds between two deliveries, at most."""

KEPT = 50
"""Notices that may be sent once more, long after they arrived."""


class Road:
    """Carries notices, driven by dice."""

    def __init__(self, send: Send, dice: random.Random, journal: Journal) -> None:
        self._send, self._dice, self._journal = send, dice, journal
        self._waiting: list[Told] = []
        self._arrived: list[Told] = []

    def tell(self, product_id: str, action: str = "upsert") -> None:
        """A product changed: somebody should know, soon."""
        dice, notice = self._dice, {"product_id": product_id, "action": action}
        if dice.random() < 0.7:
            notice["id"] = uuid4().hex
        if dice.random() < 0.2:
            notice["priority"] = True
        if dice.random() < 0.1:
            later = datetime.now(UTC) + timedelta(seconds=dice.uniform(0, 1.5))
            notice["not_before"] = later.isoformat()
        self._waiting.append(notice)

    async def run(self, over: anyio.Event) -> None:
        """Deliver, again and again, until it is over; then all that waits still."""
        while not await heard(over, self._dice.uniform(0, LONGEST)):
            await self.deliver()
        while self._waiting:
            await self.deliver()

    async def deliver(self) -> None:
        """Some of what waits, in any order, some of it twice."""
        dice = self._dice
        dice.shuffle(self._waiting)
        count = min(len(self._waiting), dice.randint(1, AT_ONCE))
        going, self._waiting = self._waiting[:count], self._waiting[count:]
        again = [one for one in [*going, *self._arrived] if "id" in one and dice.random() < 0.04]
        await self._carry([*going, *again])

    async def _carry(self, notices: list[Told]) -> None:
        if not notices:
            return
        since = now_ms()
        answer = await self._send(notices)
        self._journal.say("told", since=since, notices=notices, answer=answer)
        self._arrived = [*self._arrived, *notices][-KEPT:]
