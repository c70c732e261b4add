"""What is made of answers that healthy engines seldom give: a carrier that says what it is told to."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from app.errors import (
    DiskFull,
    EngineBusy,
    EngineError,
    EngineUnavailable,
    Forbidden,
    IndexMissing,
    SourceGone,
    SwitchSpent,
)
from app.sync.engines.elasticsearch import Elasticsearch
from app.sync.engines.opensearch import OpenSearch
from app.sync.engines.wire import Request, Wire, pieces
from app.sync.engines.writing import Writing
from app.sync.words import Line, Move, Shape, Slice
from tests.contract.engine_kit import MARK

pytestmark = pytest.mark.anyio

PIT = "shop|uuid-1|1|60|abc"
SHOP = {"shop": {"settings": {"index": {"uuid": "uuid-1", "number_of_shards": "1"}}, "aliases": {}}}


class Script:
    """A carrier that gives the prepared answers in turn and remembers what it was asked."""

    def __init__(self, answers: Sequence[tuple[int, Any]]) -> None:
        self.answers, self.asked, self.bodies = list(answers), [], []

    async def send(self, request: Request) -> tuple[int, bytes]:
        self.asked.append(f"{request.method} {request.path}")
        self.bodies.append(request.body)
        status, body = self.answers.pop(0)
        return status, body if isinstance(body, bytes) else orjson.dumps(body)

    async def close(self) -> None:
        return


def engine(*answers: tuple[int, Any], dialect: Any = None) -> tuple[Writing, Script]:
    script = Script(answers)
    return Writing(Wire(script, "Elasticsearch at http://e:9200"), dialect or Elasticsearch(), "9.5.3"), script


def refusal(kind: str, reason: str = "why") -> dict[str, Any]:
    return {"error": {"type": kind, "reason": reason}}


def hits(*ids: str, failed: int = 0, timed_out: bool = False, **shards: Any) -> dict[str, Any]:
    found = [{"_id": name, "_source": {}, "sort": [number]} for number, name in enumerate(ids)]
    return {"timed_out": timed_out, "_shards": {"failed": failed, **shards}, "hits": {"hits": found}}


# --- blocks ----------------------------------------------------------------------------------------------------------


async def test_a_block_that_not_every_shard_acknowledged_is_lifted_and_taken_again() -> None:
    under_way = {"acknowledged": True, "shards_acknowledged": False, "indices": []}
    done = {"acknowledged": True, "shards_acknowledged": True}
    opened, script = engine((200, under_way), (200, {"acknowledged": True}), (200, done))
    await opened.block("shop")
    assert script.asked == ["PUT /shop/_block/write", "PUT /shop/_settings", "PUT /shop/_block/write"]


async def test_a_block_that_is_never_acknowledged_is_no_block() -> None:
    opened, script = engine(*[(200, {"shards_acknowledged": False})] * 20)
    with pytest.raises(EngineUnavailable):
        await opened.block("shop")
    assert len(script.asked) == 10


# --- aliases ---------------------------------------------------------------------------------------------------------


async def test_an_answer_with_errors_is_a_refusal() -> None:
    opened, _ = engine((200, {"acknowledged": True, "errors": True, "action_results": []}))
    with pytest.raises(SwitchSpent):
        await opened.burn("live", 3, "shop-1")


async def test_an_overloaded_engine_has_not_refused_a_number() -> None:
    opened, _ = engine((429, refusal("circuit_breaking_exception")))
    with pytest.raises(EngineBusy):
        await opened.move(Move("live", 3, "shop-1", "shop-1", "shop-2"))


async def test_an_engine_that_fails_otherwise_has_not_refused_a_number() -> None:
    opened, _ = engine((500, refusal("null_pointer_exception")))
    with pytest.raises(EngineUnavailable):
        await opened.burn("live", 3, "shop-1")


async def test_a_second_write_index_is_a_lost_race() -> None:
    lost = refusal("illegal_state_exception", "alias [live] has more than one write index")
    opened, _ = engine((404, {}), (500, lost))
    with pytest.raises(SwitchSpent):
        await opened.move(Move("live", 0, "shop-1", None, "shop-1"))


# --- pages -----------------------------------------------------------------------------------------------------------


async def test_a_failed_shard_is_no_short_page() -> None:
    failures = [{"reason": refusal("search_context_missing_exception")["error"]}]
    for answer, wanted in (
        (hits("a", failed=1), EngineUnavailable),
        (hits(failed=1, failures=failures), SourceGone),
        (hits("a", timed_out=True), EngineUnavailable),
    ):
        opened, _ = engine((200, answer))
        with pytest.raises(wanted):
            await opened.page(PIT, Slice(0, 1), None, 10, [])


async def test_a_deleted_source_is_told_from_a_busy_engine() -> None:
    busy = refusal("no_shard_available_action_exception")
    opened, _ = engine((503, busy), (200, SHOP))
    with pytest.raises(EngineUnavailable):
        await opened.page(PIT, Slice(0, 1), None, 10, [])
    other = {"shop": {"settings": {"index": {"uuid": "uuid-2", "number_of_shards": "1"}}}}
    for found in ((404, {}), (200, other)):
        opened, _ = engine((503, busy), found)
        with pytest.raises(SourceGone):
            await opened.page(PIT, Slice(0, 1), None, 10, [])


async def test_an_order_that_is_unknown_is_learnt_once() -> None:
    unknown = refusal("query_shard_exception", "No mapping found for [_shard_doc] in order to sort on")
    opened, script = engine((400, unknown), (200, hits("a")), (200, hits("b")), dialect=OpenSearch())
    first = await opened.page(PIT, Slice(0, 1), None, 10, [])
    await opened.page(PIT, Slice(0, 1), first.cursor, 10, [])
    assert len(script.asked) == 3


def test_each_opensearch_slice_lies_within_one_shard() -> None:
    for primaries, parts in ((3, 2), (3, 1), (1, 4), (4, 2)):
        found = [one for number in range(parts) for one in OpenSearch().slices(Slice(number, parts), primaries)]
        whole = {one.of for one in found}
        assert len(whole) == 1
        assert whole.pop() % primaries == 0
        assert sorted(one.number for one in found) == list(range(found[0].of))


async def test_what_is_no_point_in_time_of_ours_is_gone() -> None:
    opened, _ = engine()
    with pytest.raises(SourceGone):
        await opened.page("abc", Slice(0, 1), None, 10, [])


# --- by id, refresh, bulk --------------------------------------------------------------------------------------------


async def test_trouble_is_no_absence() -> None:
    missing = refusal("index_not_found_exception")["error"]
    opened, _ = engine((200, {"docs": [{"_id": "a", "found": False}, {"_id": "b", "error": missing}]}))
    with pytest.raises(IndexMissing):
        await opened.get("shop", ["a", "b"], [])
    opened, _ = engine((200, {"docs": [{"_id": "a"}]}))
    with pytest.raises(EngineError):
        await opened.get("shop", ["a"], [])


async def test_a_refresh_that_is_not_permitted_is_told_apart() -> None:
    opened, _ = engine((403, refusal("security_exception", "action [indices:admin/refresh] is unauthorized")))
    with pytest.raises(Forbidden, match="indices:admin/refresh"):
        await opened.refresh("shop")
    opened, _ = engine((200, {"_shards": {"failed": 1}}))
    with pytest.raises(EngineUnavailable):
        await opened.refresh("shop")


async def test_an_answer_with_too_few_items_is_an_error() -> None:
    opened, _ = engine((200, {"errors": True, "items": [{"index": {"status": 200}}]}))
    with pytest.raises(EngineError, match="2 lines"):
        await opened.bulk("fill", [Line("a", b"{}", b"{}"), Line("b", b"{}", b"{}")])


async def test_a_full_disk_is_named() -> None:
    opened, _ = engine((403, refusal("cluster_block_exception", "cluster create-index blocked (api)")))
    with pytest.raises(DiskFull, match="Free space"):
        await opened.create("shop", Shape({}, 4), [], MARK)


async def test_a_setting_that_is_unknown_is_left_out_once() -> None:
    unknown = refusal("illegal_argument_exception", "unknown setting [index.knn.derived_source.enabled]")
    opened, script = engine((400, unknown), (200, {}), (200, {}), dialect=OpenSearch())
    await opened.create("shop-1", Shape({}, 4), [], MARK)
    await opened.create("shop-2", Shape({}, 4), [], MARK)
    assert script.asked == ["PUT /shop-1", "PUT /shop-1", "PUT /shop-2"]


async def test_an_answer_that_is_no_json_is_passed_on_shortened() -> None:
    opened, _ = engine((502, b"<html>Bad gateway</html>"))
    with pytest.raises(EngineUnavailable, match="Bad gateway"):
        await opened.resolve("shop")


async def test_a_large_answer_is_decoded_too() -> None:
    opened, _ = engine((200, {"number_of_data_nodes": 2, "filler": "x" * 2_000_000}))
    assert (await opened.about()).data_nodes == 2


async def test_pieces_make_up_the_body() -> None:
    body = bytes(range(256)) * 3000
    assert b"".join([piece async for piece in pieces(body)]) == body
