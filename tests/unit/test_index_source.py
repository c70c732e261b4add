"""The index source on the twin: page sizes, permission to refresh, and time limits."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import anyio
import pytest

from app.errors import EngineUnavailable, Forbidden, SourceGone, SourceUnresolved
from app.sync.engines.memory import MemoryEngine
from app.sync.ports import Look
from app.sync.sources.index import AIM, FIRST, MOST, IndexSource, following
from app.sync.words import Hit, Page, Slice

pytestmark = pytest.mark.anyio

PART = Slice(0, 1)


async def unheard(_pit: str, _look: Look) -> None:
    return


def page(hits: int, size: int) -> Page:
    return Page(PART, [Hit(str(number), {}) for number in range(hits)], [1], size)


def test_a_page_has_about_as_many_bytes_as_is_good() -> None:
    assert following(1_000, page(1_000, AIM)) == 1_000
    assert following(1_000, page(1_000, 10 * AIM)) == 100
    assert following(1_000, page(1_000, AIM // 2)) == 2_000


def test_a_page_grows_step_by_step_and_not_beyond_what_engines_give() -> None:
    assert following(FIRST, page(FIRST, FIRST)) == 4 * FIRST
    assert following(MOST, page(MOST, MOST)) == MOST


def test_a_page_of_one_giant_still_has_one() -> None:
    assert following(200, page(1, 50 * AIM)) == 1


async def test_pages_follow_what_arrives() -> None:
    engine, asked = MemoryEngine(), []

    async def before(name: str, arguments: Mapping[str, Any]) -> None:
        if name == "page":
            asked.append(arguments["size"])

    engine.seed("shop", {str(number): {"text": "x" * 30_000} for number in range(600)})
    engine.before = before
    async with IndexSource(engine, "shop").snapshot(1, unheard) as snapshot:
        sizes = [len(one.hits) async for one in snapshot.pages(PART, None)]
    assert sum(sizes) == 600
    assert asked[0] == FIRST
    assert AIM // 31_000 <= asked[1] <= AIM // 30_000


async def test_without_permission_to_refresh_its_own_refresh_is_waited_for() -> None:
    engine, asked = MemoryEngine(), []

    async def before(name: str, _arguments: Mapping[str, Any]) -> None:
        asked.append(name)
        if name == "refresh":
            raise Forbidden("no")

    engine.seed("shop", {"1": {}})
    engine.indices["shop"].refresh_interval = "20ms"
    engine.before = before
    start = anyio.current_time()
    async with IndexSource(engine, "shop").snapshot(1, unheard) as snapshot:
        assert snapshot.count == 1
        assert anyio.current_time() - start >= 0.02
    assert asked.count("refresh") == 1


async def test_the_source_is_resolved_after_it_was_refreshed() -> None:
    engine, asked = MemoryEngine(), []

    async def before(name: str, _arguments: Mapping[str, Any]) -> None:
        asked.append(name)

    engine.seed("shop", {"1": {}})
    engine.before = before
    async with IndexSource(engine, "shop").snapshot(1, unheard):
        pass
    assert asked == ["resolve", "refresh", "resolve", "open_pit", "pit_count", "close_pit"]


async def test_an_alias_with_a_filter_is_refused() -> None:
    class Filtered(MemoryEngine):
        async def resolve(self, name: str) -> Any:
            return [replace(info, aliases={name: True}) for info in await super().resolve(name)]

    engine = Filtered()
    engine.seed("shop-1", {"1": {}}, aliases=["shop"])
    with pytest.raises(SourceUnresolved) as refused:
        await IndexSource(engine, "shop").look()
    assert refused.value.code == "source_filtered"


async def test_a_point_in_time_that_cannot_be_closed_does_not_hide_what_happened() -> None:
    engine = MemoryEngine()

    async def before(name: str, _arguments: Mapping[str, Any]) -> None:
        if name == "close_pit":
            raise EngineUnavailable("gone")

    engine.seed("shop", {"1": {}})
    engine.before = before
    with pytest.raises(ZeroDivisionError):
        async with IndexSource(engine, "shop").snapshot(1, unheard):
            raise ZeroDivisionError


async def test_a_cancel_while_it_is_being_opened_leaves_no_context() -> None:
    engine = MemoryEngine()

    async def before(name: str, _arguments: Mapping[str, Any]) -> None:
        if name == "open_pit":
            scope.cancel()
            await anyio.lowlevel.checkpoint()

    engine.seed("shop", {"1": {}})
    engine.before = before
    with anyio.CancelScope() as scope:
        async with IndexSource(engine, "shop").snapshot(1, unheard):
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert engine.open_pits == {}


@pytest.mark.parametrize(
    ("method", "ask", "answer"),
    [
        ("get", lambda source: source.get(["1", "2"], None), [Hit("1", {"name": "new"}, 1)]),
        ("open_pit", lambda source: source.count(), 1),
        ("pit_count", lambda source: source.count(), 1),
        ("properties", lambda source: source.properties(), {}),
    ],
)
async def test_the_index_that_took_the_place_of_the_one_that_was_resolved_answers(
    method: str, ask: Any, answer: Any
) -> None:
    engine = MemoryEngine()

    async def before(name: str, _arguments: Mapping[str, Any]) -> None:
        if name == method and "shop-1" in engine.indices:
            del engine.indices["shop-1"]
            engine.seed("shop-2", {"1": {"name": "new"}}, aliases=["shop"])

    engine.seed("shop-1", {"1": {"name": "old"}}, aliases=["shop"])
    engine.before = before
    assert await ask(IndexSource(engine, "shop")) == answer


async def test_a_point_in_time_cannot_be_opened_on_what_just_went() -> None:
    engine = MemoryEngine()

    async def before(name: str, _arguments: Mapping[str, Any]) -> None:
        if name == "open_pit":
            del engine.indices["shop"]

    engine.seed("shop", {"1": {}})
    engine.before = before
    with pytest.raises(SourceGone, match="shop lost its index shop just now"):
        async with IndexSource(engine, "shop").snapshot(1, unheard):
            pass
