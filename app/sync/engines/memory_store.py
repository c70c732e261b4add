"""The twin of the vector store."""

import time
from collections.abc import Mapping, Sequence

from app.sync.words import Vectors


class MemoryStore:
    """`ports.VectorStore` in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[Vectors, float]] = {}

    async def known(self, keys: Sequence[str], dims: int) -> Mapping[str, Vectors]:
        """Those that are kept."""
        return {key: self.kept[key][0] for key in keys if key in self.kept and self.kept[key][0].shape == (dims,)}

    async def keep(self, keys: Sequence[str], vectors: Vectors) -> None:
        """Keep these."""
        now = time.time()
        self.kept |= {key: (vector.copy(), now) for key, vector in zip(keys, vectors, strict=True)}

    async def size(self) -> int:
        """How many."""
        return len(self.kept)

    async def used(self, keys: Sequence[str], at: float) -> None:
        """Those that are kept were in use."""
        self.kept |= {key: (self.kept[key][0], at) for key in keys if key in self.kept}

    async def aged(self, before: float, count: int) -> Sequence[str]:
        """Old ones."""
        oldest = sorted((at, key) for key, (_, at) in self.kept.items() if at < before)
        return [key for _, key in oldest[:count]]

    async def forget(self, keys: Sequence[str]) -> None:
        """Keep these no longer."""
        for key in keys:
            self.kept.pop(key, None)
