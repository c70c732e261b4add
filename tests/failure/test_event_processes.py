"""The process of an applier ends or dies with events in hand: whoever comes next applies them, and nothing is lost."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.config import EngineSettings
from tests.failure.process import Process, process
from tests.failure.scene import reached, until
from tests.gateway import Gateway, Hold, gateway
from tests.stack import Stack, stack
from tests.telling import assert_equal, entries, lapse, ready, rename, settled, tell

pytestmark = pytest.mark.anyio

POINTS = {
    "before it reads the shop": ("POST", r"-shop-v\d+/_mget", "", False),
    "before it reads what readers have": ("POST", r"-2\d+/_mget", "", False),
    "before it asks for vectors": ("POST", r"vectors/_mget", "", False),
    "before it writes": ("POST", r"\.feed/_bulk", "", False),
    "after it has written": ("POST", r"\.feed/_bulk", "", True),
}
LONG = set(POINTS) - {"after it has written"}
KILLS = 100


@asynccontextmanager
async def served(url: str, folder: Path) -> AsyncIterator[tuple[Gateway, Stack, dict[str, dict[str, Any]]]]:
    """A live generation, made by a worker that is gone; processes are behind the gateway."""
    async with gateway(url) as way:
        engines = {"main": EngineSettings(url=way.url)}
        async with stack(url, folder, works=False, engines=engines) as here:
            worker = await here.work()
            products = await ready(here)
            await worker.drain()
            yield way, here, products


async def killed(here: Stack, way: Gateway, doomed: Process, point: tuple[str, str, str, bool], *ids: str) -> Hold:
    """The process dies at a point of applying these products."""
    *request, answer = point
    held = way.hold(*request, answer=answer)
    await tell(here, *ids)
    await reached(held)
    await doomed.kill()
    held.go()
    await until(held.done.is_set)
    return held


@pytest.mark.parametrize(
    "point", [pytest.param(how, id=at, marks=[pytest.mark.long] * (at in LONG)) for at, how in POINTS.items()]
)
async def test_killed_with_events_in_hand_nothing_is_lost(
    any_engine_url: str, tmp_path: Path, point: tuple[str, str, str, bool]
) -> None:
    async with served(any_engine_url, tmp_path) as (way, here, products), process(here) as doomed:
        ids = sorted(products)[:5]
        for number, one in enumerate(ids):
            rename(here, products, one, f"Lamp {number} of a killed one")
        await killed(here, way, doomed, point, *ids)
        assert "processing" in {row.status for row in await entries(here)}
        await lapse(here)
        await here.work()
        rows = await settled(here)
        assert {row.status for row in rows} == {"done"}
        assert {row.lives for row in rows} <= {0, 1}
        assert {row.attempts for row in rows} == {0}
        await assert_equal(here)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_after_a_hundred_kills_in_a_row_nothing_is_lost(any_engine_url: str, tmp_path: Path) -> None:
    async with served(any_engine_url, tmp_path) as (way, here, products):
        ids, points = sorted(products), list(POINTS.values())
        for turn in range(KILLS):
            async with process(here) as doomed:
                await lapse(here)
                if turn:
                    await settled(here)
                some = [ids[(turn + step) % len(ids)] for step in range(3)]
                for one in some:
                    rename(here, products, one, f"Lamp of kill {turn}")
                await killed(here, way, doomed, points[turn % len(points)], *some)
        await here.work()
        await lapse(here)
        rows = await settled(here)
        assert {(row.status, row.attempts) for row in rows} == {("done", 0)}
        await assert_equal(here)


async def test_asked_to_end_with_events_in_hand_they_go_back_and_cost_nothing(
    any_engine_url: str, tmp_path: Path
) -> None:
    async with (
        served(any_engine_url, tmp_path) as (way, here, products),
        process(here, RESHELVE_DRAIN_SECONDS="1") as ending,
    ):
        one, another = sorted(products)[:2]
        rename(here, products, one, "Lamp that is given back")
        held = way.hold("POST", r"\.feed/_bulk")
        await tell(here, one)
        await reached(held)
        assert await ending.end(15) == 0
        await tell(here, another)
        assert {(row.product_id, row.status, row.attempts, row.lives) for row in await entries(here)} == {
            (one, "pending", 0, 0), (another, "pending", 0, 0),
        }  # fmt: skip
        held.go()
        await here.work()
        rows = await settled(here)
        assert {(row.status, row.attempts, row.lives) for row in rows} == {("done", 0, 0)}
        await assert_equal(here)
