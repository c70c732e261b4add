"""The reading half of the engine port: over the twin and every real engine."""

import anyio
import pytest

from app.errors import EngineError, IndexMissing, SourceGone
from app.sync.engine_port import Engine
from app.sync.engines import reading
from app.sync.words import Slice
from tests.contract.engine_kit import MARK, bodies, draft, filled, ids, read, unit

pytestmark = pytest.mark.anyio

LOOK_SECONDS = 70
"""Engines look every minute for points in time that are over."""


async def test_an_engine_says_what_it_is(engine: Engine) -> None:
    about = await engine.about()
    assert about.kind in ("memory", "elasticsearch", "opensearch")
    assert about.version[0].isdigit()
    assert about.data_nodes == 1


async def test_a_name_resolves_to_its_index_and_an_alias_to_the_same(engine: Engine, name: str) -> None:
    fill = await draft(engine, name, shards=2)
    (by_name,), (by_alias,) = await engine.resolve(name), await engine.resolve(fill)
    assert by_name == by_alias
    assert (by_name.name, by_name.primaries, by_name.replicas) == (name, 2, 0)
    assert by_name.aliases == {fill: False}
    assert by_name.mark == MARK
    assert by_name.uuid
    assert by_name.refresh_seconds == -1


async def test_what_does_not_exist_resolves_to_nothing(engine: Engine, name: str) -> None:
    assert await engine.resolve(name) == []


@pytest.mark.parametrize("pattern", ["*", "a*", "a,b", "_all", "", "-a", "<now>"])
async def test_a_pattern_is_never_a_name(engine: Engine, pattern: str) -> None:
    with pytest.raises(EngineError):
        await engine.resolve(pattern)
    with pytest.raises(EngineError):
        await engine.drop(pattern)


async def test_the_mapping_names_the_fields(engine: Engine, name: str) -> None:
    await draft(engine, name)
    properties = await engine.properties(name)
    assert properties["price"]["type"] == "double"
    assert properties["text"]["type"] == "text"
    assert "embedding" in properties


@pytest.mark.parametrize(("shards", "parts"), [(1, 1), (1, 3), (3, 1), (3, 2), (3, 3), (2, 4)])
async def test_slices_are_disjoint_and_complete(engine: Engine, name: str, shards: int, parts: int) -> None:
    await filled(engine, name, 300, shards=shards)
    pit = await engine.open_pit(name, 60)
    found = [hit.id for number in range(parts) for hit in await read(engine, pit, Slice(number, parts), 40, [])]
    await engine.close_pit(pit)
    assert len(found) == 300
    assert set(found) == {name for name, _ in bodies(300)}


async def test_a_point_in_time_does_not_move(engine: Engine, name: str) -> None:
    await filled(engine, name, 5)
    pit = await engine.open_pit(name, 60)
    await engine.bulk(f"{name}.fill-1", engine.lines([("new", {"name": "new"})], unit(1), 11))
    await engine.refresh(name)
    assert await engine.pit_count(pit, name) == 5
    assert [hit.id for hit in await engine.pit_get(pit, ["p1", "new"], [])] == ["p1"]
    await engine.close_pit(pit)
    assert "new" in await ids(engine, name)


async def test_a_page_brings_the_fields_that_were_asked_for(engine: Engine, name: str) -> None:
    await filled(engine, name, 3)
    pit = await engine.open_pit(name, 60)
    assert {tuple(hit.source) for hit in await read(engine, pit, Slice(0, 1), 10, [])} == {()}
    assert {tuple(hit.source) for hit in await read(engine, pit, Slice(0, 1), 10, ["na*"])} == {("name",)}
    assert {"name", "price", "text"} <= set((await read(engine, pit, Slice(0, 1), 10, None))[0].source)
    assert (await engine.pit_get(pit, ["p2"], ["price"]))[0].source == {"price": 3.0}
    await engine.close_pit(pit)


