"""Clones that do not come up, engines that tell little, and kept vectors on a bad day: a carrier that says all that."""

from typing import Any

import numpy as np
import orjson
import pytest

from app.errors import DiskFull, EngineBusy, EngineError, EngineUnavailable, Problem, TooLargeForEngine
from app.sync.engines.store import MARK, Store, encoded
from app.sync.words import Mark, Room
from tests.unit.test_engine_answers import Script, engine, refusal

pytestmark = pytest.mark.anyio

# --- clones ----------------------------------------------------------------------------------------------------------

MADE = [(200, {}), (200, {"acknowledged": True, "shards_acknowledged": False})]


@pytest.mark.parametrize("health", [(408, {"status": "red"}), (503, refusal("unavailable_shards_exception"))])
async def test_a_clone_that_does_not_come_up_goes_again(health: tuple[int, Any]) -> None:
    asking, script = engine(*MADE, health, (200, {"acknowledged": True}))
    with pytest.raises(EngineUnavailable):
        await asking.clone("live", "draft", ["draft.fill-1"])
    assert script.asked[1:] == ["PUT /live/_clone/draft", "GET /_cluster/health/draft", "DELETE /draft"]


async def test_a_clone_that_cannot_be_dropped_is_told_as_it_failed() -> None:
    asking, script = engine(*MADE, (408, {"status": "red"}), (403, refusal("security_exception")))
    with pytest.raises(EngineUnavailable, match="did not bring the clone draft up"):
        await asking.clone("live", "draft", [])
    assert script.answers == []


async def test_a_replica_that_is_missing_does_not_matter() -> None:
    asking, script = engine(*MADE, (408, {"status": "yellow"}), (200, {"draft": {"mappings": {}}}))
    await asking.clone("live", "draft", [])
    assert script.asked[-2:] == ["GET /_cluster/health/draft", "GET /draft/_mapping"]


async def test_a_clone_that_is_refused_is_not_asked_for_again() -> None:
    must = "index live must block write operations to resize index"
    asking, script = engine((200, {}), (500, refusal("illegal_state_exception", must)))
    with pytest.raises(EngineError, match="must block") as refused:
        await asking.clone("live", "draft", [])
    assert (refused.value.code, refused.value.transient) == ("clone_refused", False)
    assert script.answers == []


async def test_another_mark_leaves_what_else_an_index_says_of_itself() -> None:
    meta = {"owner": "search team", "reshelve": {"run": "run-0"}}
    asking, script = engine((200, {"draft": {"mappings": {"_meta": meta}}}), (200, {"acknowledged": True}))
    await asking.remark("draft", Mark("reshelve", "shop", "run-1", "gen-1", "recipe-1"))
    told = orjson.loads(script.bodies[-1])["_meta"]
    assert (told["owner"], told["reshelve"]["run"]) == ("search team", "run-1")


# --- room ------------------------------------------------------------------------------------------------------------


def disk(free: int) -> dict[str, Any]:
    return {"fs": {"total": {"total_in_bytes": 1000, "available_in_bytes": free}}}


def most(**kinds: str) -> dict[str, Any]:
    return {kind: {"cluster": {"max_shards_per_node": value}} for kind, value in kinds.items()}


DISKS = (200, {"nodes": {"a": disk(70), "b": disk(30), "c": disk(50)}})
HEALTH = (200, {"number_of_data_nodes": 3, "active_shards": 40})
NO = (403, refusal("security_exception"))


@pytest.mark.parametrize(
    ("settings", "shards"),
    [
        (most(defaults="1000"), 2960),
        (most(persistent="20"), 20),
        (most(transient="15", persistent="20", defaults="1000"), 5),
        ({}, None),
    ],
)
async def test_the_fullest_disk_and_the_cap_that_holds_are_told(settings: dict[str, Any], shards: int | None) -> None:
    asking, _ = engine(DISKS, HEALTH, (200, settings))
    assert await asking.room() == Room(30, 1000, shards, 3)


@pytest.mark.parametrize(
    ("answers", "room"),
    [
        ((NO, HEALTH, (200, most(defaults="1000"))), Room(None, None, 2960, 3)),
        ((DISKS, NO, (200, most(defaults="1000"))), Room(30, 1000, None, 3)),
        ((DISKS, HEALTH, NO), Room(30, 1000, None, 3)),
        ((NO, NO, NO), Room(None, None, None, 1)),
        (((400, {}), HEALTH, (405, {})), Room(None, None, None, 3)),
    ],
)
async def test_what_may_not_be_asked_is_not_told(answers: tuple[Any, ...], room: Room) -> None:
    asking, script = engine(*answers)
    assert await asking.room() == room
    assert script.answers == []


