"""An embedder without a model: each word points somewhere by its hash, a text where its words point together.

Deterministic, fast and dependent on nothing, so that tests can say what they expect. Texts that share words are near.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import shake_128

import numpy as np

from app.sync.fit import refuse_unfit, unit
from app.sync.words import Embedding, ModelStamp, Vectors

DIMS = 64
"""Used when a recipe says nothing."""


def hashed(texts: Sequence[str], dims: int) -> Vectors:
    """One row a text, at unit length."""
    return unit(np.stack([_sum(text, dims) for text in texts]))[0]


def _sum(text: str, dims: int) -> Vectors:
    return sum((_direction(word, dims) for word in text.lower().split()), np.zeros(dims, np.float32))


@lru_cache(maxsize=10_000)
def _direction(word: str, dims: int) -> Vectors:
    digest = shake_128(word.encode("utf-8", "surrogatepass")).digest(dims)
    return np.frombuffer(digest, np.uint8).astype(np.float32) - np.float32(127.5)


class HashingEmbedder:
    """Words by their hash."""

    def __init__(self, dims: int | None = None) -> None:
        self.stamp = ModelStamp("hashing/words", "1", dims or DIMS)

    async def ready(self) -> ModelStamp:
        """Nothing to load."""
        return self.stamp

    def portions(self, texts: Sequence[str]) -> Sequence[Sequence[str]]:
        """All at once."""
        return [texts] if texts else []

    async def tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """Its words."""
        return [len(text.split()) for text in texts]

    async def embed(self, texts: Sequence[str]) -> Embedding:
        """One row a text."""
        refuse_unfit(texts)
        if not texts:
            return Embedding(np.empty((0, self.stamp.dims), np.float32), 0)
        return Embedding(hashed(texts, self.stamp.dims), sum(len(text.split()) for text in texts))

    async def close(self) -> None:
        """Nothing to release."""
