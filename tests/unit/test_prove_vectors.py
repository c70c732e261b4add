"""Which vectors are equal, and which documents count as found: equal ones tie, those of another text never do."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import anyio
import numpy as np
import pytest

from app.sync.fit import unit
from app.sync.limits import Limits, ignore
from app.sync.prove_vectors import NEIGHBOURS, check_self, finds_itself, same_bits
from app.sync.vectors import content_key
from app.sync.words import ModelStamp, Vectors

pytestmark = pytest.mark.anyio

OWN = unit(np.array([[3, 1, 4, 1]], np.float32))[0][0]
OTHER = unit(np.array([[-2, 7, 1, 8]], np.float32))[0][0]
FORGOTTEN = {7, 9}
TWINS = {f"t{number}": OWN for number in range(NEIGHBOURS)}


class Index:
    """Stored vectors, of which only *shown* are ever found."""

    def __init__(self, stored: dict[str, Vectors], *shown: str) -> None:
        self.stored, self.shown, self.candidates = stored, shown, list[int]()

    async def nearest(self, _index: str, _vector: Any, k: int, candidates: int, _where: Any) -> Sequence[Any]:
        self.candidates.append(candidates)
        return [SimpleNamespace(id=name) for name in self.shown[:k]]

    async def vectors(self, _index: str, ids: Sequence[str]) -> dict[str, Vectors]:
        return {one: self.stored[one] for one in ids if one in self.stored}


async def found(index: Index) -> bool:
    proof: Any = SimpleNamespace(target=index, draft=SimpleNamespace(index="draft"))
    document: Any = SimpleNamespace(id="own")
    return await finds_itself(proof, document, OWN)


async def test_what_is_among_its_neighbours_is_found_at_once() -> None:
    index = Index({"own": OWN}, "other", "own")
    assert await found(index)
    assert len(index.candidates) == 1


async def test_what_is_not_is_looked_for_harder() -> None:
    index = Index({"own": OWN, "other": OTHER}, "other")
    assert not await found(index)
    assert index.candidates == sorted(set(index.candidates))
    assert len(index.candidates) == 2


async def test_enough_equal_ones_in_its_place_are_a_tie() -> None:
    assert await found(Index({"own": OWN, **TWINS}, *TWINS))
    assert not await found(Index({"own": OWN, **TWINS}, *list(TWINS)[1:])), "there was room for it"
    assert not await found(Index({"own": OWN, **TWINS, "t3": OTHER}, *TWINS)), "it is nearer than that one"


async def test_what_has_another_vector_than_its_own_text_is_no_tie() -> None:
    assert not await found(Index({"own": OTHER, **TWINS}, *TWINS))
    assert not await found(Index(TWINS, *TWINS)), "it has none at all"


@pytest.mark.parametrize(
    ("hidden", "wrong", "passed"), [(0, 0, True), (2, 0, True), (3, 0, False), (0, 1, False), (1, 1, False)]
)
async def test_few_that_the_graph_passes_by_refuse_nothing(hidden: int, wrong: int, passed: bool) -> None:
    """Thirty-two are tried; *hidden* ones have the right vector and are never found, *wrong* ones that of another."""
    vectors = unit(np.random.default_rng(1).standard_normal((32, 8)).astype(np.float32))[0]
    documents: list[Any] = [
        SimpleNamespace(id=f"d{number}", text=str(number), text_hash=str(number)) for number in range(32)
    ]
    stamp = ModelStamp("m", "1", 8)
    keys = {content_key(one.text_hash, stamp): int(one.text) for one in documents}
    stored = {f"d{number}": vectors[-1 if number < wrong else number] for number in range(32)}
    lost = {f"d{number}" for number in range(wrong + hidden)}

    class Found(Index):
        async def nearest(self, _index: str, vector: Any, k: int, candidates: int, _where: Any) -> Sequence[Any]:
            return [SimpleNamespace(id=one) for one in self.shown if stored[one].tolist() == vector]

    async def known(wanted: Sequence[str], _dims: int) -> dict[str, Any]:
        return {key: vectors[keys[key]] for key in wanted if keys[key] not in FORGOTTEN}

    async def embed(texts: Sequence[str]) -> Any:
        assert {int(text) for text in texts} == FORGOTTEN, "what the store knows is not asked for again"
        return SimpleNamespace(vectors=vectors[[int(text) for text in texts]], tokens=7)

    kept: list[tuple[Any, ...]] = []

    async def keep(wanted: Sequence[str], rows: Any) -> None:
        kept.append(({keys[key] for key in wanted}, len(rows)))

    async def told_of(_draft: Any, _ids: Sequence[str]) -> set[str]:
        return set()

    told: list[tuple[Any, ...]] = []
    ports = SimpleNamespace(
        tally=SimpleNamespace(retried=lambda _step: ignore, embedded=lambda *what: told.append(what)),
        store=SimpleNamespace(known=known, keep=keep),
        limits=Limits(anyio.Semaphore(1), anyio.Semaphore(1)),
        ledger=SimpleNamespace(told_of=told_of),
    )
    proof: Any = SimpleNamespace(
        ports=ports, plan=SimpleNamespace(stamp=stamp), drawn=(),
        sample=SimpleNamespace(kept=[(one, OWN) for one in documents]),
        target=Found(stored, *(stored.keys() - lost)), draft=SimpleNamespace(index="draft"),
        embedder=SimpleNamespace(embed=embed), check=lambda *check: told.append(check),
    )  # fmt: skip
    await check_self(proof)
    paid, (_, _, found, verdict, _) = told
    assert (paid, kept) == ((2, 7), [(FORGOTTEN, 2)])
    assert (found, verdict) == (32 - hidden - wrong, passed)


def test_vectors_are_equal_to_the_last_bit() -> None:
    nearly = OWN.copy()
    nearly[2] = np.nextafter(nearly[2], np.float32(2))
    assert same_bits(OWN, OWN.copy())
    assert not same_bits(OWN, nearly)
    assert not same_bits(OWN, OWN.byteswap())
    assert not same_bits(OWN, OWN[:3])
    assert not same_bits(OWN, None)
