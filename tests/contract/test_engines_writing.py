"""The writing half of the engine port: drafts, bulk requests, blocks. Over the twin and every real engine."""

import numpy as np
import orjson
import pytest

from app.errors import Conflict, EngineError, IndexMissing
from app.sync.engine_port import Engine
from tests.contract.engine_kit import (
    MARK,
    bodies,
    delete_line,
    draft,
    filled,
    ids,
    raw_line,
    shape,
    taken,
    unit,
)

pytestmark = pytest.mark.anyio


async def test_a_name_is_given_once(engine: Engine, name: str) -> None:
    await draft(engine, name)
    with pytest.raises(Conflict) as refused:
        await engine.create(name, shape(), [], MARK)
    assert refused.value.code == "index_exists"


async def test_a_new_draft_is_empty(engine: Engine, name: str) -> None:
    await draft(engine, name)
    await engine.refresh(name)
    assert (await engine.search_stats(name))["documents"] == 0
    assert await ids(engine, name) == set()


async def test_declared_settings_are_laid_over_ours_but_tombstones_stay(engine: Engine, name: str) -> None:
    await draft(engine, name, settings={"index": {"refresh_interval": "7s"}, "gc_deletes": "1s"})
    assert (await engine.resolve(name))[0].refresh_seconds == 7


