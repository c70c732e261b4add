"""The database goes away in the middle of a run: the run goes on while its lease lasts, or is settled; never half."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from tests.failure.scene import reached, through, until
from tests.gateway import Gateway, Passage, passage
from tests.stack import WAIT, Stack

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def passed(url: str, folder: Path, postgres: str, lease: float) -> AsyncIterator[tuple[Gateway, Passage, Stack]]:
    """A catalogue with a live generation; engine and database can both be held back."""
    async with (
        passage(postgres) as way,
        through(url, folder, database_url=way.url, lease_seconds=lease) as (engine, here),
    ):
        await here.work()
        assert (await here.sync()).state == "ready"
        yield engine, way, here


async def away(way: Passage) -> None:
    """The database is gone, and somebody has noticed."""
    way.cut()
    with anyio.fail_after(WAIT):
        await way.knocked.wait()


async def test_a_run_goes_on_when_its_lease_survived(any_engine_url: str, tmp_path: Path, postgres_url: str) -> None:
    async with passed(any_engine_url, tmp_path, postgres_url, 30) as (engine, way, here):
        held = engine.hold("POST", r"-2\d+\.fill-\d+/_bulk")
        run = await here.queued()
        await reached(held)
        await away(way)
        held.go()
        await until(held.done.is_set)
        await until(lambda: way.refused > 5)
        way.mend()
        ended = await here.ended(run.id)
        assert (ended.state, ended.error, ended.fence) == ("ready", None, 1)
        assert here.behind_alias() == [(await here.generations())[0].index]


async def test_a_run_is_settled_when_its_lease_did_not(any_engine_url: str, tmp_path: Path, postgres_url: str) -> None:
    async with passed(any_engine_url, tmp_path, postgres_url, 2) as (engine, way, here):
        before = here.behind_alias()
        held = engine.hold("POST", r"-2\d+\.fill-\d+/_bulk")
        run = await here.queued()
        await reached(held)
        await away(way)
        await until(lambda: here.open_contexts() == 0)
        assert len(here.indices()) == 2, "whoever can not ask the database drops nothing"
        way.mend()
        ended = await here.ended(run.id)
        assert ended.error is not None
        assert (ended.state, ended.error["code"]) == ("failed", "worker_lost")
        assert (here.behind_alias(), here.indices()) == (before, before)
        assert (await here.sync()).state == "ready"


async def test_a_move_that_could_not_be_written_down_is_settled_as_made(
    any_engine_url: str, tmp_path: Path, postgres_url: str
) -> None:
    async with passed(any_engine_url, tmp_path, postgres_url, 10) as (engine, way, here):
        (old,) = here.behind_alias()
        moved = engine.hold("POST", "^/_aliases", f'"alias":"{here.alias}"', answer=True)
        run = await here.queued()
        await reached(moved)
        await away(way)
        moved.go()
        (new,) = here.behind_alias()
        assert new != old
        await until(moved.done.is_set)
        way.mend()
        ended = await here.ended(run.id)
        assert (ended.state, ended.error) == ("ready", None)
        assert (here.behind_alias(), here.open_contexts()) == ([new], 0)
        live = (await here.generations())[0]
        assert (live.index, live.state, live.created_by) == (new, "live", run.id)
