"""What verification looks at: the sealed draft, the source it was built from, and some of what was sent."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from app.sync.comparing import Comparison
from app.sync.engine_port import Engine
from app.sync.planning import Plan
from app.sync.ports import Embedder, Snapshot
from app.sync.running import Ports
from app.sync.words import Batch, Check, Document, Draft, Reject

SAMPLED = 32
"""Products that are proven one by one; a fault in one document of ten is missed once in thirty runs."""


class Sample:
    """Some documents with their vectors, each product as likely as any other (reservoir), in bounded memory.

    `refused` are the ids left out for cause: a run over its reject limit is refused, so they stay few.
    """

    def __init__(self, size: int = SAMPLED, seed: int = 1) -> None:
        self.kept: list[tuple[Document, Any]] = []
        self.refused: set[str] = set()
        self._size, self._seen, self._random = size, 0, Random(seed)  # noqa: S311 - a sample is no secret

    def offer(self, batch: Batch, refused: Sequence[Reject]) -> None:
        """Show it a batch that was loaded, and what the engine refused of it."""
        assert batch.vectors is not None
        self.refused |= {reject.product_id for reject in (*batch.rejects, *refused) if reject.by != "rule"}
        for document, vector in zip(batch.documents, batch.vectors, strict=True):
            if document.id not in self.refused:
                self._offer(document, vector)

    def _offer(self, document: Document, vector: Any) -> None:
        self._seen += 1
        if len(self.kept) < self._size:
            self.kept.append((document, vector.copy()))
        elif (place := self._random.randrange(self._seen)) < self._size:
            self.kept[place] = (document, vector.copy())


@dataclass(frozen=True)
class Proof:
    """What verification looks at. `health` is what the sealed draft reached, `drawn` some products of the source that
    may never have been sent: a clone holds them since before."""

    ports: Ports
    plan: Plan
    draft: Draft
    snapshot: Snapshot
    comparison: Comparison
    sample: Sample
    health: str
    drawn: list[Document] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    @property
    def target(self) -> Engine:
        """Where the draft is."""
        return self.ports.target

    @property
    def embedder(self) -> Embedder:
        """Whose vectors it has."""
        return self.ports.embedder

    def check(self, name: str, expected: Any, found: Any, passed: bool, detail: str = "") -> None:
        """Note the outcome of one check."""
        self.checks.append(Check(name, expected, found, passed, detail))
