"""Clones of a live index, and what is written to them: over the twin and every real engine."""

from collections.abc import Sequence
from uuid import uuid4

import pytest

from app.config import EngineSettings
from app.errors import Conflict, EngineError, IndexMissing
from app.sync.engine_port import Engine
from app.sync.engines import open_engine
from app.sync.words import Hit, Mark, Vectors
from tests.contract.engine_kit import MARK, bodies, draft, filled, ids, shape, taken, unit

pytestmark = pytest.mark.anyio

NAMES = [f"p{number}" for number in range(50)]


async def lived(engine: Engine, name: str, **how: object) -> tuple[str, Vectors]:
    """An index of 50 documents, the last 20 of them neither flushed nor refreshed; its fill alias and vectors."""
    fill = await draft(engine, name, **how)
    vectors = unit(50)
    assert taken(await engine.bulk(fill, engine.lines(bodies(50)[:30], vectors[:30], 10)))
    await engine.refresh(name)
    assert taken(await engine.bulk(fill, engine.lines(bodies(50)[30:], vectors[30:], 11)))
    return fill, vectors


async def cloned(engine: Engine, name: str) -> tuple[str, str]:
    """A clone of *name* and the alias through which it is filled."""
    clone, fill = f"{name}-clone", f"{name}-clone.fill-1"
    await engine.block(name)
    await engine.clone(name, clone, [fill])
    return clone, fill


async def everything(engine: Engine, index: str) -> Sequence[Hit]:
    return sorted(await engine.get(index, NAMES, None), key=lambda hit: hit.id)


@pytest.mark.parametrize("shards", [1, 2])
async def test_a_clone_equals_what_it_was_made_of(engine: Engine, name: str, shards: int) -> None:
    _, vectors = await lived(engine, name, shards=shards)
    clone, _ = await cloned(engine, name)
    assert await ids(engine, clone) == set(NAMES)
    assert await everything(engine, clone) == await everything(engine, name)
    assert {hit.version for hit in await everything(engine, clone)} == {10, 11}
    stored = await engine.vectors(clone, NAMES)
    assert [stored[one].tobytes() for one in NAMES] == [row.tobytes() for row in vectors]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"shards": 2, "settings": {"index": {"refresh_interval": "7s", "codec": "best_compression"}}},
        {"vector_index": "int8_hnsw", "settings": {"number_of_replicas": 1, "mapping.total_fields.limit": 2000}},
        {"graph_later": True, "settings": {"gc_deletes": "1s"}},
    ],
)
async def test_a_clone_is_as_one_that_is_being_loaded(engine: Engine, name: str, how: dict[str, object]) -> None:
    await lived(engine, name, **how)
    clone, fill = await cloned(engine, name)
    (info,) = await engine.resolve(clone)
    assert (info.primaries, info.replicas, info.refresh_seconds) == (how.get("shards", 1), 0, -1)
    assert (info.aliases, info.write_blocked, info.mark) == ({fill: False}, False, MARK)
    (live,) = await engine.resolve(name)
    assert live.write_blocked
    assert live.uuid != info.uuid


async def test_how_vectors_are_taken_is_found_out_on_a_clone_where_no_index_was_made(elasticsearch9: str) -> None:
    name = f"t{uuid4().hex[:12]}"
    first, later = [await open_engine(EngineSettings(url=elasticsearch9)) for _ in range(2)]
    try:
        await lived(first, name)
        clone, fill = await cloned(later, name)
        assert (await later.about()).abilities["base64_vectors"]
        (line,) = later.lines(bodies(1), unit(1), 20)
        assert b'"embedding":"' in (line.body or b"")
        assert taken(await later.bulk(fill, [line]))
        await later.refresh(clone)
        assert await ids(later, clone) == set(NAMES)
    finally:
        for one in (name, f"{name}-clone"):
            await first.drop(one)
        await first.close()
        await later.close()


