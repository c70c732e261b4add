"""Reads what an embedding endpoint answered, trusting nothing in it."""

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from app.sync.fit import unit
from app.sync.words import Vectors

UNIT_TOLERANCE = 1e-3
"""Providers round; a vector whose length is this close to 1 is kept as it came, bit by bit."""


class Garbage(ValueError):
    """The answer is not what was asked for; its text says how, in our words."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Vectors in the order of the texts, at unit length; `tokens` is None when the endpoint does not count them."""

    vectors: Vectors
    tokens: int | None
    model: str | None


def read(content: bytes, count: int) -> Answer:
    """Take *count* vectors out of an answer. Raises `Garbage`. CPU only: call it in a thread."""
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise Garbage("something that is not JSON") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
        raise Garbage("JSON that is not a list of embeddings")
    vectors, bad = unit(_stacked(ordered(answer["data"], count)), UNIT_TOLERANCE)
    if bad:
        raise Garbage(f"{len(bad)} of {count} vectors that are zero or not finite")
    model = answer.get("model")
    return Answer(vectors, _tokens(answer.get("usage")), model if isinstance(model, str) else None)


def ordered(data: Sequence[Any], count: int) -> Sequence[Any]:
    """The embeddings in the order of their `index`; without any index, as they came."""
    if len(data) != count:
        raise Garbage(f"{len(data)} vectors for {count} texts")
    if not all(isinstance(item, dict) for item in data):
        raise Garbage("embeddings that are not objects")
    places = [item.get("index") for item in data]
    if all(place is None for place in places):
        return [item.get("embedding") for item in data]
    found = {place: item.get("embedding") for place, item in zip(places, data, strict=True) if type(place) is int}
    if found.keys() != set(range(count)):
        raise Garbage("vectors whose index is missing, doubled or out of range")
    return [found[place] for place in range(count)]


def _stacked(rows: Sequence[Any]) -> Vectors:
    vectors = [_vector(row) for row in rows]
    if not vectors or len({len(vector) for vector in vectors}) != 1 or not len(vectors[0]):
        raise Garbage("vectors of different or no length")
    return np.stack(vectors)


def _vector(row: Any) -> Vectors:
    """One vector, from base64 of little-endian float32 or from a list of numbers."""
    try:
        if isinstance(row, str):
            return np.frombuffer(b64decode(row, validate=True), "<f4").astype(np.float32, copy=False)
        with np.errstate(over="ignore"):
            vector = np.array(row, np.float32)
    except (ValueError, TypeError):
        raise Garbage("a vector that cannot be read") from None
    if vector.ndim != 1:
        raise Garbage("a vector that cannot be read")
    return vector


def _tokens(usage: Any) -> int | None:
    if not isinstance(usage, Mapping):
        return None
    counted = usage.get("prompt_tokens", usage.get("total_tokens"))
    return counted if type(counted) is int and counted >= 0 else None
