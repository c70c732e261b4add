"""What an index holds, by columns; counts by query; what room there is: over the twin and every real engine."""

from collections.abc import Mapping
from typing import Any

import pytest

from app.errors import EngineError, IndexMissing, SourceGone
from app.sync.engine_port import Engine
from app.sync.words import Slice
from tests.contract.engine_kit import bodies, draft, raw_line, taken, told, unit

pytestmark = pytest.mark.anyio

VECTOR = {"exists": {"field": "embedding"}}

Held = list[tuple[str, str, str]]


async def held(engine: Engine, pit: str, part: Slice, size: int = 40) -> Held:
    """Everything in one part of a point in time: ids, inputs, texts."""
    found: Held = []
    page = await engine.holding(pit, part, None, size)
    while page.cursor is not None:
        assert 0 < len(page.ids) <= size
        found += zip(page.ids, page.inputs, page.texts, strict=True)
        page = await engine.holding(pit, part, page.cursor, size)
    assert page.ids == page.inputs == page.texts == []
    return found


async def all_of(engine: Engine, index: str, parts: int = 1, size: int = 40) -> Held:
    pit = await engine.open_pit(index, 60)
    try:
        return [one for number in range(parts) for one in await held(engine, pit, Slice(number, parts), size)]
    finally:
        await engine.close_pit(pit)


async def stocked(engine: Engine, name: str, count: int, **how: object) -> str:
    """A draft whose documents have columns, visible to searches; its fill alias."""
    fill = await draft(engine, name, **how)
    assert taken(await engine.bulk(fill, engine.lines(told(count), unit(count), 10)))
    await engine.refresh(name)
    return fill


@pytest.mark.parametrize(("shards", "parts"), [(1, 1), (1, 3), (3, 1), (3, 2), (3, 3), (2, 4)])
async def test_all_is_told_once(engine: Engine, name: str, shards: int, parts: int) -> None:
    await stocked(engine, name, 300, shards=shards)
    found = await all_of(engine, name, parts)
    assert len(found) == 300
    assert set(found) == {(one, f"input of {one}", f"text of {one}") for one, _ in bodies(300)}


async def test_ten_thousand_are_told_at_once(engine: Engine, name: str) -> None:
    await stocked(engine, name, 500)
    pit = await engine.open_pit(name, 60)
    page = await engine.holding(pit, Slice(0, 1), None, 10_000)
    assert len(page.ids) == 500
    assert (await engine.holding(pit, Slice(0, 1), page.cursor, 10_000)).cursor is None
    await engine.close_pit(pit)


async def test_an_empty_index_holds_nothing(engine: Engine, name: str) -> None:
    await stocked(engine, name, 0)
    assert await all_of(engine, name, 2) == []


async def test_what_was_changed_and_deleted_is_told_as_it_is_now(engine: Engine, name: str) -> None:
    fill = await stocked(engine, name, 4)
    changed = [("p1", {"source_id": "p1", "input_hash": "another", "text_hash": "text of p1"})]
    await engine.bulk(fill, [*engine.lines(changed, unit(1), 11), *engine.deletions(["p2"], 11)])
    pit = await engine.open_pit(name, 60)
    await engine.refresh(name)
    assert len(await held(engine, pit, Slice(0, 1))) == 4
    await engine.close_pit(pit)
    now = {one: (inputs, texts) for one, inputs, texts in await all_of(engine, name)}
    assert set(now) == {"p0", "p1", "p3"}
    assert now["p1"] == ("another", "text of p1")


async def test_hashes_that_are_not_there_are_empty(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    lines = engine.lines([("a", {"source_id": "a"}), ("b", {"source_id": "b", "text_hash": None})], unit(2), 1)
    assert taken(await engine.bulk(fill, lines))
    await engine.refresh(name)
    assert sorted(await all_of(engine, name)) == [("a", "", ""), ("b", "", "")]


async def test_an_index_that_is_not_ours_is_refused(engine: Engine, name: str) -> None:
    fill = await stocked(engine, name, 2)
    assert taken(await engine.bulk(fill, engine.lines([("x", {"text": "no id"})], unit(1), 1)))
    await engine.refresh(name)
    with pytest.raises(EngineError) as refused:
        await all_of(engine, name)
    assert refused.value.code == "not_ours"


async def test_an_index_that_goes_is_no_empty_one(engine: Engine, name: str) -> None:
    await stocked(engine, name, 10)
    pit = await engine.open_pit(name, 60)
    page = await engine.holding(pit, Slice(0, 1), None, 3)
    await engine.drop(name)
    with pytest.raises(SourceGone):
        await engine.holding(pit, Slice(0, 1), page.cursor, 3)


KINDS: Mapping[str, Mapping[str, Any]] = {
    "the engine's own graph": {},
    "a graph of all bits": {"vector_index": "hnsw"},
    "a graph of bytes": {"vector_index": "int8_hnsw"},
    "no graph yet": {"graph_later": True},
    "no graph yet, all bits": {"graph_later": True, "vector_index": "hnsw"},
    "another similarity": {"similarity": "l2_norm", "shards": 2},
}


@pytest.mark.parametrize("how", KINDS.values(), ids=KINDS)
async def test_documents_with_a_vector_are_counted(engine: Engine, name: str, how: Mapping[str, Any]) -> None:
    fill = await draft(engine, name, **how)
    model = {"embed_model_alias": "hashing", "embed_model_version": "1"}
    marked = [(one, {**body, **model}) for one, body in bodies(7)]
    assert taken(await engine.bulk(fill, engine.lines(marked, unit(7), 1)))
    assert taken(await engine.bulk(fill, engine.lines(bodies(9)[7:], unit(2), 1)))
    assert taken(await engine.bulk(fill, [raw_line("bare", b'{"embed_model_alias":"hashing"}')]))
    await engine.refresh(name)
    terms = [{"term": {key: value}} for key, value in model.items()]
    assert await engine.counted(name, []) == 10
    assert await engine.counted(name, [VECTOR]) == 9
    assert await engine.counted(name, terms[:1]) == 8
    assert await engine.counted(name, [VECTOR, *terms]) == 7
    assert await engine.counted(name, [{"term": {"embed_model_alias": "other"}}]) == 0


async def test_a_count_is_of_an_index_that_is_there(engine: Engine, name: str) -> None:
    with pytest.raises(IndexMissing):
        await engine.counted(name, [])


async def test_an_engine_tells_its_room(engine: Engine) -> None:
    room = await engine.room()
    assert room.nodes == 1
    if (await engine.about()).kind != "memory":
        assert room.free is not None
        assert room.total is not None
        assert 0 < room.free < room.total
        assert room.shards is not None
        assert 0 < room.shards < 1_000_000