async def test_a_clone_takes_writes_while_what_it_was_made_of_takes_none(engine: Engine, name: str) -> None:
    fill, _ = await lived(engine, name)
    clone, own = await cloned(engine, name)
    more = [("new", {"name": "sofa", "text": "sofa"}), ("p1", {"name": "chair", "text": "chair"})]
    lines = engine.lines(more, unit(2, seed=5), 12)
    assert {item.status for item in await engine.bulk(fill, lines)} == {403}
    assert taken(await engine.bulk(own, lines))
    assert [hit.source["name"] for hit in await engine.get(clone, ["new", "p1"], ["name"])] == ["sofa", "chair"]
    assert [hit.source["name"] for hit in await engine.get(name, ["new", "p1"], ["name"])] == ["lamp 1"]
    await engine.unblock(name)
    assert taken(await engine.bulk(fill, engine.lines([("old", {})], unit(1), 12)))
    assert await engine.get(clone, ["old"], None) == []


async def test_versions_are_kept_in_a_clone_and_tombstones_are_not(engine: Engine, name: str) -> None:
    fill, _ = await lived(engine, name)
    assert taken(await engine.bulk(fill, engine.deletions(["p1"], 20)))
    _, own = await cloned(engine, name)
    older = engine.lines([("p2", {}), ("p40", {}), ("p1", {})], unit(3), 10)
    assert [item.status for item in await engine.bulk(own, older)] == [200, 409, 201]


async def test_deletions_carry_a_version(engine: Engine, name: str) -> None:
    await lived(engine, name)
    clone, own = await cloned(engine, name)
    gone = ["p1", "p40", "never", 'with "quotes" and ü']
    assert [item.status for item in await engine.bulk(own, engine.deletions(gone, 10))] == [200, 409, 404, 404]
    late = engine.lines([("p1", {}), ("never", {})], unit(2), 9)
    assert [item.status for item in await engine.bulk(own, late)] == [409, 409]
    assert [hit.id for hit in await engine.get(clone, gone, [])] == ["p40"]
    assert [hit.id for hit in await engine.get(name, gone, [])] == ["p1", "p40"]


@pytest.mark.parametrize("merged", [False, True])
async def test_neighbours_are_found_in_a_clone(engine: Engine, name: str, merged: bool) -> None:
    vectors = await filled(engine, name, 50, graph_later=merged)
    if merged:
        await engine.graph(name, shape(graph_later=True))
        assert await engine.merge(name, 60)
    clone, own = await cloned(engine, name)
    added = unit(1, seed=9)
    assert taken(await engine.bulk(own, engine.lines([("new", {"name": "new"})], added, 11)))
    await engine.refresh(clone)
    for wanted, vector in (("p7", vectors[7]), ("p31", vectors[31]), ("new", added[0])):
        assert (await engine.nearest(clone, vector.tolist(), 3, 50, []))[0].id == wanted


async def test_a_name_that_is_taken_is_left_alone(engine: Engine, name: str) -> None:
    await filled(engine, name, 3)
    await filled(engine, f"{name}-clone", 5)
    await engine.block(name)
    with pytest.raises(Conflict) as refused:
        await engine.clone(name, f"{name}-clone", [])
    assert refused.value.code == "index_exists"
    assert len(await ids(engine, f"{name}-clone")) == 5


async def test_what_takes_writes_is_not_cloned(engine: Engine, name: str) -> None:
    await filled(engine, name, 3)
    with pytest.raises(EngineError) as refused:
        await engine.clone(name, f"{name}-clone", [])
    assert refused.value.code == "clone_refused"
    assert not refused.value.transient
    assert [info.name for info in await engine.listed(name)] == [name]


async def test_what_is_not_there_is_not_cloned(engine: Engine, name: str) -> None:
    with pytest.raises(IndexMissing):
        await engine.clone(name, f"{name}-clone", [])
    await draft(engine, name)
    await engine.block(name)
    with pytest.raises(EngineError) as refused:
        await engine.clone(name, f"{name}-*", [])
    assert refused.value.code == "index_name"


async def test_another_mark_changes_nothing_else(engine: Engine, name: str) -> None:
    await lived(engine, name)
    clone, own = await cloned(engine, name)
    before = await engine.properties(clone)
    mark = Mark("reshelve", "shop", "run-2", "gen-2", "recipe-1")
    await engine.remark(clone, mark)
    assert ((await engine.resolve(clone))[0].mark, (await engine.resolve(name))[0].mark) == (mark, MARK)
    assert await engine.properties(clone) == before
    assert taken(await engine.bulk(own, engine.lines([("new", {"unknown": 1})], unit(1), 12)))
    assert "unknown" not in await engine.properties(clone)
