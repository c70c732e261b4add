"""How the twin searches: brute force over what is visible, scores like the engines' own."""

import re
from collections.abc import Callable, Mapping, Sequence
from operator import ge, gt, le, lt
from typing import Any

import numpy as np

from app.sync.engines.memory_index import Stored
from app.sync.engines.shapes import VECTOR
from app.sync.words import Scored

Where = Sequence[Mapping[str, Any]]

SCORES: Mapping[str, Callable[[Any, Any], float]] = {
    "cosine": lambda a, b: float(1 + a @ b / (np.linalg.norm(a) * np.linalg.norm(b))) / 2,
    "dot_product": lambda a, b: float(1 + a @ b) / 2,
    "l2_norm": lambda a, b: float(1 / (1 + np.sum((a - b) ** 2))),
}

BOUNDS: Mapping[str, Callable[[Any, Any], bool]] = {"gte": ge, "gt": gt, "lte": le, "lt": lt}


def nearest(documents: Mapping[str, Stored], vector: Sequence[float], similarity: str, where: Where) -> list[Scored]:
    """All documents that *where* lets through, nearest first."""
    query, score = np.asarray(vector, dtype=np.float32), SCORES[similarity]
    found = [
        Scored(name, score(query, stored.vector), dict(stored.source))
        for name, stored in documents.items()
        if stored.vector is not None and passes(name, stored.source, where)
    ]
    return sorted(found, key=lambda hit: -hit.score)


def lexical(documents: Mapping[str, Stored], query: str, fields: Sequence[str], where: Where) -> list[Scored]:
    """Documents with at least one word of *query* in a text field, most words first."""
    wanted = set(_words(query))
    found = []
    for name, stored in documents.items():
        words = [word for field in fields for word in _words(str(stored.source.get(field, "")))]
        score = sum(1 for word in wanted if word in words) + len(wanted & set(words)) / (1 + len(words))
        if wanted & set(words) and passes(name, stored.source, where):
            found.append(Scored(name, float(score), dict(stored.source)))
    return sorted(found, key=lambda hit: -hit.score)


def counted(documents: Mapping[str, Stored], where: Where) -> int:
    """How many documents meet every clause; a vector is no part of `_source`, and yet it may exist."""
    told = {name: {**stored.source, VECTOR: stored.vector} for name, stored in documents.items()}
    return sum(passes(name, source, where) for name, source in told.items())


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def passes(name: str, source: Mapping[str, Any], where: Where) -> bool:
    """Whether a document meets every clause: `term`, `terms`, `range`, `exists`, `ids`, `bool`."""
    return all(_clause(name, source, kind, what) for clause in where for kind, what in clause.items())


def _clause(name: str, source: Mapping[str, Any], kind: str, what: Mapping[str, Any]) -> bool:
    if kind == "ids":
        return name in what["values"]
    if kind == "exists":
        return source.get(what["field"]) is not None
    if kind == "bool":
        forbidden = any(passes(name, source, [one]) for one in what.get("must_not", ()))
        return not forbidden and passes(name, source, what.get("filter", ()))
    field, wanted = next(iter(what.items()))
    values = source.get(field)
    return any(_fits(kind, wanted, value) for value in (values if isinstance(values, list) else [values]))


def _fits(kind: str, wanted: Any, value: Any) -> bool:
    if kind == "term":
        return bool(value == (wanted["value"] if isinstance(wanted, dict) else wanted))
    if kind == "terms":
        return value in wanted
    if kind != "range":
        raise ValueError(f"The twin does not know the query clause {kind}")
    return value is not None and all(BOUNDS[bound](value, limit) for bound, limit in wanted.items())
