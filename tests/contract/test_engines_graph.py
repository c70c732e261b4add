"""A draft that is loaded without the graph of its vectors has it after the merge, and finds the same."""

import httpx
import pytest

from app.config import EngineSettings
from app.sync.engine_port import Engine
from app.sync.engines import open_engine
from app.sync.words import Shape, Vectors
from tests.contract.engine_kit import MARK, bodies, shape, unit

pytestmark = pytest.mark.anyio

DIMS = 64
VECTORS = unit(400, DIMS)
MANY = unit(12_000, DIMS)  # for a few hundred the engine builds no graph at all


async def load(engine: Engine, index: str, wanted: Shape, vectors: Vectors) -> None:
    """Two requests with a refresh between them, as a run does; then the graph is asked for, twice, and merged."""
    await engine.create(index, wanted, [f"{index}-fill"], MARK)
    lines = engine.lines(bodies(len(vectors)), vectors, 1)
    for part in (lines[:100], lines[100:]):
        assert all(item.status < 300 for item in await engine.bulk(f"{index}-fill", part))
        await engine.refresh(index)
    await engine.graph(index, wanted)
    await engine.graph(index, wanted)
    assert await engine.merge(index, 60)
    await engine.refresh(index)


@pytest.mark.parametrize("vector_index", [None, "hnsw"])
async def test_each_product_is_found_by_its_own_vector(engine: Engine, name: str, vector_index: str | None) -> None:
    await load(engine, f"{name}-1", shape(DIMS, graph_later=True, vector_index=vector_index), VECTORS)
    for row in (0, 99, 100, 399):
        assert (await engine.nearest(f"{name}-1", VECTORS[row].tolist(), 1, 50, []))[0].id == f"p{row}"


@pytest.mark.engine
async def test_elasticsearch_builds_the_graph_in_the_merge(elasticsearch9: str) -> None:
    engine, index = await open_engine(EngineSettings(url=elasticsearch9)), "graph-later-1"
    try:
        await load(engine, index, shape(DIMS, graph_later=True), MANY)
        async with httpx.AsyncClient(base_url=elasticsearch9) as client:
            found = (await client.get(f"/{index}/_stats/dense_vector")).json()["_all"]["primaries"]["dense_vector"]
        assert found["off_heap"]["total_vex_size_bytes"] > 0
    finally:
        await engine.drop(index)
        await engine.close()
