"""The shop's own index as a source: pinned to one index, read at one point in time, closed on every way out.

        refresh (or wait) ─▶ resolve to exactly one index ─▶ open the point in time ─▶ tell its id ─▶ pages

Shops delete and re-create this index under its alias at any moment. So the alias is resolved once, the point in time
is opened on the concrete index, and `check` compares uuids: whatever happens in between ends as `SourceGone`. What is
asked outside of a point in time is asked once more where the index went meanwhile: another one took its place. An alias
that filters or routes is refused, because a point in time on the index behind it would show more than it does.

Opening and closing cannot be interrupted half-way, only bounded in time: a context that nobody knows would stay open
for as long as it is kept alive.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from anyio import CancelScope, move_on_after, sleep

from app.errors import EngineUnavailable, Forbidden, IndexMissing, Problem, SourceGone, SourceUnresolved
from app.sync.engine_port import Reader
from app.sync.ports import Look, Snapshot
from app.sync.words import Hit, IndexInfo, Page, Slice

KEEP_ALIVE = 2 * 3600.0
"""Seconds between two requests: between the last page and verification lie the settle time (an hour at most) and the
sealing, and a force merge takes long."""

FIRST, MOST = 200, 2_000
"""Products on the first page of a slice, and on any: enough for one bulk request, so that all steps work at once."""

AIM = 1_000_000
"""Bytes that a page should have: large enough to be cheap, small enough that many may be on their way at once."""

STEP = 4
"""A page is at most so many times larger than the one before it."""

OPEN_SECONDS, CLOSE_SECONDS = 6.0, 2.0
COUNT_SECONDS = 60.0
LONGEST_WAIT = 60.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class IndexLook:
    """One index, as it was when it was looked at."""

    index: str
    uuid: str
    primaries: int
    refresh_seconds: float = 1.0


class IndexSource:
    """`ports.Source` over the reading half of an engine; *index* is an index name or an alias."""

    def __init__(self, reader: Reader, index: str) -> None:
        self._reader, self._name = reader, index

    async def look(self) -> IndexLook:
        """Resolve to exactly one index. Raises `SourceUnresolved`."""
        found = await self._reader.resolve(self._name)
        if len(found) != 1:
            raise SourceUnresolved(_unresolved(self._name, found))
        info = found[0]
        if info.aliases.get(self._name):
            detail = f"{self._name} carries a filter or a routing, which a point in time ignores: name its index."
            raise SourceUnresolved(detail, code="source_filtered")
        return IndexLook(info.name, info.uuid, info.primaries, info.refresh_seconds)

    async def count(self) -> int:
        """Products in the source now, as searches see it."""

        async def counted(look: IndexLook) -> int:
            async with self._opened(look, COUNT_SECONDS) as pit:
                return await self._reader.pit_count(pit, look.index)

        return await self._asked(counted)

    async def properties(self) -> Mapping[str, Any]:
        """The field types of the source."""
        return await self._asked(lambda look: self._reader.properties(look.index))

    async def get(self, ids: Sequence[str], fields: Sequence[str] | None) -> Sequence[Hit]:
        """Those of *ids* that the source has now."""
        return await self._asked(lambda look: self._reader.get(look.index, ids, fields))

    async def sample(self, size: int, fields: Sequence[str] | None) -> Page:
        """Some products of the source as searches see it now."""

        async def sampled(look: IndexLook) -> Page:
            async with self._opened(look, COUNT_SECONDS) as pit:
                return await self._reader.page(pit, Slice(0, 1), None, size, fields)

        return await self._asked(sampled)

    async def _asked(self, question: Callable[[IndexLook], Awaitable[T]]) -> T:
        """The answer of the index that the source is; of the one that took its place when it just went."""
        try:
            return await question(await self.look())
        except (IndexMissing, SourceGone):
            return await question(await self.look())

    @asynccontextmanager
    async def snapshot(self, slices: int, opened: Callable[[str, Look], Awaitable[None]]) -> AsyncIterator[Snapshot]:
        """Refresh (or wait), resolve, open a point in time, tell *opened* its id, close it on every way out."""
        await self._fresh()
        look = await self.look()
        async with self._opened(look, KEEP_ALIVE) as pit:
            await opened(pit, look)
            count = await self._reader.pit_count(pit, look.index)
            parts = [Slice(number, slices) for number in range(slices)]
            yield IndexSnapshot(self._reader, self._name, look, pit, count, parts)

    async def _fresh(self) -> None:
        """What was written before this call is visible after it, as far as the engine lets us."""

        async def refreshed(look: IndexLook) -> None:
            try:
                await self._reader.refresh(look.index)
            except Forbidden:
                await sleep(min(max(look.refresh_seconds, 0.0), LONGEST_WAIT))

        await self._asked(refreshed)

    @asynccontextmanager
    async def _opened(self, look: IndexLook, keep_alive: float) -> AsyncIterator[str]:
        with CancelScope(shield=True), move_on_after(OPEN_SECONDS) as bound:
            try:
                pit = await self._reader.open_pit(look.index, keep_alive)
            except IndexMissing as gone:
                raise SourceGone(f"{self._name} lost its index {look.index} just now: {gone.detail}") from None
        if bound.cancelled_caught:
            raise EngineUnavailable(f"No point in time on {look.index} within {OPEN_SECONDS:g} s.")
        try:
            yield pit
        finally:
            with CancelScope(shield=True), move_on_after(CLOSE_SECONDS):
                await self._closed(pit)

    async def _closed(self, pit: str) -> None:
        """Close it; where that fails it ends by itself, and whatever made us leave matters more."""
        try:
            await self._reader.close_pit(pit)
        except Problem:
            return


@dataclass(frozen=True, slots=True)
class IndexSnapshot:
    """`ports.Snapshot` over a point in time; its parts are disjoint and complete, whatever their number."""

    reader: Reader
    name: str
    look: IndexLook
    pit: str
    count: int
    parts: Sequence[Slice]

    async def pages(self, part: Slice, fields: Sequence[str] | None) -> AsyncIterator[Page]:
        """All pages of a slice; each has about as many bytes as is good."""
        size, after = FIRST, None
        while True:
            page = await self.reader.page(self.pit, part, after, size, fields)
            if not page.hits:
                return
            yield page
            after, size = page.cursor, following(size, page)

    async def get(self, ids: Sequence[str], fields: Sequence[str] | None) -> Sequence[Hit]:
        """Products by id, as the point in time holds them."""
        return await self.reader.pit_get(self.pit, ids, fields)

    async def check(self) -> None:
        """Raise `SourceGone` when the source no longer is the index that was pinned."""
        found = await self.reader.resolve(self.name)
        if [info.uuid for info in found] != [self.look.uuid]:
            now = ", ".join(info.name for info in found) or "nothing"
            detail = f"{self.name} was {self.look.index} when the run began and is {now} now, deleted or re-created."
            raise SourceGone(detail)


def following(size: int, page: Page) -> int:
    """How many products to ask for after *page*, which was asked for with *size*."""
    each = max(page.size / len(page.hits), 1.0)
    return int(max(1, min(AIM / each, size * STEP, MOST)))


def _unresolved(name: str, found: Sequence[IndexInfo]) -> str:
    if not found:
        return f"There is no index and no alias {name} on the source's engine."
    return f"{name} means {len(found)} indices ({', '.join(info.name for info in found)}): name one of them."
