"""A cancel in each stage: over within ten seconds, readers unharmed, nothing left behind."""

from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path

import anyio
import pytest

from app import catalogues, sweeper
from app.errors import Conflict
from app.models import Run
from tests.failure.scene import COUNTED, OVER_SECONDS, READ, assert_canceled, at_work, canceled, reached, through, until
from tests.gates import Later
from tests.stack import Gate, Stack, stack, stock

pytestmark = pytest.mark.anyio

POINTS: Mapping[str, tuple[str, Callable[[], Gate]]] = {
    "planning: looking at the source": ("properties", Gate),
    "planning: reading a sample": ("page", Gate),
    "planning: asking for rights": ("denied", Gate),
    "planning: making the draft": ("create", Gate),
    "planning: opening the point in time": ("refresh", Gate),
    "filling: reading what is live": ("holding", Gate),
    "filling: reading": ("page", partial(Later, 1)),
    "filling: recalling vectors": ("known", Gate),
    "filling: embedding": ("embed", Gate),
    "filling: keeping vectors": ("keep", Gate),
    "filling: loading": ("bulk", Gate),
    "sealing: blocking": ("block", Gate),
    "sealing: shutting the alias that fills": ("swap_alias", Gate),
    "sealing: restoring settings": ("settle", Gate),
    "sealing: waiting for green": ("green", Gate),
    "sealing: merging": ("merge", Gate),
    "verifying: reading back": ("vectors", Gate),
    "verifying: finding by text": ("nearest", Gate),
}
"""Stage and place where the run stands: before the first call of a port's method, or where another gate stops it."""


