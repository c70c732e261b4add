"""The bulk sender on the twin, with faults put where real engines have them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
import pytest

from app.errors import (
    Blocked,
    DiskFull,
    EngineBusy,
    EngineError,
    EngineUnavailable,
    LeaseLost,
    Problem,
    TooLargeForEngine,
)
from app.sync.engines.memory import MemoryEngine
from app.sync.limits import Limits, Patience
from app.sync.load import cut, fate, send
from app.sync.words import Item, Line
from tests.contract.engine_kit import bodies, delete_line, draft, raw_line, unit

pytestmark = pytest.mark.anyio

QUEUE_FULL = Item(429, "es_rejected_execution_exception", "queue full")


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now, self.waits = 0.0, []

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits.append(seconds)
        await anyio.lowlevel.checkpoint()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def limits(time: Time) -> Limits:
    patience = Patience(clock=lambda: time.now, sleep=time.sleep, dice=lambda: 1.0)
    return Limits(anyio.Semaphore(1), anyio.Semaphore(2), bulk_bytes=2_000, stall_deadline=60, patience=patience)


@pytest.fixture
async def engine() -> MemoryEngine:
    engine = MemoryEngine()
    await draft(engine, "shop")
    return engine


def lines(engine: MemoryEngine, count: int, version: int = 10) -> Sequence[Line]:
    return engine.lines(bodies(count), unit(count), version)


def failing(times: int, problem: Problem) -> Callable[[str, Mapping[str, Any]], Awaitable[None]]:
    """The first *times* bulk requests are refused as a whole."""
    left = [times]

    async def before(name: str, _arguments: Mapping[str, Any]) -> None:
        if name == "bulk" and left[0]:
            left[0] -= 1
            raise problem

    return before


def held(engine: MemoryEngine) -> set[str]:
    return set(engine.indices["shop"].documents)


# --- cutting ---------------------------------------------------------------------------------------------------------


def test_lines_are_cut_by_bytes_and_keep_their_order() -> None:
    parts = [raw_line(str(number), b"x" * 100) for number in range(10)]
    portions = cut(parts, 3 * parts[0].size)
    assert [len(portion) for portion in portions] == [3, 3, 3, 1]
    assert [line for portion in portions for line in portion] == parts


def test_a_line_larger_than_a_request_stands_alone() -> None:
    small, large = raw_line("a", b"x"), raw_line("b", b"x" * 5_000)
    assert [list(portion) for portion in cut([small, large, small], 1_000)] == [[small], [large], [small]]
    assert cut([], 1_000) == []


# --- the good case ---------------------------------------------------------------------------------------------------


async def test_everything_arrives_in_several_requests(engine: MemoryEngine, limits: Limits) -> None:
    sent = lines(engine, 50)
    receipt = await send(engine, "shop.fill-1", sent, limits)
    assert (receipt.loaded, receipt.retries, receipt.rejects) == (50, 0, ())
    assert receipt.requests == len(cut(sent, 2_000)) > 1
    assert receipt.size == sum(line.size for line in sent)
    assert len(held(engine)) == 50


async def test_no_more_requests_are_under_way_than_all_runs_may_have(engine: MemoryEngine, limits: Limits) -> None:
    most = now = 0

    async def before(name: str, _arguments: Mapping[str, Any]) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        now -= 1

    engine.before = before
    await send(engine, "shop.fill-1", lines(engine, 50), limits)
    assert most == 2


async def test_nothing_to_send_is_no_request(engine: MemoryEngine, limits: Limits) -> None:
    assert (await send(engine, "shop.fill-1", [], limits)).requests == 0


async def test_a_stale_write_is_success(engine: MemoryEngine, limits: Limits) -> None:
    await send(engine, "shop.fill-1", lines(engine, 3, 10), limits)
    receipt = await send(engine, "shop.fill-1", lines(engine, 3, 9), limits)
    assert (receipt.loaded, receipt.rejects) == (3, ())


async def test_deleting_what_is_not_there_is_success(engine: MemoryEngine, limits: Limits) -> None:
    receipt = await send(engine, "shop.fill-1", [delete_line("never", 1)], limits)
    assert (receipt.loaded, receipt.rejects) == (1, ())


# --- the engine wants less -------------------------------------------------------------------------------------------


async def test_a_request_refused_as_a_whole_goes_again(engine: MemoryEngine, limits: Limits, time: Time) -> None:
    engine.before = failing(3, EngineBusy())
    told: list[Problem] = []
    receipt = await send(engine, "shop.fill-1", lines(engine, 5), limits, told.append)
    assert (receipt.loaded, receipt.retries) == (5, 3)
    assert [type(problem) for problem in told] == [EngineBusy] * 3
    assert time.waits == sorted(time.waits)
    assert time.waits[2] >= 2 * time.waits[0]


async def test_only_the_refused_lines_go_again_in_their_order(engine: MemoryEngine, limits: Limits) -> None:
    asked: list[list[str]] = []
    refused = {"p1", "p3"}

    async def before(_name: str, arguments: Mapping[str, Any]) -> None:
        asked.append([line.id for line in arguments["lines"]])

    def answer(_alias: str, line: Line) -> Item | None:
        return QUEUE_FULL if line.id in refused and len(asked) < 3 else None

    engine.before, engine.answer = before, answer
    receipt = await send(engine, "shop.fill-1", lines(engine, 5), limits)
    assert asked == [["p0", "p1", "p2", "p3", "p4"], ["p1", "p3"], ["p1", "p3"]]
    assert (receipt.loaded, receipt.retries) == (5, 2)
    assert held(engine) == {"p0", "p1", "p2", "p3", "p4"}


async def test_a_queue_that_stays_full_ends_by_time(engine: MemoryEngine, limits: Limits, time: Time) -> None:
    engine.answer = lambda _alias, _line: QUEUE_FULL
    with pytest.raises(EngineBusy):
        await send(engine, "shop.fill-1", lines(engine, 5), limits)
    assert time.now <= limits.stall_deadline


async def test_progress_starts_the_time_anew(engine: MemoryEngine, limits: Limits, time: Time) -> None:
    def answer(_alias: str, line: Line) -> Item | None:
        return None if time.now >= 25 * int(line.id[1:]) else QUEUE_FULL

    engine.answer = answer
    receipt = await send(engine, "shop.fill-1", lines(engine, 4), limits)
    assert receipt.loaded == 4
    assert time.now > limits.stall_deadline


async def test_an_engine_that_comes_back_is_waited_for(engine: MemoryEngine, limits: Limits) -> None:
    engine.before = failing(4, EngineUnavailable("connection refused"))
    assert (await send(engine, "shop.fill-1", lines(engine, 5), limits)).loaded == 5


async def test_an_engine_that_stays_away_ends_by_time(engine: MemoryEngine, limits: Limits, time: Time) -> None:
    engine.before = failing(10_000, EngineUnavailable("connection refused"))
    with pytest.raises(EngineUnavailable, match="connection refused"):
        await send(engine, "shop.fill-1", lines(engine, 5), limits)
    assert time.now <= limits.stall_deadline


async def test_while_one_waits_another_may_send(engine: MemoryEngine, time: Time) -> None:
    """A place in the shared semaphore is not held through a wait."""
    bulk = anyio.Semaphore(1)
    free: list[int] = []

    async def sleep(seconds: float) -> None:
        free.append(bulk.value)
        await time.sleep(seconds)

    patience = Patience(clock=lambda: time.now, sleep=sleep)
    engine.before = failing(1, EngineBusy())
    await send(engine, "shop.fill-1", lines(engine, 1), Limits(anyio.Semaphore(1), bulk, patience=patience))
    assert free == [1]


# --- refusals for good -----------------------------------------------------------------------------------------------


async def test_a_bad_document_is_a_reject_with_its_reason(engine: MemoryEngine, limits: Limits) -> None:
    bad = engine.lines([("bad", {"price": "dear"})], unit(1), 1)
    receipt = await send(engine, "shop.fill-1", [*lines(engine, 3), *bad], limits)
    assert receipt.loaded == 3
    (reject,) = receipt.rejects
    assert (reject.product_id, reject.by, reject.code) == ("bad", "engine", "document_parsing_exception")
    assert "dear" in reject.detail


async def test_a_line_that_makes_its_request_invalid_is_found(engine: MemoryEngine, limits: Limits) -> None:
    bad = engine.lines([("x" * 600, {})], unit(1), 1)
    receipt = await send(engine, "shop.fill-1", [*lines(engine, 5), *bad], limits)
    assert receipt.loaded == 5
    assert [reject.product_id for reject in receipt.rejects] == ["x" * 600]
    assert receipt.rejects[0].code == "action_request_validation_exception"


async def test_a_request_that_is_too_large_is_halved(engine: MemoryEngine, limits: Limits) -> None:
    async def before(_name: str, arguments: Mapping[str, Any]) -> None:
        if len(arguments["lines"]) > 2:
            raise TooLargeForEngine()

    engine.before = before
    receipt = await send(engine, "shop.fill-1", lines(engine, 9), limits)
    assert (receipt.loaded, receipt.rejects) == (9, ())


async def test_items_that_are_too_large_are_halved_too(engine: MemoryEngine, limits: Limits) -> None:
    asked: list[int] = []

    async def before(_name: str, arguments: Mapping[str, Any]) -> None:
        asked.append(len(arguments["lines"]))

    engine.before = before
    engine.answer = lambda _alias, _line: Item(429, TooLargeForEngine.code, "too large") if asked[-1] > 2 else None
    receipt = await send(engine, "shop.fill-1", lines(engine, 6), limits)
    assert (receipt.loaded, receipt.rejects) == (6, ())


async def test_a_large_request_that_is_refused_again_and_again_is_halved(engine: MemoryEngine, time: Time) -> None:
    """The engine never says that it is too large, only that it is busy."""
    patience = Patience(clock=lambda: time.now, sleep=time.sleep)
    wide = Limits(anyio.Semaphore(1), anyio.Semaphore(2), bulk_bytes=10_000_000, stall_deadline=60, patience=patience)
    large = [raw_line(f"p{number}", b'{"name":"%s"}' % (b"x" * 20_000)) for number in range(40)]

    async def before(_name: str, arguments: Mapping[str, Any]) -> None:
        if sum(line.size for line in arguments["lines"]) > 250_000:
            raise EngineBusy()

    engine.before = before
    receipt = await send(engine, "shop.fill-1", large, wide)
    assert (receipt.loaded, receipt.rejects) == (40, ())
    assert time.now < 60


async def test_a_line_that_alone_is_too_large_is_a_reject(engine: MemoryEngine, limits: Limits) -> None:
    async def before(_name: str, arguments: Mapping[str, Any]) -> None:
        if any(line.id == "p3" for line in arguments["lines"]):
            raise TooLargeForEngine()

    engine.before = before
    receipt = await send(engine, "shop.fill-1", lines(engine, 6), limits)
    assert receipt.loaded == 5
    assert [(reject.product_id, reject.code) for reject in receipt.rejects] == [("p3", "engine_request_too_large")]


async def test_the_flood_stage_stops_at_once(engine: MemoryEngine, limits: Limits, time: Time) -> None:
    reason = "disk usage exceeded flood-stage watermark, index has read-only-allow-delete block"
    engine.answer = lambda _alias, _line: Item(429, "cluster_block_exception", reason)
    with pytest.raises(DiskFull, match="flood-stage"):
        await send(engine, "shop.fill-1", lines(engine, 5), limits)
    assert time.waits == []


async def test_a_write_block_leaves_as_itself(engine: MemoryEngine, limits: Limits, time: Time) -> None:
    await engine.block("shop")
    with pytest.raises(Blocked):
        await send(engine, "shop.fill-1", lines(engine, 5), limits)
    assert time.waits == []


async def test_an_alias_that_is_gone_means_that_the_lease_is_lost(engine: MemoryEngine, limits: Limits) -> None:
    await engine.swap_alias("shop", "shop.fill-1", "shop.fill-2")
    with pytest.raises(LeaseLost):
        await send(engine, "shop.fill-1", lines(engine, 5), limits)
    assert held(engine) == set()


async def test_what_the_engine_refuses_for_good_leaves_at_once(engine: MemoryEngine, limits: Limits) -> None:
    engine.before = failing(1, EngineError("not allowed", engine_status=403))
    with pytest.raises(EngineError, match="not allowed"):
        await send(engine, "shop.fill-1", lines(engine, 5), limits)


@pytest.mark.parametrize(
    ("item", "meaning"),
    [
        (Item(200), None),
        (Item(404), None),
        (Item(409, "version_conflict_engine_exception"), None),
        (Item(409, "something_else"), EngineError),
        (Item(429, "cluster_block_exception"), DiskFull),
        (Item(403, "cluster_block_exception"), Blocked),
        (QUEUE_FULL, EngineBusy),
        (Item(429, "circuit_breaking_exception"), EngineBusy),
        (Item(503, "unavailable_shards_exception"), EngineUnavailable),
        (Item(400, "mapper_parsing_exception"), EngineError),
    ],
)
def test_an_items_type_decides_before_its_status(item: Item, meaning: type[Problem] | None) -> None:
    assert fate(item) is meaning