async def test_an_engine_that_is_busy_has_not_told() -> None:
    asking, _ = engine((429, refusal("circuit_breaking_exception")))
    with pytest.raises(EngineBusy):
        await asking.room()


# --- kept vectors ----------------------------------------------------------------------------------------------------

SHOWN = (200, {"kept": {"mappings": {"_meta": MARK}}})
FEW = np.ones((2, 4), np.float32)


async def storing(*answers: tuple[int, Any]) -> tuple[Store, Script]:
    asking, script = engine(*answers)
    return Store(asking._wire, asking, "kept"), script


def items(*answers: tuple[int, str]) -> tuple[int, Any]:
    told = [{"index": {"status": status} | (refusal(kind) if kind else {})} for status, kind in answers]
    return (200, {"errors": any(kind for _, kind in answers), "items": told})


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        ((429, "es_rejected_execution_exception"), EngineBusy),
        ((429, "circuit_breaking_exception"), EngineBusy),
        ((503, "unavailable_shards_exception"), EngineUnavailable),
        ((500, "null_pointer_exception"), EngineUnavailable),
        ((404, "index_not_found_exception"), EngineUnavailable),
    ],
)
async def test_trouble_with_one_vector_lets_all_be_kept_again(item: tuple[int, str], kind: type[Problem]) -> None:
    store, _ = await storing(SHOWN, items((201, ""), item))
    with pytest.raises(kind) as failed:
        await store.keep(["a", "b"], FEW)
    assert failed.value.transient


async def test_a_full_disk_and_a_document_that_is_refused_are_final() -> None:
    store, _ = await storing(SHOWN, items((400, "document_parsing_exception"), (201, "")))
    with pytest.raises(EngineError) as failed:
        await store.keep(["a", "b"], FEW)
    assert not failed.value.transient
    flood = {"status": 429} | refusal("cluster_block_exception", "disk usage exceeded flood-stage watermark")
    store, _ = await storing(SHOWN, (200, {"errors": True, "items": [{"index": flood}]}))
    with pytest.raises(DiskFull):
        await store.keep(["a", "b"], FEW)


async def test_a_request_that_is_too_large_goes_in_halves() -> None:
    store, script = await storing(SHOWN, (413, {}), items((201, "")), items((201, "")))
    await store.keep(["a", "b"], FEW)
    assert script.asked[1:] == ["POST /kept/_bulk"] * 3
    store, _ = await storing(SHOWN, (413, {}))
    with pytest.raises(TooLargeForEngine):
        await store.keep(["a"], FEW[:1])


async def test_that_the_index_is_there_is_asked_once_in_a_while() -> None:
    known = (200, {"docs": [{"_id": "a", "found": False}]})
    store, script = await storing(SHOWN, known, known, items((201, "")), SHOWN, known)
    assert await store.known(["a"], 4) == {}
    assert await store.known(["a"], 4) == {}
    await store.keep(["a"], FEW[:1])
    store.seen -= 60
    assert await store.known(["a"], 4) == {}
    shown, read = "GET /kept/_mapping", "POST /kept/_mget"
    assert script.asked == [shown, read, read, "POST /kept/_bulk", shown, read]


async def test_a_shard_that_does_not_answer_is_no_empty_store() -> None:
    failed = {"_id": "a"} | refusal("no_shard_available_action_exception")
    store, _ = await storing(SHOWN, (200, {"docs": [failed]}))
    with pytest.raises(EngineUnavailable):
        await store.known(["a"], 4)


async def test_keys_that_are_gone_or_being_changed_are_left_as_they_are() -> None:
    met = items((200, ""), (404, "document_missing_exception"), (409, "version_conflict_engine_exception"))
    store, _ = await storing(SHOWN, met)
    await store.used(["a", "b", "c"], 5)
    store, _ = await storing(SHOWN, items((429, "es_rejected_execution_exception")))
    with pytest.raises(EngineBusy):
        await store.used(["a"], 5)


async def test_large_vectors_make_more_requests_of_bounded_size() -> None:
    many = np.ones((1500, 3072), np.float32)
    names = [f"{number:064x}" for number in range(len(many))]
    store, script = await storing(SHOWN, *[items((201, ""))] * 5)
    await store.keep(names, many)
    assert script.answers == []
    assert len(encoded(names, many)) / 5 < 5 * 2**20
