"""The twin of the engines: the same port, in memory, as strict as they are where a protocol leans on them.

`before` is called with the name of each port method and its arguments before it acts, and may raise: the place where
tests put faults. `answer` may give the item for a bulk line in the engine's place: `None` lets the twin act.
"""

import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count
from typing import Any

from app.errors import Conflict, EngineError, IndexMissing, SourceGone, SwitchSpent
from app.sync.engines import bulk, memory_search
from app.sync.engines.memory_asking import MemoryAsking
from app.sync.engines.memory_columns import Documents, MemoryColumns
from app.sync.engines.memory_index import LONGEST_ID, MemoryIndex, Stored, hit
from app.sync.engines.memory_store import MemoryStore
from app.sync.engines.shapes import VECTOR, flat, mappings
from app.sync.engines.wire import one_name
from app.sync.words import (
    About,
    Cursor,
    Hit,
    IndexInfo,
    Item,
    Line,
    Mark,
    Move,
    Page,
    Scored,
    Shape,
    Slice,
    Vectors,
)

Before = Callable[[str, Mapping[str, Any]], Awaitable[None]]
Answer = Callable[[str, Line], Item | None]
Fields = Sequence[str] | None
Where = Sequence[Mapping[str, Any]]


async def _undisturbed(_name: str, _arguments: Mapping[str, Any]) -> None:
    return


def _unanswered(_alias: str, _line: Line) -> Item | None:
    return None


