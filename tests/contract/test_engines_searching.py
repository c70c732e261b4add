"""Neighbours and words. Over the twin and every real engine."""

import pytest

from app.errors import EngineError
from app.sync.engine_port import Engine
from tests.contract.engine_kit import filled

pytestmark = pytest.mark.anyio

ODD = [{"range": {"price": {"gte": 30, "lte": 60}}}]


async def test_a_document_is_nearest_to_its_own_vector(engine: Engine, name: str) -> None:
    vectors = await filled(engine, name, 100, dims=32)
    hits = await engine.nearest(name, vectors[17].tolist(), 5, 100, [])
    assert len(hits) == 5
    assert hits[0].id == "p17"
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits[0].source["name"] == "lamp 17"
    assert "embedding" not in hits[0].source


@pytest.mark.parametrize("similarity", ["dot_product", "l2_norm"])
async def test_other_distances_find_it_too(engine: Engine, name: str, similarity: str) -> None:
    vectors = await filled(engine, name, 50, similarity=similarity)
    assert (await engine.nearest(name, vectors[9].tolist(), 1, 50, []))[0].id == "p9"
    assert (await engine.vectors(name, ["p9"]))["p9"].tobytes() == vectors[9].tobytes()


async def test_neighbours_are_filtered_while_they_are_searched(engine: Engine, name: str) -> None:
    vectors = await filled(engine, name, 100)
    hits = await engine.nearest(name, vectors[3].tolist(), 10, 20, ODD)
    assert len(hits) == 10
    assert all(30 <= hit.source["price"] <= 60 for hit in hits)


async def test_words_find_the_documents_that_have_them(engine: Engine, name: str) -> None:
    await filled(engine, name, 60)
    hits = await engine.lexical(name, "lamp 42", 3, [])
    assert hits[0].id == "p42"
    assert "embedding" not in hits[0].source
    filtered = await engine.lexical(name, "lamp", 60, ODD)
    assert len(filtered) == 21
    assert await engine.lexical(name, "nothing like it", 3, []) == []


async def test_a_long_text_is_a_query_too(engine: Engine, name: str) -> None:
    await filled(engine, name, 5)
    text = "lamp " + " ".join(f"word{number}" for number in range(5000))
    assert len(await engine.lexical(name, text, 5, [])) == 5


async def test_an_index_type_can_be_chosen(engine: Engine, name: str) -> None:
    vectors = await filled(engine, name, 50, dims=32, vector_index="int8_hnsw")
    assert (await engine.nearest(name, vectors[9].tolist(), 3, 50, []))[0].id == "p9"
    if (await engine.about()).kind != "memory":
        with pytest.raises(EngineError):
            await filled(engine, f"{name}-b", 1, vector_index="no_such_index")
