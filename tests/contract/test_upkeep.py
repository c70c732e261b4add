"""What the service does on its own: vectors that nobody needs go, and what nobody looks at is repaired."""

import time
from datetime import timedelta
from pathlib import Path

import anyio
import numpy as np
import pytest
from sqlmodel import update

from app import runs, upkeep
from app.columns import utc_now
from app.models import Run
from app.sync.vectors import content_key
from app.sync.words import ModelStamp
from tests.gates import QUICK, documents
from tests.stack import Stack, stack, stock

pytestmark = pytest.mark.anyio

DAYS_AGO = time.time() - 40 * 86_400


async def needed(here: Stack) -> set[str]:
    """The keys of the live generation's texts."""
    (live, *_) = await here.generations()
    assert live.embedder is not None
    stamp = ModelStamp(live.embedder["model"], live.embedder["version"], live.embedder["dims"])
    return {content_key(document["text_hash"], stamp) for document in documents(here, live.index).values()}


async def test_vectors_that_no_generation_uses_go_after_some_days(each_engine_url: str, tmp_path: Path) -> None:
    async with stack(each_engine_url, tmp_path) as here:
        here.shop.fill(stock(60))
        await here.declare(recipe=QUICK, policy={"keep": 1})
        assert (await here.sync()).state == "ready"
        old = await needed(here)
        here.shop.fill(stock(40, seed=2))
        await here.declare(recipe=QUICK, policy={"keep": 1, "shrink": {"documents": 1000}})
        for _ in range(2):
            assert (await here.sync()).state == "ready"
        store, new = await (await here.connections.engine("main")).store(), await needed(here)
        everything = sorted(old | new)
        assert await store.size() == len(everything)
        assert await upkeep.evict(here.db, here.connections, here.settings) == 0
        await store.used(everything, DAYS_AGO)
        assert await upkeep.evict(here.db, here.connections, here.settings) == len(old - new)
        assert (await store.known(everything, 32)).keys() == new
        assert await store.aged(DAYS_AGO + 86_400, 10) == [], "what is in use counts as used now"


async def test_there_are_never_more_kept_vectors_than_the_settings_allow(elasticsearch9: str, tmp_path: Path) -> None:
    async with stack(elasticsearch9, tmp_path, vectors_most=10) as here:
        here.shop.fill(stock(60))
        await here.declare(recipe=QUICK)
        assert (await here.sync()).state == "ready"
        store = await (await here.connections.engine("main")).store()
        gone = await store.size() - 10
        assert await upkeep.evict(here.db, here.connections, here.settings) == gone > 0
        assert await store.size() == 10
        again = await here.sync()
        assert (again.state, again.counts["reused"], again.counts["embedded"]) == ("ready", 10, gone)


async def test_over_the_cap_what_is_in_use_goes_last(elasticsearch9: str, tmp_path: Path) -> None:
    async with stack(elasticsearch9, tmp_path, vectors_most=60) as here:
        here.shop.fill(stock(60))
        await here.declare(recipe=QUICK)
        assert (await here.sync()).state == "ready"
        store, used = await (await here.connections.engine("main")).store(), await needed(here)
        await store.used(sorted(used), time.time() - 3600)
        newer = [f"{number:064x}" for number in range(30)]
        await store.keep(newer, np.ones((len(newer), 32), np.float32))
        await anyio.sleep(1.1)  # the store counts whole seconds
        surplus = len(used) + len(newer) - 60
        assert await upkeep.evict(here.db, here.connections, here.settings) >= surplus > 0
        assert (await store.known(sorted(used), 32)).keys() == used


async def test_what_nobody_has_looked_at_is_repaired(elasticsearch9: str, tmp_path: Path) -> None:
    async with stack(elasticsearch9, tmp_path) as here:
        here.shop.fill(stock(30))
        await here.declare(recipe=QUICK)
        assert await upkeep.repair(here.db) == 0, "nothing is live"
        run = await here.sync()
        assert await upkeep.repair(here.db) == 0, "a run has just looked"
        async with here.db.writing() as session:
            await session.exec(update(Run).values(requested_at=utc_now() - timedelta(hours=25)))
        await here.declare(recipe=QUICK, policy={"repair_hours": 0})
        assert await upkeep.repair(here.db) == 0, "nobody wants it"
        await here.declare(recipe=QUICK)
        assert await upkeep.repair(here.db) == 1
        assert await upkeep.repair(here.db) == 0, "it is ordered already"
        async with here.db.reading() as session:
            (repair, first), _ = await runs.listed(session, here.name)
        assert (repair.strategy, repair.trigger, first.id) == ("repair", "background", run.id)
        assert (await here.ended(repair.id)).state == "ready"
