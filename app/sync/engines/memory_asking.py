"""What the twin of the engines says before a run: it takes every shape, lets everybody in and may be filled up."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from app.errors import Problem
from app.sync.words import Room, Shape


class MemoryAsking:
    """`app.sync.engines.asking` in memory; tests raise or deny through `before`."""

    before: Callable[[str, Mapping[str, Any]], Awaitable[None]]

    async def accepts(self, shape: Shape) -> None:
        """Any shape."""
        await self.before("accepts", {"shape": shape})

    async def denied(self, base: str, alias: str, live: str | None) -> Sequence[Problem]:
        """Nothing is."""
        await self.before("denied", {"base": base, "alias": alias, "live": live})
        return []

    async def reserve(self, total: int) -> int:
        """Nothing must stay free."""
        await self.before("reserve", {"total": total})
        return 0

    async def room(self) -> Room:
        """One node that tells nothing."""
        return Room(None, None, None, 1)