async def test_every_field_type_is_taken(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    body = {"name": ["a", "b"], "price": 1.25, "sku": "x" * 20_000, "stock": True, "made": "2026-07-01T10:00:00Z"}
    body["other"] = {"a": 1}
    assert taken(await engine.bulk(fill, engine.lines([("one", body)], unit(1), 1)))
    assert (await engine.get(name, ["one"], None))[0].source == body


async def test_vectors_come_back_bit_by_bit(engine: Engine, name: str) -> None:
    sent = await filled(engine, name, 20, dims=32)
    stored = await engine.vectors(name, [f"p{number}" for number in range(20)] + ["none"])
    assert len(stored) == 20
    for number in range(20):
        assert stored[f"p{number}"].dtype == np.float32
        assert stored[f"p{number}"].tobytes() == sent[number].tobytes()
    assert await engine.vectors(name, []) == {}


async def test_packed_vectors_are_used_where_the_engine_takes_them(engine: Engine, name: str) -> None:
    await draft(engine, name)
    about = await engine.about()
    newer = about.kind == "memory" or (about.kind == "elasticsearch" and int(about.version.split(".")[0]) >= 9)
    packed = b'"embedding":"' in (engine.lines([("a", {})], unit(1), 1)[0].body or b"")
    assert packed == about.abilities.get("base64_vectors", False) == newer


async def test_vectors_come_back_the_same_after_a_merge(engine: Engine, name: str) -> None:
    sent = await filled(engine, name, 20, dims=32)
    assert await engine.merge(name, 60)
    assert (await engine.vectors(name, ["p7"]))["p7"].tobytes() == sent[7].tobytes()


async def test_a_vector_in_the_wrong_byte_order_does_not_come_back_as_it_was(engine: Engine, name: str) -> None:
    """What the check of stored vectors is for: the engine takes such a vector without a word."""
    fill = await draft(engine, name)
    sent = unit(1)
    item = (await engine.bulk(fill, engine.lines([("swapped", {})], sent.byteswap(), 1)))[0]
    if item.error is None:
        assert (await engine.vectors(name, ["swapped"]))["swapped"].tobytes() != sent[0].tobytes()


async def test_a_vector_of_the_wrong_length_is_refused_alone(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    good, bad = engine.lines([("good", {})], unit(1), 1), engine.lines([("bad", {})], unit(1, 5), 1)
    items = await engine.bulk(fill, [*good, *bad])
    assert items[0].error is None
    assert items[1].status == 400
    assert "parsing_exception" in (items[1].error or "")


async def test_a_bad_document_is_refused_alone_and_in_its_place(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    lines = [*engine.lines(bodies(3), unit(3), 1), *engine.lines([("bad", {"price": "dear"})], unit(1), 1)]
    items = await engine.bulk(fill, [lines[0], lines[3], lines[1], lines[2]])
    assert [item.status for item in items] == [201, 400, 201, 201]
    assert items[1].reason


async def test_broken_json_is_refused_alone(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    items = await engine.bulk(fill, [raw_line("bad", b'{"price":NaN}'), *engine.lines(bodies(1), unit(1), 1)])
    assert items[0].status == 400
    assert items[1].error is None


async def test_an_id_that_is_too_long_is_told(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    with pytest.raises(EngineError) as refused:
        await engine.bulk(fill, engine.lines([("x" * 600, {})], unit(1), 1))
    assert refused.value.extra["engine_status"] == 400


async def test_a_large_request_goes_out_whole(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    large = [(f"p{number}", {"text": f"lamp {number} " * 400}) for number in range(500)]
    lines = engine.lines(large, unit(500), 1)
    assert sum(line.size for line in lines) > 1_500_000
    assert taken(await engine.bulk(fill, lines))
    assert (await engine.get(name, ["p499"], None))[0].source == large[499][1]


async def test_no_lines_are_no_request(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    assert list(await engine.bulk(fill, [])) == []


async def test_lines_are_json_on_one_line_whatever_is_in_them(engine: Engine) -> None:
    odd = {"name": 'a\nb\u2028"\\', "price": 2**70, "sku": "\ud800", "empty": None}
    (line,) = engine.lines([('i"d\n', odd)], unit(1), 3)
    assert b"\n" not in line.head + (line.body or b"")
    assert orjson.loads(line.head) == {"index": {"_id": 'i"d\n', "version": 3, "version_type": "external_gte"}}
    assert line.size == len(line.head) + len(line.body or b"") + 2
    (bare,) = engine.lines([("a", {})], unit(1), 3)
    assert set(orjson.loads(bare.body or b"")) == {"embedding"}


# --- versions --------------------------------------------------------------------------------------------------------


async def test_an_older_write_loses_and_an_equal_one_wins(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    await engine.bulk(fill, engine.lines([("a", {"name": "ten"})], unit(1), 10))
    older = (await engine.bulk(fill, engine.lines([("a", {"name": "nine"})], unit(1), 9)))[0]
    assert (older.status, older.error) == (409, "version_conflict_engine_exception")
    assert taken(await engine.bulk(fill, engine.lines([("a", {"name": "again"})], unit(1), 10)))
    found = (await engine.get(name, ["a"], None))[0]
    assert (found.version, found.source) == (10, {"name": "again"})


async def test_a_delete_leaves_a_tombstone_also_for_an_id_never_seen(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    await engine.bulk(fill, engine.lines([("a", {})], unit(1), 10))
    assert taken(await engine.bulk(fill, [delete_line("a", 11), delete_line("never", 11)]))
    late = await engine.bulk(fill, engine.lines([("a", {}), ("never", {})], unit(2), 10))
    assert [item.status for item in late] == [409, 409]
    assert await engine.get(name, ["a", "never"], []) == []


async def test_an_older_delete_loses(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    await engine.bulk(fill, engine.lines([("a", {})], unit(1), 10))
    assert (await engine.bulk(fill, [delete_line("a", 9)]))[0].status == 409


# --- through aliases only --------------------------------------------------------------------------------------------


async def test_nothing_is_written_or_created_through_an_alias_that_is_gone(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    await engine.swap_alias(name, fill, f"{name}.sealed")
    with pytest.raises(IndexMissing):
        await engine.bulk(fill, engine.lines(bodies(2), unit(2), 1))
    assert [info.name for info in await engine.listed(name)] == [name]
    await engine.refresh(name)
    assert await ids(engine, name) == set()


async def test_an_index_is_no_alias(engine: Engine, name: str) -> None:
    await draft(engine, name)
    with pytest.raises(IndexMissing):
        await engine.bulk(name, engine.lines(bodies(1), unit(1), 1))


async def test_nothing_is_created_through_the_alias_of_a_dropped_index(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    await engine.drop(name)
    with pytest.raises(IndexMissing):
        await engine.bulk(fill, engine.lines(bodies(1), unit(1), 1))
    assert await engine.listed(name) == []


# --- blocks, settings, health ----------------------------------------------------------------------------------------


async def test_a_block_refuses_writes_until_it_is_lifted(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    await engine.block(name)
    (item,) = await engine.bulk(fill, engine.lines(bodies(1), unit(1), 1))
    assert (item.status, item.error) == (403, "cluster_block_exception")
    assert (await engine.resolve(name))[0].write_blocked
    assert await engine.get(name, ["p0"], []) == []
    await engine.unblock(name)
    assert taken(await engine.bulk(fill, engine.lines(bodies(1), unit(1), 1)))
    assert not (await engine.resolve(name))[0].write_blocked


async def test_a_block_that_stands_already_is_taken_again(engine: Engine, name: str) -> None:
    await draft(engine, name)
    await engine.block(name)
    await engine.block(name)
    assert (await engine.resolve(name))[0].write_blocked


async def test_settling_restores_what_loading_switched_off(engine: Engine, name: str) -> None:
    await filled(engine, name, 2)
    await engine.settle(name, "2s", 1)
    (info,) = await engine.resolve(name)
    assert (info.refresh_seconds, info.replicas) == (2.0, 1)


async def test_green_is_waited_for_no_longer_than_said(engine: Engine, name: str) -> None:
    await filled(engine, name, 2)
    assert await engine.green(name, 20) == "green"
    await engine.settle(name, "1s", 1)
    assert await engine.green(name, 0) == "yellow"
    assert await engine.green(name, 1) == "yellow"


async def test_a_merge_ends_and_loses_nothing(engine: Engine, name: str) -> None:
    fill = await draft(engine, name, shards=2)
    for version in range(1, 5):
        await engine.bulk(fill, engine.lines(bodies(30), unit(30), version))
        await engine.refresh(name)
    assert await engine.merge(name, 60)
    await engine.refresh(name)
    assert (await engine.search_stats(name))["documents"] == 30


# --- listing and dropping --------------------------------------------------------------------------------------------


async def test_indices_are_listed_by_prefix_with_their_marks(engine: Engine, name: str) -> None:
    await draft(engine, f"{name}-a")
    await draft(engine, f"{name}-b")
    found = await engine.listed(f"{name}-")
    assert [(info.name, info.mark) for info in found] == [(f"{name}-a", MARK), (f"{name}-b", MARK)]
    assert await engine.listed(f"{name}-c") == []


async def test_dropping_twice_is_no_error_and_an_alias_is_never_dropped(engine: Engine, name: str) -> None:
    fill = await draft(engine, name)
    with pytest.raises(EngineError):
        await engine.drop(fill)
    assert await engine.resolve(name)
    await engine.drop(name)
    await engine.drop(name)
    assert await engine.resolve(name) == []


async def test_it_tells_whether_an_index_would_have_its_analyser(engine: Engine, name: str) -> None:
    assert await engine.analyses(shape())
    assert await engine.analyses(shape(analyzer="whitespace"))
    assert not await engine.analyses(shape(analyzer="no_such_analyser"))
    assert not await engine.analyses(shape(analyzer=""))
    if (await engine.about()).kind != "memory":
        own = {"analysis": {"analyzer": {"mine": {"type": "custom", "tokenizer": "standard"}}}}
        assert await engine.analyses(shape(analyzer="mine", settings=own))
        await draft(engine, name, analyzer="mine", settings=own)
