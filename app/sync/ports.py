"""What the pipeline needs of the world, as Protocols; each has a real adapter and an in-memory twin.

A method that talks to the outside raises `app.errors` only: `transient` ones may be tried again, by the caller and by
nobody else (adapters never retry). Every call is bounded in time by its adapter. All of them may be cancelled.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

from app.spec import RecipeSpec
from app.sync.words import (
    About,
    Cursor,
    Document,
    Draft,
    Embedding,
    Hit,
    IndexInfo,
    Item,
    Line,
    Mark,
    ModelStamp,
    Move,
    Page,
    Reject,
    Scored,
    Shape,
    Slice,
    Vectors,
    Verdict,
)

# --- engines ---------------------------------------------------------------------------------------------------------


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
        """Open a point in time on one concrete index; *keep_alive* in seconds."""

    async def close_pit(self, pit: str) -> None:
        """Close it; one that is gone already is no error."""

    async def pit_count(self, pit: str, index: str) -> int:
        """How many (top-level) documents the point in time holds."""

    async def page(
        self, pit: str, part: Slice, after: Cursor | None, size: int, fields: Sequence[str] | None
    ) -> Page:
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

    def lines(
        self, bodies: Sequence[tuple[str, Mapping[str, Any]]], vectors: Vectors, version: int
    ) -> Sequence[Line]:
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

    async def lexical(
        self, index: str, query: str, k: int, where: Sequence[Mapping[str, Any]]
    ) -> Sequence[Scored]:
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


class Engine(Reader, Target, Protocol):
    """One Elasticsearch or OpenSearch cluster, or the in-memory twin."""


# --- sources ---------------------------------------------------------------------------------------------------------


class Look(Protocol):
    """What a source is at this moment: pinned to one index."""

    @property
    def index(self) -> str: ...
    @property
    def uuid(self) -> str: ...
    @property
    def primaries(self) -> int: ...


class Snapshot(Protocol):
    """A source at one point in time."""

    @property
    def count(self) -> int:
        """Products in the point in time."""

    @property
    def parts(self) -> Sequence[Slice]:
        """Disjoint and together complete."""

    def pages(self, part: Slice, fields: Sequence[str] | None) -> AsyncIterator[Page]:
        """All pages of a slice; the last one is not empty. Page sizes follow the bytes that arrive."""

    async def get(self, ids: Sequence[str], fields: Sequence[str] | None) -> Sequence[Hit]:
        """Products by id, as the point in time holds them."""

    async def check(self) -> None:
        """Raise `SourceGone` when the source no longer is the index that this snapshot pinned."""


class Source(Protocol):
    """What a shop owns and we only read."""

    async def look(self) -> Look:
        """Resolve the source to exactly one index. Raises `SourceUnresolved`."""

    async def count(self) -> int:
        """Products in the source now."""

    async def properties(self) -> Mapping[str, Any]:
        """The field types of the source, to choose a default recipe by."""

    def snapshot(
        self, slices: int, opened: Callable[[str, Look], Awaitable[None]]
    ) -> AbstractAsyncContextManager[Snapshot]:
        """Refresh (or wait), resolve, open a point in time, tell *opened* its id, close it on every way out."""


# --- embedders -------------------------------------------------------------------------------------------------------


class Embedder(Protocol):
    """Texts become vectors. Retrying is its caller's business, batching within the model's limits its own."""

    @property
    def stamp(self) -> ModelStamp:
        """Known after `ready`."""

    async def ready(self) -> ModelStamp:
        """Load or ask the model, check its dimensions. Raises `EmbedderError` with what to do."""

    async def embed(self, texts: Sequence[str]) -> Embedding:
        """One row a text, in order, finite, of the stamp's dims. A text over the model's limit is cut and counted."""

    async def close(self) -> None:
        """Release what it holds."""


# --- the database, as far as the pipeline needs it -------------------------------------------------------------------


class Live(Protocol):
    """The generation behind the alias as the database knows it."""

    @property
    def id(self) -> str: ...
    @property
    def index(self) -> str: ...
    @property
    def documents(self) -> int | None: ...


class Ledger(Protocol):
    """The durable side of one run, bound to its lease: each call commits, and raises `LeaseLost` when fenced off,
    `RunCanceled` when somebody asked for that (never in `promoting`, where the switch is settled first)."""

    async def stage(self, stage: str) -> None:
        """The run is in this stage now."""

    async def report(self, figures: Mapping[str, Any]) -> None:
        """Counts and stages as they stand now: onto the run's row, and a progress line of kind `counts`."""

    async def note(self, kind: str, data: Mapping[str, Any]) -> None:
        """One progress line."""

    async def reject(self, rejects: Sequence[Reject]) -> None:
        """Keep rejects with their reasons (the first 10,000 of a run; the counts are always whole)."""

    async def live(self) -> Live | None:
        """The live generation, None before the first switch."""

    async def alias_findings(self) -> Sequence[Mapping[str, str]]:
        """What is wrong with the alias now, as `{"code", "detail"}`; empty when a switch could work."""

    async def aliases(self, draft: Draft) -> Sequence[str]:
        """The aliases a draft is born with: its `fill`, and `<alias>.switch-n` where this will be the first switch."""

    async def register(self, recipe: RecipeSpec, recipe_hash: str, stamp: ModelStamp) -> Draft:
        """A new draft's row: its name is in the database before its index exists."""

    async def number(self) -> int:
        """The next version of this catalogue, committed before anything is read: max(last + 1, clock in ms)."""

    async def pit(self, pit: str | None, index: str | None = None, uuid: str | None = None) -> None:
        """The point in time this run holds, None when it is closed."""

    async def sealed(self, draft: Draft, documents: int) -> None:
        """The draft is whole and proof begins."""

    async def verdict(self, draft: Draft, verdict: Verdict) -> None:
        """Keep it; a refused draft leaves the fed set and stays until the next run."""

    async def promote(self, draft: Draft) -> None:
        """The numbered switch: intent committed, alias moved, read back, committed. Raises `SwitchSpent`."""

    async def abandon(self, draft: Draft, state: Literal["dropped", "refused"]) -> None:
        """The draft leaves; its index is the caller's to drop."""


class Bodies(Protocol):
    """How a prepared document becomes the body that is stored."""

    def __call__(self, document: Document) -> tuple[str, Mapping[str, Any]]: ...