class MemoryEngine(MemoryAsking, MemoryColumns):
    """`ports.Engine` in memory. `open_pits` are the points in time that nobody has closed."""

    def __init__(self, *, before: Before = _undisturbed, answer: Answer = _unanswered, nodes: int = 1) -> None:
        self.before, self.answer, self.nodes = before, answer, nodes
        self.indices: dict[str, MemoryIndex] = {}
        self.open_pits: dict[str, tuple[str, Mapping[str, Stored]]] = {}
        self.merged: list[str] = []
        self.kept = MemoryStore()
        self._numbers = count(1)

    def seed(
        self,
        index: str,
        documents: Mapping[str, Mapping[str, Any]],
        *,
        properties: Mapping[str, Any] | None = None,
        aliases: Sequence[str] = (),
        primaries: int = 1,
    ) -> None:
        """An index that is not ours, with documents in it, as a shop would have made it."""
        made = MemoryIndex(index, self._uuid(), properties or {}, primaries=primaries, refresh_interval="1s")
        made.aliases = dict.fromkeys(aliases, False)
        made.seed(documents)
        self.indices[index] = made

    def _uuid(self) -> str:
        return f"uuid-{next(self._numbers)}"

    def _one(self, index: str) -> MemoryIndex:
        one_name(index)
        if index not in self.indices:
            raise IndexMissing(f"no such index [{index}]")
        return self.indices[index]

    # --- reading ------------------------------------------------------------------------------------------------------

    async def about(self) -> About:
        """The twin takes base64 vectors."""
        await self.before("about", {})
        return About("memory", "1", self.nodes, {"base64_vectors": True})

    async def resolve(self, name: str) -> Sequence[IndexInfo]:
        """The indices behind an index name or an alias."""
        await self.before("resolve", {"name": name})
        one_name(name)
        return [found.info() for key, found in sorted(self.indices.items()) if name == key or name in found.aliases]

    async def properties(self, index: str) -> Mapping[str, Any]:
        """The declared fields."""
        await self.before("properties", {"index": index})
        return self._one(index).properties

    async def refresh(self, index: str) -> None:
        """Make what was written visible to search."""
        await self.before("refresh", {"index": index})
        self._one(index).refresh()

    async def open_pit(self, index: str, keep_alive: float) -> str:
        """Keep what is visible now."""
        await self.before("open_pit", {"index": index, "keep_alive": keep_alive})
        found = self._one(index)
        pit = f"{index}|{found.uuid}|{next(self._numbers)}"
        self.open_pits[pit] = (found.uuid, dict(found.searched()))
        return pit

    async def close_pit(self, pit: str) -> None:
        """Forget it."""
        await self.before("close_pit", {"pit": pit})
        self.open_pits.pop(pit, None)

    def _held(self, pit: str) -> Mapping[str, Stored]:
        uuid, documents = self.open_pits.get(pit, ("", {}))
        if uuid not in {found.uuid for found in self.indices.values()}:
            raise SourceGone(f"The point in time on {pit.split('|')[0]} is gone.")
        return documents

    async def pit_count(self, pit: str, index: str) -> int:
        """How many documents it holds."""
        await self.before("pit_count", {"pit": pit, "index": index})
        return len(self._held(pit))

    async def page(self, pit: str, part: Slice, after: Cursor | None, size: int, fields: Fields) -> Page:
        """The next page of a slice."""
        await self.before("page", {"pit": pit, "part": part, "after": after, "size": size})
        found, cursor = self._next(pit, part, after, size)
        hits = [hit(name, stored, fields) for name, stored in found]
        weight = sum(len(repr(one.source)) + len(one.id) for one in hits)
        return Page(part, hits, cursor, weight)

    def _next(self, pit: str, part: Slice, after: Cursor | None, size: int) -> tuple[Documents, Cursor | None]:
        """The next documents of a slice and where to go on."""
        mine = [item for item in self._held(pit).items() if zlib.crc32(item[0].encode()) % part.of == part.number]
        start = after[0] if after else 0
        found = mine[start : start + size]
        return found, [start + len(found)] if found else None

    async def pit_get(self, pit: str, ids: Sequence[str], fields: Fields) -> Sequence[Hit]:
        """Those of *ids* that it holds."""
        await self.before("pit_get", {"pit": pit, "ids": ids})
        held = self._held(pit)
        return [hit(name, held[name], fields) for name in ids if name in held]

    async def get(self, index: str, ids: Sequence[str], fields: Fields) -> Sequence[Hit]:
        """Those of *ids* that the index holds now."""
        await self.before("get", {"index": index, "ids": ids})
        held = self._one(index).documents
        return [hit(name, held[name], fields, version=True) for name in ids if name in held]

    async def search_stats(self, index: str) -> Mapping[str, int]:
        """Open contexts, documents, deleted documents, bytes."""
        await self.before("search_stats", {"index": index})
        found = self._one(index)
        contexts = sum(1 for uuid, _ in self.open_pits.values() if uuid == found.uuid)
        seen = found.searched()
        weight = sum(len(repr(stored.source)) for stored in seen.values())
        return {"open_contexts": contexts, "documents": len(seen), "deleted": 0, "bytes": weight}

    async def close(self) -> None:
        """Nothing to close."""
        await self.before("close", {})

    # --- writing ------------------------------------------------------------------------------------------------------

    async def create(self, index: str, shape: Shape, aliases: Sequence[str], mark: Mark) -> None:
        """Create an index for loading."""
        await self.before("create", {"index": index, "shape": shape, "aliases": aliases, "mark": mark})
        one_name(index)
        if index in self.indices:
            raise Conflict(f"index [{index}] already exists", code="index_exists")
        vector = {"type": "dense_vector", "dims": shape.dims, "similarity": shape.similarity}
        properties = mappings(shape, mark, vector)["properties"]
        made = MemoryIndex(index, self._uuid(), properties, mark, shape.shards)
        made.refresh_interval = str(flat(shape.settings).get("index.refresh_interval", "-1"))
        made.aliases = dict.fromkeys(aliases, False)
        self.indices[index] = made

    async def analyses(self, shape: Shape) -> bool:
        """The twin has the analysers that every engine has."""
        await self.before("analyses", {"shape": shape})
        return shape.analyzer in {"standard", "simple", "whitespace", "keyword", "stop"}

    def lines(self, bodies: Sequence[tuple[str, Mapping[str, Any]]], vectors: Vectors, version: int) -> Sequence[Line]:
        """Bulk lines with base64 vectors."""
        return bulk.lines(bodies, vectors, version, packed=True)

    def deletions(self, ids: Sequence[str], version: int) -> Sequence[Line]:
        """Bulk lines that delete."""
        return bulk.deletions(ids, version)

    async def clone(self, live: str, index: str, aliases: Sequence[str]) -> None:
        """Documents with their versions and the mark; no tombstones, no aliases but its own."""
        await self.before("clone", {"live": live, "index": index, "aliases": aliases})
        found = self._one(live)
        if not found.write_blocked:
            raise EngineError(f"index {live} must block write operations to clone it", code="clone_refused")
        one_name(index)
        if index in self.indices:
            raise Conflict(f"index [{index}] already exists", code="index_exists")
        made = found.cloned(index, self._uuid())
        made.aliases = dict.fromkeys(aliases, False)
        self.indices[index] = made

    async def remark(self, index: str, mark: Mark) -> None:
        """Another mark."""
        await self.before("remark", {"index": index, "mark": mark})
        self._one(index).mark = mark

    async def store(self) -> MemoryStore:
        """What is kept."""
        return self.kept

    async def bulk(self, alias: str, lines: Sequence[Line]) -> Sequence[Item]:
        """One bulk request."""
        await self.before("bulk", {"alias": alias, "lines": lines})
        behind = [found for found in self.indices.values() if alias in found.aliases]
        if len(behind) != 1:
            raise IndexMissing(f"[require_alias] request flag is [true] and [{alias}] is not an alias of one index")
        if any(len(line.id.encode()) > LONGEST_ID for line in lines):
            raise EngineError("id is too long", engine_status=400, engine_error="action_request_validation_exception")
        return [self.answer(alias, line) or behind[0].write(line) for line in lines]

    async def block(self, index: str) -> None:
        """Refuse writes."""
        await self.before("block", {"index": index})
        self._one(index).write_blocked = True

    async def unblock(self, index: str) -> None:
        """Accept writes again."""
        await self.before("unblock", {"index": index})
        self._one(index).write_blocked = False

    async def settle(self, index: str, refresh_interval: str, replicas: int) -> None:
        """Restore what loading switched off."""
        await self.before("settle", {"index": index, "refresh_interval": refresh_interval, "replicas": replicas})
        found = self._one(index)
        found.refresh_interval, found.replicas = refresh_interval, replicas

    async def graph(self, index: str, shape: Shape) -> None:
        """The twin compares all vectors."""
        await self.before("graph", {"index": index, "shape": shape})
        self._one(index)

    async def green(self, index: str, seconds: float) -> str:
        """Green, when the nodes are enough for the replicas."""
        await self.before("green", {"index": index, "seconds": seconds})
        return "green" if self._one(index).replicas < self.nodes else "yellow"

    async def merge(self, index: str, seconds: float) -> bool:
        """Note that it was asked for."""
        await self.before("merge", {"index": index, "seconds": seconds})
        self.merged.append(self._one(index).name)
        return True

    async def drop(self, index: str) -> None:
        """Delete one index; one that is gone already is no error."""
        await self.before("drop", {"index": index})
        one_name(index)
        if any(index in found.aliases for found in self.indices.values()):
            raise EngineError(f"The name [{index}] is an alias, specify the index instead")
        self.indices.pop(index, None)

    async def listed(self, prefix: str) -> Sequence[IndexInfo]:
        """All indices whose name begins with *prefix*."""
        await self.before("listed", {"prefix": prefix})
        one_name(prefix)
        return [found.info() for name, found in sorted(self.indices.items()) if name.startswith(prefix)]

    # --- aliases ------------------------------------------------------------------------------------------------------

    async def swap_alias(self, index: str, old: str, new: str) -> None:
        """Put *new* in the place of *old*."""
        await self.before("swap_alias", {"index": index, "old": old, "new": new})
        self._one(index)
        self._aliases([(index, old)], [(index, new)])

    async def move(self, move: Move) -> None:
        """One numbered move."""
        await self.before("move", {"move": move})
        leave = [(move.holder, move.token)]
        if move.source is None:
            taken = [found.name for found in self.indices.values() if move.alias in found.aliases]
            if taken:
                raise SwitchSpent(f"alias [{move.alias}] is on [{taken[0]}]")
        else:
            leave.append((move.source, move.alias))
        self._aliases(leave, [(move.target, move.alias), (move.target, move.next_token)])

    async def burn(self, alias: str, number: int, holder: str) -> None:
        """Spend a number."""
        await self.before("burn", {"alias": alias, "number": number, "holder": holder})
        spent = Move(alias, number, holder, None, holder)
        self._aliases([(holder, spent.token)], [(holder, spent.next_token)])

    def _aliases(self, leave: Sequence[tuple[str, str]], arrive: Sequence[tuple[str, str]]) -> None:
        """All or nothing: each alias that leaves must be there, each index that gains one must exist."""
        for index, alias in leave:
            if index not in self.indices or alias not in self.indices[index].aliases:
                raise SwitchSpent(f"aliases [{alias}] missing on [{index}]")
        for index, alias in arrive:
            if index not in self.indices:
                raise SwitchSpent(f"no such index [{index}]")
            if alias in self.indices:
                raise EngineError(f"Invalid alias name [{alias}]: an index exists with the same name as the alias")
        for index, alias in leave:
            del self.indices[index].aliases[alias]
        for index, alias in arrive:
            self.indices[index].aliases[alias] = False

    # --- searching ----------------------------------------------------------------------------------------------------

    async def nearest(
        self, index: str, vector: Sequence[float], k: int, candidates: int, where: Where
    ) -> Sequence[Scored]:
        """The *k* nearest, by brute force."""
        await self.before("nearest", {"index": index, "k": k, "candidates": candidates, "where": where})
        found = self._one(index)
        similarity = found.properties[VECTOR]["similarity"]
        return memory_search.nearest(found.searched(), vector, similarity, where)[:k]

    async def lexical(self, index: str, query: str, k: int, where: Where) -> Sequence[Scored]:
        """The *k* best by words."""
        await self.before("lexical", {"index": index, "query": query, "k": k, "where": where})
        found = self._one(index)
        fields = [name for name, how in found.properties.items() if how.get("type") == "text"]
        return memory_search.lexical(found.searched(), query, fields, where)[:k]

    async def vectors(self, index: str, ids: Sequence[str]) -> Mapping[str, Vectors]:
        """The stored vectors."""
        await self.before("vectors", {"index": index, "ids": ids})
        held = self._one(index).documents
        return {name: held[name].vector for name in ids if name in held and held[name].vector is not None}  # type: ignore[misc]