@pytest.fixture(scope="module")
async def here(any_engine_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A catalogue whose first generation is live."""
    async with stack(any_engine_url, tmp_path_factory.mktemp("cancel")) as made:
        made.shop.fill(stock(60))
        await made.declare()
        assert (await made.sync()).state == "ready"
        yield made


@pytest.fixture(autouse=True)
async def unharmed(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """After each test that cancels `here`: readers see what they saw, and nothing of the run is left."""
    if "here" not in request.fixturenames:
        yield
        return
    stood: Stack = request.getfixturevalue("here")
    before, seen, running = stood.behind_alias(), stood.count(), at_work()
    yield
    stood.connections.gates.clear()
    assert (stood.behind_alias(), stood.count()) == (before, seen)
    assert stood.indices() == before, "a draft was left behind"
    assert stood.open_contexts() == 0
    with anyio.move_on_after(5):
        await until(lambda: not at_work() - running)
    assert not at_work() - running, "something of it goes on"


@pytest.mark.parametrize("point", POINTS)
async def test_it_is_over_within_ten_seconds(here: Stack, point: str) -> None:
    here.shop.put(here.shop.indices[-1], [("new", {"name": f"A lamp that nobody saw before: {point}"})])
    method, gate = POINTS[point]
    run, _ = await here.stopped_at(method, gate())
    run = await canceled(here, run)
    assert_canceled(run)
    assert point.startswith(f"{run.stage}: ")
    newest = (await here.generations())[0]
    assert newest.created_by != run.id or (newest.state, newest.fed) == ("dropped", False)


# --- while the engine is at work -------------------------------------------------------------------------------------

REQUESTS = {
    "products are counted": ("POST", r"^/_search", COUNTED),
    "a page is read": ("POST", r"^/_search", READ),
    "a bulk is under way": ("POST", r"-2\d+\.fill-\d+/_bulk", ""),
    "the index is refreshed": ("POST", r"-2\d+/_refresh", ""),
    "segments are merged": ("POST", r"/_forcemerge", ""),
}


@pytest.mark.parametrize("request_held", REQUESTS.values(), ids=REQUESTS.keys())
async def test_an_engine_that_does_not_answer_delays_no_cancel(
    any_engine_url: str, tmp_path: Path, request_held: tuple[str, str, str]
) -> None:
    async with through(any_engine_url, tmp_path) as (way, here):
        run, held = await here.queued(), way.hold(*request_held)
        await here.work()
        await reached(held)
        assert_canceled(await canceled(here, run))
        assert (here.behind_alias(), here.indices(), here.open_contexts()) == ([], [], 0)


FROZEN = {
    "as a bulk is under way": ("POST", r"-2\d+\.fill-\d+/_bulk", ""),
    "as vectors are kept": ("POST", r"vectors.*/_bulk", ""),
    "as the point in time opens": ("POST", r"/_pit|/point_in_time", ""),
}


@pytest.mark.parametrize(
    "request_held",
    [pytest.param(how, id=at, marks=[pytest.mark.long] * ("bulk" not in at)) for at, how in FROZEN.items()],
)
async def test_an_engine_that_answers_nothing_any_more_delays_no_cancel(
    any_engine_url: str, tmp_path: Path, request_held: tuple[str, str, str]
) -> None:
    async with through(any_engine_url, tmp_path) as (way, here):
        run, held = await here.queued(), way.hold(*request_held)
        await here.work()
        await reached(held)
        way.frozen = anyio.Event()
        assert_canceled(await canceled(here, run))
        way.frozen.set()
        held.go()
        await until(held.done.is_set)
        await sweeper.sweep(here.db, here.connections)
        assert (here.behind_alias(), here.indices()) == ([], [])
        assert (await here.sync()).state == "ready"


async def test_an_index_that_is_made_after_its_run_was_canceled_is_swept(any_engine_url: str, tmp_path: Path) -> None:
    async with through(any_engine_url, tmp_path) as (way, here):
        run, held = await here.queued(), way.hold("PUT", rf"^/{here.name}-2\d+$")
        await here.work()
        await reached(held)
        assert_canceled(await canceled(here, run))
        held.go()
        await until(lambda: held.done.is_set())
        assert len(here.indices()) == 1
        assert await sweeper.sweep(here.db, here.connections) == 1
        assert here.indices() == []


# --- promoting -------------------------------------------------------------------------------------------------------


async def promoting(here: Stack) -> tuple[Run, Callable[[], None]]:
    """A run whose promotion has begun and whose switch is not open yet."""
    run, proving = await here.stopped_at("nearest")
    looking = here.gate("resolve")
    proving.open()
    with anyio.fail_after(60):
        await looking.reached.wait()
    assert (await here.until(run.id, lambda one: one.stage == "promoting", 10)).state == "running"
    return run, looking.open


async def number(here: Stack) -> int:
    """The number of the next switch."""
    async with here.db.reading() as session:
        return (await catalogues.get(session, here.name)).switch_number


async def test_a_promotion_that_has_not_moved_is_canceled_over_a_burnt_number(here: Stack) -> None:
    before = await number(here)
    run, go_on = await promoting(here)
    await here.cancel(run.id)
    go_on()
    assert_canceled(await here.ended(run.id, OVER_SECONDS))
    assert await number(here) == before + 1


async def test_a_move_that_broke_off_is_not_repeated_after_a_cancel(any_engine_url: str, tmp_path: Path) -> None:
    async with through(any_engine_url, tmp_path) as (way, here):
        run, moving = await here.queued(), way.hold("POST", "^/_aliases", f'"alias":"{here.alias}"')
        await here.work()
        await reached(moving)
        await here.cancel(run.id)
        moving.lose()
        assert_canceled(await here.ended(run.id, OVER_SECONDS))
        assert (here.behind_alias(), here.indices(), here.open_contexts()) == ([], [], 0)
        moving.go()
        await until(lambda: moving.done.is_set())
        assert (moving.status, here.behind_alias()) == (404, []), "its number was burnt before it came"
        assert (await here.sync()).state == "ready", "the next run goes on from there"


async def test_after_the_move_it_is_too_late(any_engine_url: str, tmp_path: Path) -> None:
    async with through(any_engine_url, tmp_path) as (way, here):
        run, moved = await here.queued(), way.hold("POST", "^/_aliases", f'"alias":"{here.alias}"', answer=True)
        await here.work()
        await reached(moved)
        await here.cancel(run.id)
        cleaning = here.gate("listed")
        moved.go()
        with anyio.fail_after(60):
            await cleaning.reached.wait()
        with pytest.raises(Conflict) as refused:
            await here.cancel(run.id)
        assert refused.value.code == "too_late"
        cleaning.open()
        assert (await here.ended(run.id)).state == "ready"
        assert here.behind_alias() == here.indices() == [(await here.generations())[0].index]


# --- not running -----------------------------------------------------------------------------------------------------


async def test_a_queued_run_is_canceled_at_once_and_a_finished_one_not_at_all(
    any_engine_url: str, tmp_path: Path
) -> None:
    async with through(any_engine_url, tmp_path) as (_, here):
        run = await here.order()
        answered = await here.cancel(run.id)
        assert (answered.state, answered.canceled_by) == ("canceled", "bob")
        await here.work()
        done = await here.sync()
        assert (done.state, (await here.ended(run.id)).state) == ("ready", "canceled")
        for over in (run, done):
            with pytest.raises(Conflict) as refused:
                await here.cancel(over.id)
            assert refused.value.code == "over"
