"""What soaks have found, each as a test that stands at the point in question."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.intake import Intake
from app.notices import Notice
from tests.gates import QUICK, documents
from tests.soak.soak import emptied
from tests.stack import Gate, Stack, stack, stock

pytestmark = [pytest.mark.anyio, pytest.mark.engine]


class First(Gate):
    """Stops the first call alone: those that come later, of others too, pass."""

    async def call(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        if not self.reached.is_set():
            await self.passed()
        return await method(*args, **named)


async def stale(here: Stack) -> tuple[str, str]:
    """A catalogue of which one product, the first, is stale in the live generation; and another one."""
    here.shop.fill(stock(40))
    await here.declare(recipe=QUICK, policy={"settle_seconds": 0.3})
    assert (await here.sync()).state == "ready"
    one, other = sorted(documents(here, here.alias))[:2]
    change(here, one, "first")
    return one, other


def change(here: Stack, product: str, name: str) -> None:
    here.shop.put(here.shop.alias, [(product, {**dict(stock(40))[product], "name": name})])


async def test_an_event_between_two_numbers_of_a_repair_is_no_damage(elasticsearch9: str, tmp_path: Path) -> None:
    async with stack(elasticsearch9, tmp_path) as here:
        one, other = await stale(here)
        run, gate = await here.stopped_at("get", First(), strategy="repair")
        change(here, other, "told of")
        await Intake(here.db, 100).take(here.name, [Notice(product_id=other)])
        assert await emptied(here) == 0
        gate.open()
        ended = await here.ended(run.id)
        assert (ended.state, ended.error) == ("ready", None)
        now = documents(here, here.alias)
        assert (now[one]["name"], now[other]["name"]) == ("first", "told of")


async def test_a_product_that_changes_again_while_it_is_repaired_is_no_damage(
    elasticsearch9: str, tmp_path: Path
) -> None:
    async with stack(elasticsearch9, tmp_path) as here:
        one, _ = await stale(here)
        run, gate = await here.stopped_at("get", First(), strategy="repair")
        change(here, one, "second")
        gate.open()
        ended = await here.ended(run.id)
        assert (ended.state, ended.error) == ("ready", None)
        assert documents(here, here.alias)[one]["name"] == "second"
