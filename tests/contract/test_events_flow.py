"""Events from the outbox into every generation, on a real engine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from app import events, intake
from app.intake import Room
from app.models import Event
from app.notices import Notice
from tests.gates import QUICK, documents
from tests.stack import Stack, stack, stock

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

POLICY = {"settle_seconds": 0.3}
OVER = ("done", "failed")


async def tell(here: Stack, *ids: str, **how: Any) -> dict[str, int]:
    """Events of these products."""
    notices = [Notice(product_id=one, **how) for one in ids]
    return await intake.take(here.db, here.name, notices, Room(1_000_000))


async def entries(here: Stack, *ids: str) -> Sequence[Event]:
    async with here.db.reading() as session:
        rows, _ = await events.listed(session, here.name, 500, None, status=None, product_id=None)
    return [row for row in rows if not ids or row.product_id in ids]


async def settled(here: Stack, *ids: str, seconds: float = 60) -> Sequence[Event]:
    """The entries of these products (or all), when none of them waits any more."""
    with anyio.fail_after(seconds):
        while True:
            rows = await entries(here, *ids)
            if rows and all(row.status in OVER for row in rows):
                return rows
            await anyio.sleep(0.05)


async def ready(here: Stack, count: int = 40) -> list[tuple[str, dict[str, Any]]]:
    """A live generation of some products; they are given back as the source has them."""
    products = stock(count)
    here.shop.fill(products)
    await here.declare(recipe=QUICK, policy=POLICY)
    run = await here.sync()
    assert (run.state, run.error) == ("ready", None)
    return products


async def test_a_change_an_addition_and_a_deletion_reach_readers(engine_url: str, tmp_path: Path) -> None:
    async with stack(engine_url, tmp_path) as here:
        products = await ready(here)
        held = documents(here, here.alias)
        changed, gone = sorted(held)[:2]
        source = dict(products)[changed]
        here.shop.put(here.shop.alias, [(changed, {**source, "name": ["Another lamp"]}), ("new-1", {**source})])
        here.shop.delete(gone)
        assert await tell(here, changed, "new-1", gone) == {"accepted": 3, "coalesced": 0, "duplicates": 0}
        rows = await settled(here)
        assert {row.product_id: (row.status, row.deleted) for row in rows} == {
            changed: ("done", False), "new-1": ("done", False), gone: ("done", True),
        }  # fmt: skip
        now = documents(here, here.alias)
        assert now.keys() == held.keys() - {gone} | {"new-1"}
        assert "Another lamp" in now[changed]["text"]
        assert {one: now[one] for one in now if one not in (changed, "new-1")} == {
            one: held[one] for one in held if one not in (changed, gone)
        }
