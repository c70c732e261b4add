"""Where Elasticsearch and OpenSearch differ, as one Protocol, and the pieces both sides of it speak of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from app.errors import SourceGone
from app.sync.engines.wire import Ask
from app.sync.words import Shape, Slice


@dataclass(frozen=True, slots=True)
class Pit:
    """A point in time with what is needed to read it: `str(pit)` is what callers keep, `Pit.of` reads it back.

    The index and its uuid tell a deleted source from a busy engine; the number of primaries, how to slice safely.
    """

    index: str
    uuid: str
    primaries: int
    keep_alive: int
    id: str

    def __str__(self) -> str:
        return f"{self.index}|{self.uuid}|{self.primaries}|{self.keep_alive}|{self.id}"

    @classmethod
    def of(cls, text: str) -> "Pit":
        """Raises `SourceGone` when *text* is no point in time of ours."""
        try:
            index, uuid, primaries, keep_alive, own = text.split("|", 4)
            return cls(index, uuid, int(primaries), int(keep_alive), own)
        except ValueError:
            raise SourceGone("This is not the name of a point in time.") from None


class Dialect(Protocol):
    """One product's way of saying what both can do. Requests here are described, never sent."""

    @property
    def kind(self) -> Literal["elasticsearch", "opensearch"]:
        """The product."""

    @property
    def packs(self) -> bool:
        """Whether base64 vectors are worth a probe."""

    def open_pit(self, index: str, keep_alive: int) -> Ask:
        """Open a point in time, of all shards or not at all."""

    def pit_id(self, body: Mapping[str, Any]) -> str:
        """Its id in the answer."""

    def close_pit(self, own: str) -> Ask:
        """Close it."""

    def slices(self, part: Slice, primaries: int, /) -> Sequence[Slice]:
        """The slices of the engine that make up *part*, such that all parts are disjoint and together complete."""

    def sort(self) -> str:
        """The cheapest order in which a slice can be paged through."""

    def unsorted(self, reason: str, /) -> bool:
        """Whether the engine refused `sort()` and the next answer of it is another one."""

    def vector(self, shape: Shape) -> Mapping[str, Any]:
        """The vector field of a mapping. Raises `EngineError` for an index type this engine does not have."""

    def graphed(self, shape: Shape, /) -> Mapping[str, Any] | None:
        """The vector field with its graph, None where `vector` has declared that already."""

    def settings(self) -> Mapping[str, Any]:
        """Index settings that only this product has."""

    def unset(self, reason: str, /) -> bool:
        """Whether the engine does not know one of `settings()` and the next answer does without it."""

    def knn(
        self, vector: Sequence[float], k: int, candidates: int, where: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """The part of a search body that finds the *k* nearest."""
