"""The moving words of the pipeline: frozen, without I/O, without an engine, a table or a route behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""Shape `(n, dims)`, float32, one row a text, finite; unit length when the model's stamp says `normalized`."""

Cursor = Sequence[Any]
"""The sort values of the last hit of a page, as the engine gave them (`search_after`)."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One of *of* disjoint parts of a point in time, numbered from 0."""

    number: int
    of: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A product as the source (or a document as the target) holds it. `version` is the external version, if asked."""

    id: str
    source: dict[str, Any]
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some hits of one slice. `cursor` is None on the last, empty page; `size` is bytes on the wire."""

    part: Slice
    hits: Sequence[Hit]
    cursor: Cursor | None
    size: int


@dataclass(frozen=True, slots=True)
class Holding:
    """Some documents of an index of ours, as its columns tell them: what `_source` says is not read.

    `ids` are their `source_id`s; `inputs` and `texts` the `input_hash` and `text_hash` of each, "" where one has none.
    `cursor` is None on the last, empty one.
    """

    ids: Sequence[str]
    inputs: Sequence[str]
    texts: Sequence[str]
    cursor: Cursor | None


@dataclass(frozen=True, slots=True)
class Change:
    """A product that is not as it was: `fields` are the names of those that differ, when it was modified."""

    product_id: str
    kind: Literal["added", "modified", "deleted"]
    fields: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Withheld:
    """Deletions that a guard lets nobody make until a number is approved: at most *limit* are made, *found* are due."""

    guard: str
    limit: int
    found: int


@dataclass(frozen=True, slots=True)
class Reject:
    """A product left out: by rule (it should not be there), by its data, or by the engine."""

    product_id: str
    by: Literal["rule", "data", "engine"]
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Document:
    """What is stored for one product, but for its vector. `fields` are coerced to the recipe's types."""

    id: str
    fields: Mapping[str, Any]
    text: str
    text_hash: str
    content_hash: str
    input_hash: str
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Some documents of one slice, moving together. `vectors` is None until they are embedded.

    Products that are held as they are have been left behind: `unchanged` counts them. `new` are the ids of documents
    that the index does not hold, `held` those that it holds in another form; `changes` says what differs. `version` is
    the number under which they were read, where that is another than the run's.
    """

    part: Slice
    read: int
    documents: Sequence[Document]
    rejects: Sequence[Reject]
    size: int
    vectors: Vectors | None = None
    unchanged: int = 0
    new: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    changes: Sequence["Change"] = ()
    version: int | None = None


@dataclass(frozen=True, slots=True)
class ModelStamp:
    """Which model made a vector; stands in every document. `version` names the weights (a digest or a date)."""

    alias: str
    version: str
    dims: int
    normalized: bool = True
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """What an engine has left: bytes free on the data node that has least, and shards it would still open.

    None for what it does not tell. `nodes` are its data nodes.
    """

    free: int | None
    total: int | None
    shards: int | None
    nodes: int


@dataclass(frozen=True, slots=True)
class Embedding:
    """Vectors in the order of the texts, with what they cost."""

    vectors: Vectors
    tokens: int
    retries: int = 0
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One bulk action: `head` and `body` are complete JSON lines without the newline; `body` is None for a delete."""

    id: str
    head: bytes
    body: bytes | None

    @property
    def size(self) -> int:
        """Bytes in the bulk body, newlines included."""
        return len(self.head) + 1 + (len(self.body) + 1 if self.body is not None else 0)


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch and its bulk lines, one a document, all under one version."""

    batch: Batch
    lines: Sequence[Line]
    version: int


@dataclass(frozen=True, slots=True)
class Item:
    """The engine's answer for one bulk action. `error` is its error type, None when it was taken.

    An operation that is larger than the engine will ever take has the code of `TooLargeForEngine` in its place.
    """

    status: int
    error: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of some lines: how many the engine holds now, what it refused, what it took to get there.

    `newest` is the largest version that stood in the way of one, 0 when none did.
    """

    loaded: int
    size: int
    requests: int
    retries: int
    rejects: Sequence[Reject] = ()
    newest: int = 0


@dataclass(frozen=True, slots=True)
class Draft:
    """A generation that is being built, and the fence of the worker that builds it."""

    catalogue: str
    run: str
    generation: str
    index: str
    fence: int
    recipe_hash: str
    repairs: bool = False

    @property
    def fill(self) -> str:
        """The alias through which this worker, and no other, may write: it goes away when another takes over.

        A sealed generation that is being repaired is open to everybody who writes with a version.
        """
        return self.sealed if self.repairs else f"{self.index}.fill-{self.fence}"

    @property
    def feed(self) -> str:
        """The alias through which events write to it, from its beginning to its end."""
        return feed_of(self.index)

    @property
    def sealed(self) -> str:
        """The alias that stands in place of `fill` once the run's last bulk is in."""
        return f"{self.index}.sealed"


def feed_of(index: str) -> str:
    """The alias through which events write to a generation of ours: a late write makes no index anew."""
    return f"{index}.feed"


@dataclass(frozen=True, slots=True)
class Mark:
    """What `_meta.reshelve` of an index of ours says; the sweeper demands that name and mark agree."""

    owner: str
    catalogue: str
    run: str
    generation: str
    recipe: str


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """One index as the engine lists it. `aliases` maps a name to True when it carries a filter or a routing.

    `refresh_seconds` is how often it refreshes by itself, -1 for never.
    """

    name: str
    uuid: str
    primaries: int
    replicas: int
    aliases: Mapping[str, bool]
    mark: Mark | None = None
    write_blocked: bool = False
    refresh_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class About:
    """What an engine says of itself. `abilities` are probed, not guessed from the version."""

    kind: Literal["elasticsearch", "opensearch", "memory"]
    version: str
    data_nodes: int
    abilities: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a draft is to be built: fields as target name to type, `settings` laid over ours.

    `graph_later`: where the engine can, load without the graph of the vectors; the merge after loading builds it once.
    """

    fields: Mapping[str, str]
    dims: int
    similarity: str = "cosine"
    vector_index: str | None = None
    analyzer: str = "standard"
    shards: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    graph_later: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """One numbered move of an alias: `source` is None for the first switch when no index carries the alias.

    `holder` is the index that carries `<alias>.switch-<number>` before the move: the live index, or the draft itself
    before the first switch.
    """

    alias: str
    number: int
    holder: str
    source: str | None
    target: str

    @property
    def token(self) -> str:
        """The alias that makes this number serve once."""
        return f"{self.alias}.switch-{self.number}"

    @property
    def next_token(self) -> str:
        """What the target carries afterwards."""
        return f"{self.alias}.switch-{self.number + 1}"


@dataclass(frozen=True, slots=True)
class Scored:
    """One search hit; *score* as the engine reckons it, higher is better."""

    id: str
    score: float
    source: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a verdict."""

    check: str
    expected: Any
    found: Any
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verification found. It passes when each of its checks did."""

    checks: Sequence[Check]

    @property
    def passed(self) -> bool:
        """Whether the draft may be promoted."""
        return all(check.passed for check in self.checks)
