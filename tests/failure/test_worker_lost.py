"""The process of a run dies or is asked to end: its run is settled by whoever comes, and readers notice nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest

from app import sweeper
from app.db import heard
from app.models import Run
from tests.failure.process import Process, process
from tests.failure.scene import READ, assert_takes_writes, expire, reached, through, until
from tests.gateway import Gateway, Hold
from tests.stack import Stack, ask

pytestmark = pytest.mark.anyio

LEASE = 30.0
"""Seconds; so long settling may pause on a busy machine. Nobody waits for the end of a dead run's: see `expire`."""


@asynccontextmanager
async def begun(url: str, folder: Path) -> AsyncIterator[tuple[Gateway, Stack, Process]]:
    """A catalogue with a live generation, and the one process that works for it."""
    async with through(url, folder, lease_seconds=LEASE) as (way, here):
        first, worker = await here.queued(), await here.work()
        async with process(here) as doomed:
            assert (await here.ended(first.id)).state == "ready"
            await worker.drain()
            yield way, here, doomed


@asynccontextmanager
async def readers(here: Stack) -> AsyncIterator[None]:
    """Somebody who looks all the time; the alias never is on anything but one index that is there."""
    seen: list[tuple[int, int]] = []
    async with httpx.AsyncClient(base_url=here.url, timeout=60) as client, anyio.create_task_group() as group:
        group.start_soon(_look, client, here.alias, seen)
        yield
        await until(lambda: len(seen) > 3)
        group.cancel_scope.cancel()
    assert set(seen) == {(1, 1)}, "shards searched and products found"


async def _look(client: httpx.AsyncClient, alias: str, seen: list[tuple[int, int]]) -> None:
    never = anyio.Event()
    while not await heard(never, 0.02):
        answer = await client.post(f"/{alias}/_search", json={"size": 1})
        said = answer.json()
        seen.append((said["_shards"]["total"], len(said["hits"]["hits"])) if answer.is_success else (0, 0))


async def settled(here: Stack, run: Run) -> Run:
    """Another worker comes; the run once it has seen to it."""
    await expire(here, run)
    await here.work()
    return await here.ended(run.id)


def assert_worker_lost(run: Run) -> None:
    assert run.error is not None
    assert (run.state, run.error["code"]) == ("failed", "worker_lost")


# --- killed ----------------------------------------------------------------------------------------------------------

BEFORE_PROMOTION = {
    "filling": ("POST", r"-2\d+\.fill-\d+/_bulk", ""),
    "sealing": ("PUT", "/_block/write", ""),
    "reading": ("POST", "^/_search", READ),
    "making the draft": ("PUT", r"-2\d+$", ""),
    "merging": ("POST", "/_forcemerge", ""),
    "verifying": ("POST", r"-2\d+/_search", ""),
}
LONG = {"reading", "making the draft", "merging", "verifying"}


@pytest.mark.parametrize(
    "request_held",
    [pytest.param(how, id=at, marks=[pytest.mark.long] * (at in LONG)) for at, how in BEFORE_PROMOTION.items()],
)
async def test_killed_before_promotion_its_run_fails_and_leaves_nothing(
    any_engine_url: str, tmp_path: Path, request_held: tuple[str, str, str]
) -> None:
    async with begun(any_engine_url, tmp_path) as (way, here, doomed):
        before, seen = here.behind_alias(), here.count()
        held = way.hold(*request_held)
        run = await here.queued()
        await reached(held)
        async with readers(here):
            await doomed.kill()
            ended = await settled(here, run)
        assert_worker_lost(ended)
        assert ended.fence == 2
        assert (here.behind_alias(), here.count(), here.indices(), here.open_contexts()) == (before, seen, before, 0)
        await late(held)
        await sweeper.sweep(here.db, here.connections)
        assert (here.behind_alias(), here.indices()) == (before, before)
        assert (await here.sync()).state == "ready"


CLONING = {
    "before its clone is made": ("PUT", r"-2\d+/_clone/", ".fill-", False),
    "after its clone is made": ("PUT", r"-2\d+/_clone/", ".fill-", True),
    "before its block is lifted": ("PUT", r"-2\d+/_settings", "blocks", False),
}


