"""What the pipeline needs of the world, as Protocols; each has a real adapter and a twin for tests.

Engines have a module of their own, `app.sync.engine_port`.

A method that talks to the outside raises `app.errors` only: `transient` ones may be tried again, by the caller and by
nobody else (adapters never retry). Every call is bounded in time by its adapter. All of them may be cancelled.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

from app.spec import RecipeSpec
from app.sync.words import (
    Change,
    Draft,
    Embedding,
    Hit,
    Mark,
    ModelStamp,
    Page,
    Reject,
    Slice,
    Verdict,
    Withheld,
)

# --- sources ---------------------------------------------------------------------------------------------------------


class Look(Protocol):
    """What a source is at this moment: pinned to one index."""

    @property
    def index(self) -> str:
        """Its concrete name."""

    @property
    def uuid(self) -> str:
        """What tells it from a later index of the same name."""

    @property
    def primaries(self) -> int:
        """How many shards are read."""


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

    async def get(self, ids: Sequence[str], fields: Sequence[str] | None) -> Sequence[Hit]:
        """Those of *ids* that the source has now, in real time. Raises `SourceUnresolved`: that is no absence."""

    async def sample(self, size: int, fields: Sequence[str] | None) -> Page:
        """Some products of the source as it is now, at most *size*."""

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

    def portions(self, texts: Sequence[str]) -> Sequence[Sequence[str]]:
        """The same texts in parts that `embed` does in one request each, so that a retry repeats no answered one."""

    async def tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """How many tokens each text will be counted as, nothing sent: exact where the tokeniser is here, else about."""

    async def embed(self, texts: Sequence[str]) -> Embedding:
        """One row a text, in order, finite, of the stamp's dims. A text over the model's limit is cut and counted.

        Raises `EmbedderError(code="no_vector")` when one of them cannot have a vector (it is blank, or the model
        refuses it for good); alone, it is the culprit.
        """

    async def close(self) -> None:
        """Release what it holds."""


# --- the database, as far as the pipeline needs it -------------------------------------------------------------------


class Live(Protocol):
    """The generation behind the alias as the database knows it."""

    @property
    def id(self) -> str:
        """Its own."""

    @property
    def index(self) -> str:
        """The target index."""

    @property
    def documents(self) -> int | None:
        """How many it held when it was sealed; None for one that is not ours."""

    @property
    def origin(self) -> str:
        """`own`, or `foreign`: found behind the alias when it was taken over."""

    @property
    def recipe_hash(self) -> str | None:
        """Of the recipe it was built by; None for one that is not ours."""


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
        """The aliases a draft is born with: `fill`, `feed`, and `<alias>.switch-n` where this is the first switch."""

    async def mark(self, draft: Draft) -> Mark:
        """What the draft's index says of itself, so that the sweeper knows it for ours."""

    async def register(
        self, recipe: RecipeSpec, recipe_hash: str, stamp: ModelStamp, cloned_from: str | None = None
    ) -> Draft:
        """A new draft's row: its name is in the database before its index exists.

        A clone (of the generation *cloned_from*) is not fed before `feed`: nothing may be written to it until then.
        """

    async def feed(self, draft: Draft) -> None:
        """The clone is there: it joins the fed set."""

    async def decide(self, strategy: str, plan: Mapping[str, Any]) -> None:
        """What the run does, as it was decided, and its plan, onto the run's row."""

    async def pace(self, strategy: str) -> float | None:
        """Products a second, planning to cleaning, of the last ready runs of this strategy; None without history."""

    async def foreseen(self, recipe_hash: str) -> Mapping[str, Any] | None:
        """The plan of a dry run of the same catalogue and recipe that ended within the last hour."""

    async def changes(self, changes: Sequence[Change]) -> None:
        """Into the change log, with the run that carries them."""

    async def begin_again(self) -> None:
        """The draft was dropped on the way and another one follows: the changes and rejects noted so far go."""

    async def withhold(self, withheld: Sequence[Withheld]) -> None:
        """What guards withheld, onto the run's row; empty when nothing was."""

    async def number(self) -> int:
        """The next version of this catalogue, committed before anything is read: max(last + 1, clock in ms)."""

    async def pit(self, pit: str | None, index: str | None = None, uuid: str | None = None) -> None:
        """The point in time this run holds, None when it is closed."""

    async def sealed(self, draft: Draft, documents: int) -> None:
        """The draft is whole and proof begins; what events deleted meanwhile is looked at again."""

    def touched(self, draft: Draft) -> AsyncIterator[Sequence[str]]:
        """The products of which events told since the draft was registered, some at a time."""

    async def told_of(self, draft: Draft, ids: Sequence[str]) -> Collection[str]:
        """Those of *ids* of which events told since the draft was registered."""

    async def event_mark(self) -> int:
        """A mark for `waiting`: this moment, by the clock that events are received by."""

    async def waiting(self, mark: int) -> tuple[int, str]:
        """How many events received up to *mark* wait to be applied, and the code of what most of them wait for."""

    async def verdict(self, draft: Draft, verdict: Verdict) -> None:
        """Keep it; a refused draft leaves the fed set and stays until the next run."""

    async def promote(self, draft: Draft) -> None:
        """The numbered switch: intent committed, alias moved, read back, committed. Raises `SwitchSpent`."""

    async def abandon(self, draft: Draft, state: Literal["dropped", "refused"]) -> None:
        """The draft leaves; its index is the caller's to drop."""
