"""What the twin of the engines says of an index by columns: `app.sync.engines.columns` in memory."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from app.errors import EngineError
from app.sync.engines.memory_index import MemoryIndex, Stored
from app.sync.engines.memory_search import counted
from app.sync.words import Cursor, Holding, Slice

Documents = Sequence[tuple[str, Stored]]

COLUMNS = ("source_id", "input_hash", "text_hash")


class MemoryColumns:
    """Tests raise through `before`."""

    before: Callable[[str, Mapping[str, Any]], Awaitable[None]]
    _one: Callable[[str], MemoryIndex]
    _next: Callable[[str, Slice, Cursor | None, int], tuple[Documents, Cursor | None]]

    async def holding(
        self, pit: str, part: Slice, after: Cursor | None, size: int, where: Sequence[Mapping[str, Any]] = ()
    ) -> Holding:
        """Ids and hashes of the next documents of a slice; those that *where* lets through."""
        await self.before("holding", {"pit": pit, "part": part, "after": after, "size": size})
        found, cursor = self._next(pit, part, after, size)
        found = [(name, stored) for name, stored in found if counted({name: stored}, where)]
        sources = [stored.source for _, stored in found]
        if any(source.get("source_id") is None for source in sources):
            raise EngineError("A document has no source_id: this index is not ours.", code="not_ours")
        ids, inputs, texts = ([str(source.get(name) or "") for source in sources] for name in COLUMNS)
        return Holding(ids, inputs, texts, cursor)

    async def counted(self, index: str, where: Sequence[Mapping[str, Any]]) -> int:
        """How many documents fulfil all of these clauses."""
        await self.before("counted", {"index": index, "where": where})
        return counted(self._one(index).searched(), where)