async def test_a_page_goes_on_where_the_last_one_ended_and_the_last_is_empty(engine: Engine, name: str) -> None:
    await filled(engine, name, 5)
    pit = await engine.open_pit(name, 60)
    first = await engine.page(pit, Slice(0, 1), None, 3, [])
    second = await engine.page(pit, Slice(0, 1), first.cursor, 3, [])
    last = await engine.page(pit, Slice(0, 1), second.cursor, 3, [])
    await engine.close_pit(pit)
    assert (len(first.hits), len(second.hits), len(last.hits)) == (3, 2, 0)
    assert last.cursor is None


async def test_a_closed_point_in_time_is_gone_and_may_be_closed_again(engine: Engine, name: str) -> None:
    await filled(engine, name, 2)
    pit = await engine.open_pit(name, 60)
    assert (await engine.search_stats(name))["open_contexts"] == 1
    await engine.close_pit(pit)
    await engine.close_pit(pit)
    assert (await engine.search_stats(name))["open_contexts"] == 0
    with pytest.raises(SourceGone):
        await engine.page(pit, Slice(0, 1), None, 10, [])


async def test_a_deleted_index_ends_its_points_in_time(engine: Engine, name: str) -> None:
    await filled(engine, name, 2)
    pit = await engine.open_pit(name, 60)
    await engine.drop(name)
    with pytest.raises(SourceGone):
        await engine.page(pit, Slice(0, 1), None, 10, [])
    await engine.close_pit(pit)


async def test_a_recreated_index_is_not_the_one_that_was_read(engine: Engine, name: str) -> None:
    await filled(engine, name, 2)
    pit = await engine.open_pit(name, 60)
    await engine.drop(name)
    await filled(engine, name, 2)
    with pytest.raises(SourceGone):
        await engine.pit_get(pit, ["p1"], [])
    await engine.close_pit(pit)


async def test_a_point_in_time_needs_an_index(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    with pytest.raises(IndexMissing):
        await engine.open_pit(f"{name}-other", 60)
    if (await engine.about()).kind != "memory":
        with pytest.raises(IndexMissing):
            await engine.open_pit(fill, 60)


async def test_reading_by_id_is_real_time_and_brings_versions_but_no_vectors(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    await engine.bulk(fill, engine.lines(bodies(3), unit(3), 10))
    found = {hit.id: hit for hit in await engine.get(name, ["p0", "p2", "none"], None)}
    assert set(found) == {"p0", "p2"}
    assert found["p2"].version == 10
    assert found["p2"].source == bodies(3)[2][1]
    assert (await engine.get(name, ["p1"], ["sku"]))[0].source == {"sku": "S-1"}
    assert (await engine.get(name, ["p1"], []))[0].source == {}
    assert await engine.get(name, [], None) == []


async def test_reading_by_id_from_nothing_is_no_absence(engine: Engine, name: str) -> None:
    with pytest.raises(IndexMissing):
        await engine.get(name, ["p1"], None)


async def test_what_was_written_is_seen_after_a_refresh(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    await engine.bulk(fill, engine.lines(bodies(4), unit(4), 10))
    assert await ids(engine, name) == set()
    await engine.refresh(name)
    stats = await engine.search_stats(name)
    assert stats["documents"] == 4
    assert stats["bytes"] > 0
    assert len(await ids(engine, name)) == 4


@pytest.mark.long
@pytest.mark.parametrize("engine_home", ["elasticsearch9", "opensearch3"], indirect=True)
async def test_a_point_in_time_that_nobody_reads_ends_early(
    engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "OPENED_SECONDS", 1)
    await filled(engine, name, 5)
    known, lost = await engine.open_pit(name, 600), await engine.open_pit(name, 600)
    assert await engine.pit_count(known, name) == 5
    await anyio.sleep(1 + LOOK_SECONDS)
    assert await engine.pit_count(known, name) == 5
    with pytest.raises(SourceGone):
        await engine.pit_count(lost, name)
    await engine.close_pit(known)


async def test_more_ids_than_one_request_takes(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    await engine.bulk(fill, engine.lines(bodies(1100), unit(1100), 10))
    await engine.refresh(name)
    wanted = [f"p{number}" for number in range(1200)]
    assert len(await engine.get(name, wanted, [])) == 1100
    pit = await engine.open_pit(name, 60)
    assert len(await engine.pit_get(pit, wanted, [])) == 1100
    await engine.close_pit(pit)
