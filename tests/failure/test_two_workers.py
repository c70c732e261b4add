"""Several processes over one Postgres: one run at a time, one worker a run, and nobody who wakes up late does harm."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from app import progress
from app.models import Run
from tests.failure.process import Process, process
from tests.failure.scene import assert_takes_writes, expire, reached, through, until
from tests.gateway import Gateway
from tests.stack import Stack, ask

pytestmark = pytest.mark.anyio

LEASE = 10.0
"""Seconds; so long whoever settles a run may pause on a busy machine. Nobody waits for its end: see `expire`."""

ORDERS = 20


@asynccontextmanager
async def shared(url: str, folder: Path, postgres: str, lease: float = LEASE) -> AsyncIterator[tuple[Gateway, Stack]]:
    """A catalogue in a Postgres."""
    async with through(url, folder, database_url=postgres, lease_seconds=lease) as (way, here):
        yield way, here


def written(here: Stack, index: str) -> tuple[int, int]:
    """Documents and the highest sequence number of an index: nobody wrote when both are as they were."""
    ask(here.url, "POST", f"/{index}/_refresh")
    shard = ask(here.url, "GET", f"/{index}/_stats?level=shards")["indices"][index]["shards"]["0"][0]
    return shard["docs"]["count"], shard["seq_no"]["max_seq_no"]


# --- many at once ----------------------------------------------------------------------------------------------------


async def test_of_twenty_orders_at_once_one_becomes_a_run(
    any_engine_url: str, tmp_path: Path, postgres_url: str
) -> None:
    async with (
        shared(any_engine_url, tmp_path, postgres_url, lease=30) as (_, here),
        process(here) as one,
        process(here) as two,
    ):
        answers: list[tuple[int, dict[str, Any]]] = []

        async def order(to: Process) -> None:
            answer = await to.ask("POST", "/sync", {"catalogue": here.name})
            answers.append((answer.status_code, answer.json()))

        async with anyio.create_task_group() as group:
            for number in range(ORDERS):
                group.start_soon(order, (one, two)[number % 2])
        assert Counter(status for status, _ in answers) == {202: 1, 409: ORDERS - 1}
        (won,) = (said["id"] for status, said in answers if status == 202)
        assert {(said["code"], said["run_id"]) for status, said in answers if status == 409} == {("active", won)}
        run = await here.ended(won)
        assert (run.state, run.fence, await claims(here, run)) == ("ready", 1, 1)
        assert here.behind_alias() == here.indices()


async def claims(here: Stack, run: Run) -> int:
    """How many workers began with it."""
    async with here.db.reading() as session:
        told = await progress.lines(session, run=run.id)
    return [line.data.get("state") for line in told if line.kind == "state"].count("running")


# --- late ------------------------------------------------------------------------------------------------------------


async def test_a_worker_stopped_beyond_its_lease_is_refused_by_database_and_engine(
    any_engine_url: str, tmp_path: Path, postgres_url: str
) -> None:
    async with shared(any_engine_url, tmp_path, postgres_url) as (way, here), process(here) as sleeper:
        run, bulk = await here.queued(), way.hold("POST", r"-2\d+\.fill-\d+/_bulk")
        await reached(bulk)
        sleeper.stop()
        await expire(here, run)
        dropping = way.hold("DELETE", rf"^/{here.name}-2\d+")
        await here.work()
        await reached(dropping)
        (draft,) = here.indices()
        assert set(ask(here.url, "GET", f"/{draft}")[draft]["aliases"]) >= {f"{draft}.fill-2"}
        stood = written(here, draft)
        bulk.go()
        await until(bulk.done.is_set)
        assert written(here, draft) == stood, "the fill alias of the old fence is gone"
        dropping.go()
        lost = await here.ended(run.id)
        assert lost.error is not None
        assert (lost.state, lost.error["code"], lost.fence) == ("failed", "worker_lost", 2)
        assert (await here.sync()).state == "ready"
        (live,) = here.behind_alias()
        stood, told = written(here, live), await here.ended(run.id)
        sleeper.wake()
        await until(lambda: sleeper.said("lease_lost") or sleeper.said("run_left"))
        assert (written(here, live), here.indices(), here.open_contexts()) == (stood, [live], 0)
        assert await here.ended(run.id) == told
        assert sleeper.running


async def test_a_worker_that_does_not_know_that_it_was_taken_over_promotes_nothing(
    any_engine_url: str, tmp_path: Path, postgres_url: str
) -> None:
    """Its own clock still trusts the lease; whatever it asks the database next, it hears that it is out."""
    async with shared(any_engine_url, tmp_path, postgres_url, lease=60) as (way, here):
        await here.work()
        assert (await here.sync()).state == "ready"
        before = here.behind_alias()
        run, proving = await here.stopped_at("nearest")
        dropping = way.hold("DELETE", rf"^/{here.name}-2\d+")
        await expire(here, run)
        await reached(dropping)
        proving.open()
        await until(lambda: not at_work("Worker._hold"))
        assert (await here.until(run.id, lambda _: True)).state == "running", "who took it over is not done"
        dropping.go()
        lost = await here.ended(run.id)
        assert lost.error is not None
        assert (lost.state, lost.error["code"], lost.fence) == ("failed", "worker_lost", 2)
        assert (here.behind_alias(), here.indices(), here.open_contexts()) == (before, before, 0)


def at_work(function: str) -> bool:
    return any(function in (one.name or "") for one in anyio.get_running_tasks())


async def test_a_worker_stopped_before_its_move_moves_nothing_when_it_wakes(
    any_engine_url: str, tmp_path: Path, postgres_url: str
) -> None:
    async with shared(any_engine_url, tmp_path, postgres_url) as (way, here), process(here) as sleeper:
        assert (await here.sync()).state == "ready"
        (old,) = here.behind_alias()
        run, move = await here.queued(), way.hold("POST", "^/_aliases", f'"alias":"{here.alias}"')
        await reached(move)
        sleeper.stop()
        await expire(here, run)
        await here.work()
        assert (await here.ended(run.id)).state == "ready"
        await here.rollback()
        assert here.behind_alias() == [old]
        move.go()
        await until(move.done.is_set)
        sleeper.wake()
        await until(lambda: sleeper.said("lease_lost") or sleeper.said("run_left"))
        assert (move.status, here.behind_alias()) == (404, [old])
        assert (await here.ended(run.id)).state == "ready"


async def test_a_worker_stopped_while_it_clones_makes_no_clone_and_no_block_when_it_wakes(
    any_engine_url: str, tmp_path: Path, postgres_url: str
) -> None:
    async with shared(any_engine_url, tmp_path, postgres_url) as (way, here), process(here) as sleeper:
        assert (await here.sync()).state == "ready"
        run, clone = await here.queued("incremental"), way.hold("PUT", r"-2\d+/_clone/", ".fill-")
        await reached(clone)
        sleeper.stop()
        await expire(here, run)
        await here.work()
        lost = await here.ended(run.id)
        assert lost.error is not None
        assert (lost.state, lost.error["code"], lost.fence) == ("failed", "worker_lost", 2)
        assert_takes_writes(here)
        assert (await here.sync()).state == "ready"
        (live,) = here.behind_alias()
        stood, indices = written(here, live), here.indices()
        clone.go()
        await until(clone.done.is_set)
        sleeper.wake()
        await until(lambda: sleeper.said("lease_lost") or sleeper.said("run_left"))
        assert clone.status in (400, 500), "live takes writes, so it is not cloned"
        assert (written(here, live), here.behind_alias()) == (stood, [live])
        assert here.indices() == indices
        assert_takes_writes(here)


async def test_a_bulk_that_was_given_up_and_comes_late_writes_nothing_into_the_promoted_generation(
    any_engine_url: str, tmp_path: Path, postgres_url: str
) -> None:
    async with shared(any_engine_url, tmp_path, postgres_url, lease=30) as (way, here):
        run, bulk = await here.queued(), way.hold("POST", r"-2\d+\.fill-\d+/_bulk")
        await here.work()
        await reached(bulk)
        bulk.lose()
        assert (await here.ended(run.id)).state == "ready"
        (live,) = here.behind_alias()
        stood = written(here, live)
        bulk.go()
        await until(bulk.done.is_set)
        assert (written(here, live), here.indices()) == (stood, [live])
