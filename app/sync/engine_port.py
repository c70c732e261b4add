"""What is needed of an engine, as Protocols; each has adapters for real engines and an in-memory twin.

The rules of `app.sync.ports` hold here too: `app.errors` only, no adapter retries, every call is bounded in time and
may be cancelled.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from app.errors import Problem
from app.sync.words import (
    About,
    Cursor,
    Hit,
    Holding,
    IndexInfo,
    Item,
    Line,
    Mark,
    Move,
    Page,
    Room,
    Scored,
    Shape,
    Slice,
    Vectors,
)


class Reader(Protocol):
    """The reading half of an engine: enough to read a source that is not ours."""

    async def about(self) -> About:
        """Kind, version, data nodes and probed abilities (cached)."""

    async def resolve(self, name: str) -> Sequence[IndexInfo]:
        """The indices behind an index name or an alias; empty when there are none."""

    async def properties(self, index: str) -> Mapping[str, Any]:
        """`mappings.properties` of one index."""

    async def refresh(self, index: str) -> None:
        """Make what was written visible to search. Raises `Forbidden` where that is not permitted."""

    async def open_pit(self, index: str, keep_alive: float) -> str:
        """Open a point in time on one concrete index; it lives for *keep_alive* seconds after each time it is read."""

    async def close_pit(self, pit: str) -> None:
        """Close it; one that is gone already is no error."""

    async def pit_count(self, pit: str, index: str) -> int:
        """How many (top-level) documents the point in time holds."""

    async def page(self, pit: str, part: Slice, after: Cursor | None, size: int, fields: Sequence[str] | None) -> Page:
        """The next page of a slice in `_shard_doc` order (or the engine's safe equivalent), at most *size* hits.

        *fields* are source patterns to fetch, None for all, empty for ids only. Raises `SourceGone` when the point in
        time or its index is gone, `EngineError` when a shard failed: never a silent short page.
        """

    async def pit_get(self, pit: str, ids: Sequence[str], fields: Sequence[str] | None) -> Sequence[Hit]:
        """Those of *ids* that the point in time holds (at most 1,000)."""

    async def get(self, index: str, ids: Sequence[str], fields: Sequence[str] | None) -> Sequence[Hit]:
        """Those of *ids* that the index holds, in real time, with their versions. Vectors are left out."""

    async def search_stats(self, index: str) -> Mapping[str, int]:
        """`{"open_contexts": ..., "documents": ..., "deleted": ..., "bytes": ...}` of the primaries of one index."""

    async def close(self) -> None:
        """Close the connections."""


class Target(Protocol):
    """The writing half: generations, their aliases, and the proofs made on them. Never given the source's index."""

    async def create(self, index: str, shape: Shape, aliases: Sequence[str], mark: Mark) -> None:
        """Create an index for loading (refresh off, no replicas, `gc_deletes` 1 h) with mapping, aliases and mark.

        Raises `Conflict(code="index_exists")` when the name is taken.
        """

    async def analyses(self, shape: Shape) -> bool:
        """Whether an index of *shape* would have the analyser it names: one of its settings or the engine's own."""

    def lines(self, bodies: Sequence[tuple[str, Mapping[str, Any]]], vectors: Vectors, version: int) -> Sequence[Line]:
        """Bulk lines (`index`, external_gte *version*) of `(id, body)` and their vectors, encoded as this engine
        takes them best. CPU only: call it in a thread."""

    async def bulk(self, alias: str, lines: Sequence[Line]) -> Sequence[Item]:
        """One bulk request through *alias* with `require_alias`, one item a line, in order.

        Raises `EngineBusy` (whole request 429), `TooLargeForEngine`, `IndexMissing` (alias gone), `EngineUnavailable`.
        """

    async def block(self, index: str) -> None:
        """Refuse writes and return when those under way have ended (only `shards_acknowledged: true` counts)."""

    async def unblock(self, index: str) -> None:
        """Accept writes again."""

    async def swap_alias(self, index: str, old: str, new: str) -> None:
        """Put *new* in the place of *old* on one index, atomically. Raises `SwitchSpent` when *old* is not there."""

    async def graph(self, index: str, shape: Shape) -> None:
        """Let the next merge build the graph that a shape with `graph_later` did without; nothing where it has one.

        A segment that no merge rewrites stays without: an index of one segment is searched by comparing all of it.
        """

    async def settle(self, index: str, refresh_interval: str, replicas: int) -> None:
        """Restore what loading switched off."""

    async def green(self, index: str, seconds: float) -> str:
        """Wait for green, at most *seconds*; the health it has then: green, yellow or red."""

    async def merge(self, index: str, seconds: float) -> bool:
        """Force merge to one segment without blocking the engine's reply; False when it took longer than *seconds*."""

    async def nearest(
        self, index: str, vector: Sequence[float], k: int, candidates: int, where: Sequence[Mapping[str, Any]]
    ) -> Sequence[Scored]:
        """The *k* nearest documents among *candidates* a shard, filtered by query clauses; vectors left out."""

    async def lexical(self, index: str, query: str, k: int, where: Sequence[Mapping[str, Any]]) -> Sequence[Scored]:
        """The *k* best documents by words over the text fields; vectors left out."""

    async def vectors(self, index: str, ids: Sequence[str]) -> Mapping[str, Vectors]:
        """The stored vectors of *ids*, each of shape `(dims,)`, exactly as the engine keeps them."""

    async def move(self, move: Move) -> None:
        """One numbered move: alias and number leave `move.source`/`move.holder`, arrive on `move.target`, in one call.

        `move.source` None: the alias must be on no index (creation is exclusive). Raises `SwitchSpent` when refused.
        """

    async def burn(self, alias: str, number: int, holder: str) -> None:
        """Spend number *number* without moving: `switch-n` becomes `switch-(n+1)` on *holder*. Raises `SwitchSpent`."""

    async def listed(self, prefix: str) -> Sequence[IndexInfo]:
        """All indices whose name begins with *prefix*, with their marks."""

    async def drop(self, index: str) -> None:
        """Delete one index by its concrete name; one that is gone already is no error."""

    async def clone(self, live: str, index: str, aliases: Sequence[str]) -> None:
        """Clone *live*, which is write-blocked, by hard links, graphs included; return when it can be written.

        The clone is as an index that is being loaded (refresh off, no replicas, `gc_deletes` 1 h, no block), with the
        mark of *live* and *aliases* of its own. What *live* has not flushed is flushed before. Raises
        `Conflict(code="index_exists")`, `EngineError`.
        """

    async def remark(self, index: str, mark: Mark) -> None:
        """Put *mark* in the place of the one that an index has."""

    def deletions(self, ids: Sequence[str], version: int) -> Sequence[Line]:
        """Bulk lines (`delete`, external_gte *version*)."""

    async def holding(
        self, pit: str, part: Slice, after: Cursor | None, size: int, where: Sequence[Mapping[str, Any]] = ()
    ) -> Holding:
        """The next documents of a slice of an index of ours, at most *size*, by columns alone. Raises as `page`.

        With *where*, those that fulfil all of its query clauses.
        """

    async def counted(self, index: str, where: Sequence[Mapping[str, Any]]) -> int:
        """How many documents of a refreshed index fulfil all of these query clauses."""

    async def accepts(self, shape: Shape) -> None:
        """Raises `EngineError(code="shape_refused")` when no index of *shape* could be made. Nothing is made."""

    async def denied(self, base: str, alias: str, live: str | None) -> Sequence[Problem]:
        """What our user may not do with generations `<base>-...` behind *alias*, the next one perhaps a clone of
        *live*; a problem each, empty for nothing. Nothing is done."""

    async def reserve(self, total: int) -> int:
        """Bytes that must stay free on a data node's disk of *total* bytes, or writes are refused."""

    async def room(self) -> Room:
        """What the cluster has left for one more index."""

    async def store(self) -> "VectorStore":
        """The vectors that this engine keeps for all catalogues; its index is made when there is none."""


class VectorStore(Protocol):
    """Vectors by content key (`app.sync.vectors.content_key`), in an index of its own."""

    async def known(self, keys: Sequence[str], dims: int) -> Mapping[str, Vectors]:
        """Those of *keys* that are kept, each of shape `(dims,)`, bit by bit as they were; in real time.

        One that is not of *dims* finite numbers is damaged: left out, so that it is embedded and kept anew.
        """

    async def keep(self, keys: Sequence[str], vectors: Vectors) -> None:
        """Keep these; returns when the engine has acknowledged each. Equal keys have equal vectors: the last wins."""

    async def size(self) -> int:
        """How many keys are kept."""

    async def used(self, keys: Sequence[str], at: float) -> None:
        """Note that *keys* (those of them that are kept) were in use at *at*, seconds since the epoch."""

    async def aged(self, before: float, count: int) -> Sequence[str]:
        """At most *count* keys that were last kept or used before *before*, the longest unused first."""

    async def forget(self, keys: Sequence[str]) -> None:
        """Keep these no longer; those that are gone already are no error."""


class Engine(Reader, Target, Protocol):
    """One Elasticsearch or OpenSearch cluster, or the in-memory twin."""