@pytest.mark.parametrize("held_at", CLONING.values(), ids=CLONING)
async def test_killed_while_it_clones_live_takes_writes_again(
    any_engine_url: str, tmp_path: Path, held_at: tuple[str, str, str, bool]
) -> None:
    async with begun(any_engine_url, tmp_path) as (way, here, doomed):
        before, seen, (*request, answer) = here.behind_alias(), here.count(), held_at
        held = way.hold(*request, answer=answer)
        run = await here.queued("incremental")
        await reached(held)
        async with readers(here):
            await doomed.kill()
            assert blocked(here)
            ended = await settled(here, run)
        assert_worker_lost(ended)
        assert not blocked(here)
        assert_takes_writes(here)
        newest, live = await here.generations()
        assert (newest.cloned_from, newest.state, newest.fed) == (live.id, "dropped", False)
        assert (here.behind_alias(), here.count(), here.indices(), here.open_contexts()) == (before, seen, before, 0)
        await late(held)
        await sweeper.sweep(here.db, here.connections)
        assert (here.behind_alias(), here.indices()) == (before, before)
        assert_takes_writes(here)
        assert (await here.sync(strategy="incremental")).state == "ready"


def blocked(here: Stack) -> bool:
    """Whether the live index refuses writes."""
    (settings,) = ask(here.url, "GET", f"/{here.alias}/_settings").values()
    return bool(settings["settings"]["index"].get("blocks", {}).get("write") == "true")


async def late(held: Hold) -> None:
    """What the dead process had sent arrives now."""
    held.go()
    await until(lambda: held.done.is_set())


@pytest.mark.parametrize("moved", [False, True], ids=["before the move", "after the move"])
async def test_killed_at_the_switch_its_run_is_ready_and_a_late_move_moves_nothing(
    any_engine_url: str, tmp_path: Path, moved: bool
) -> None:
    async with begun(any_engine_url, tmp_path) as (way, here, doomed):
        (old,) = here.behind_alias()
        held = way.hold("POST", "^/_aliases", f'"alias":"{here.alias}"', answer=moved)
        run = await here.queued()
        await reached(held)
        async with readers(here):
            await doomed.kill()
            assert (here.behind_alias() != [old]) is moved
            ended = await settled(here, run)
        assert (ended.state, ended.error) == ("ready", None)
        new = (await here.generations())[0]
        assert (new.state, new.created_by, here.behind_alias()) == ("live", run.id, [new.index])
        assert here.open_contexts() == 0
        await here.rollback()
        await late(held)
        assert (held.status, here.behind_alias()) == (200 if moved else 404, [old])
        assert (await here.sync(release=True)).state == "ready"


async def test_killed_at_the_switch_and_canceled_its_number_is_burnt(any_engine_url: str, tmp_path: Path) -> None:
    """The move arrives when it has been settled that nothing moves, and the draft is about to be deleted."""
    async with begun(any_engine_url, tmp_path) as (way, here, doomed):
        before = here.behind_alias()
        held = way.hold("POST", "^/_aliases", f'"alias":"{here.alias}"')
        run = await here.queued()
        await reached(held)
        await doomed.kill()
        await here.cancel(run.id, "bob")
        dropping = way.hold("DELETE", rf"^/{here.name}-2\d+")
        await expire(here, run)
        await here.work()
        await reached(dropping)
        await late(held)
        assert (held.status, here.behind_alias()) == (404, before)
        dropping.go()
        ended = await here.ended(run.id)
        assert (ended.state, ended.canceled_by) == ("canceled", "bob")
        assert (here.behind_alias(), here.indices()) == (before, before)
        assert (await here.sync()).state == "ready", "the next number is the one that was burnt to"


# --- asked to end ----------------------------------------------------------------------------------------------------


async def test_asked_to_end_it_gives_its_run_up_and_exits_in_time(any_engine_url: str, tmp_path: Path) -> None:
    async with begun(any_engine_url, tmp_path) as (way, here, doomed):
        before = here.behind_alias()
        held = way.hold("POST", r"-2\d+\.fill-\d+/_bulk")
        run = await here.queued()
        await reached(held)
        assert await doomed.end(here.settings.drain_seconds) == 0
        ended = await here.until(run.id, lambda _: True)
        assert ended.error is not None
        assert (ended.state, ended.error["code"]) == ("failed", "interrupted")
        assert (here.behind_alias(), here.indices(), here.open_contexts()) == (before, before, 0)
        await here.work()
        assert (await here.sync()).state == "ready"
