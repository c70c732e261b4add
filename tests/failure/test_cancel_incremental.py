"""A cancel at each step of a run that builds on a clone: the clone goes, and live is as open to writes as before."""

from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from uuid import uuid4

import anyio
import pytest

from app import sweeper
from app.models import Run
from tests.failure.scene import assert_canceled, assert_takes_writes, at_work, canceled, reached, through, until
from tests.gates import QUICK, Later, documents
from tests.stack import Gate, Stack, ask, stack, stock

pytestmark = pytest.mark.anyio

FOREVER = 3600
"""Seconds; a settle time that only a cancel ends."""

POINTS: Mapping[str, tuple[str, Callable[[], Gate]]] = {
    "planning: refusing writes of live": ("block", Gate),
    "planning: cloning": ("clone", Gate),
    "planning: marking the clone": ("remark", Gate),
    "planning: opening the point in time": ("refresh", Gate),
    "filling: reading what is held": ("holding", Gate),
    "filling: reading": ("page", partial(Later, 1)),
    "filling: comparing documents": ("get", Gate),
    "filling: recalling vectors": ("known", Gate),
    "filling: embedding": ("embed", Gate),
    "filling: keeping vectors": ("keep", Gate),
    "filling: loading": ("bulk", Gate),
    "filling: looking again for what is absent": ("get", partial(Later, 1)),
    "filling: deleting": ("bulk", partial(Later, 1)),
    "sealing: blocking": ("block", partial(Later, 1)),
    "sealing: restoring settings": ("settle", Gate),
    "verifying: reading back": ("vectors", Gate),
}
"""Stage and place where the run stands: before the first call of a port's method, or where another gate stops it."""


@pytest.fixture(scope="module")
async def here(any_engine_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A catalogue whose first generation is live, and a shop in which one product is new since, one other, one gone."""
    async with stack(any_engine_url, tmp_path_factory.mktemp("cancel"), slices=1) as made:
        made.shop.fill(stock(60))
        await made.declare(recipe=QUICK, policy={"settle_seconds": 0})
        assert (await made.sync()).state == "ready"
        changed, gone = sorted(documents(made, made.alias))[:2]
        ask(made.url, "DELETE", f"/{made.shop.indices[-1]}/_doc/{gone}?refresh=true")
        made.shop.put(made.shop.indices[-1], [(changed, {"name": "A name nobody had"})])
        yield made


@pytest.fixture(autouse=True)
async def unharmed(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """After each test that cancels `here`: readers see what they saw, live takes writes, nothing of the run is left."""
    if "here" not in request.fixturenames:
        yield
        return
    stood: Stack = request.getfixturevalue("here")
    before, seen, running = stood.behind_alias(), documents(stood, stood.alias), at_work()
    yield
    stood.connections.gates.clear()
    assert (stood.behind_alias(), documents(stood, stood.alias)) == (before, seen)
    assert stood.indices() == before, "a clone was left behind"
    assert_takes_writes(stood)
    assert stood.open_contexts() == 0
    with anyio.move_on_after(5):
        await until(lambda: not at_work() - running)
    assert not at_work() - running, "something of it goes on"


async def assert_nothing_of(here: Stack, run: Run) -> None:
    """The clone's row says that it is gone."""
    newest, *_, live = await here.generations()
    assert (newest.created_by, newest.cloned_from) == (run.id, live.id)
    assert (newest.state, newest.fed) == ("dropped", False)


def renewed(here: Stack) -> None:
    """A product whose text nobody has embedded yet."""
    here.shop.put(here.shop.indices[-1], [("new", {"name": f"A lamp called {uuid4().hex}"})])


@pytest.mark.parametrize("point", POINTS)
async def test_it_is_over_within_ten_seconds(here: Stack, point: str) -> None:
    renewed(here)
    method, gate = POINTS[point]
    run, _ = await here.stopped_at(method, gate(), strategy="incremental")
    run = await canceled(here, run)
    assert_canceled(run)
    assert point.startswith(f"{run.stage}: ")
    await assert_nothing_of(here, run)


async def test_an_engine_that_does_not_lift_its_block_delays_nothing_and_is_asked_again(here: Stack) -> None:
    run, unblocking = await here.stopped_at("unblock", strategy="incremental")
    assert_canceled(await canceled(here, run))
    await assert_nothing_of(here, run)
    unblocking.open()
    await sweeper.sweep(here.db, here.connections)
    assert_takes_writes(here)


async def test_in_the_settle_time_it_is_over_at_once(here: Stack) -> None:
    renewed(here)
    await here.declare(recipe=QUICK, policy={"settle_seconds": FOREVER})
    run = await here.queued("incremental")
    await here.until(run.id, lambda one: one.counts.get("deleted") == 0)
    run = await canceled(here, run)
    assert_canceled(run)
    assert (run.stage, run.counts["loaded"], run.counts["deleted"]) == ("filling", 2, 0)
    await assert_nothing_of(here, run)
    await here.declare(recipe=QUICK, policy={"settle_seconds": 0})


async def test_vectors_that_were_paid_for_are_kept(here: Stack) -> None:
    renewed(here)
    run, _ = await here.stopped_at("bulk", strategy="incremental")
    run = await canceled(here, run)
    assert_canceled(run)
    assert run.counts["embedded"] > 0
    here.connections.gates.clear()
    again, _ = await here.stopped_at("bulk", strategy="incremental")
    again = await canceled(here, again)
    assert (again.counts["embedded"], again.counts["reused"]) == (0, run.counts["embedded"] + run.counts["reused"])


# --- while the engine is at work -------------------------------------------------------------------------------------

REQUESTS = {
    "live is blocked": ("PUT", r"-2\d+/_block/write", ""),
    "live is flushed": ("POST", r"-2\d+/_flush", ""),
    "the clone is made": ("PUT", r"-2\d+/_clone/", ".fill-"),
    "the clone is marked": ("PUT", r"-2\d+/_mapping", ""),
    "columns are read": ("POST", r"^/_search", '"docvalue_fields"'),
}


@pytest.mark.parametrize("request_held", REQUESTS.values(), ids=REQUESTS.keys())
async def test_a_request_that_arrives_after_the_cancel_leaves_nothing(
    any_engine_url: str, tmp_path: Path, request_held: tuple[str, str, str]
) -> None:
    async with through(any_engine_url, tmp_path) as (way, here):
        await here.declare(recipe=QUICK)
        await here.work()
        assert (await here.sync()).state == "ready"
        live, held = here.behind_alias(), way.hold(*request_held)
        run = await here.queued("incremental")
        await reached(held)
        assert_canceled(await canceled(here, run))
        await assert_nothing_of(here, run)
        held.go()
        await until(held.done.is_set)
        await sweeper.sweep(here.db, here.connections)
        assert (here.behind_alias(), here.indices(), here.open_contexts()) == (live, live, 0)
        assert_takes_writes(here)
        assert (await here.sync(strategy="incremental")).state == "ready"
