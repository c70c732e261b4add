"""Which generations are kept, by number and by day, and who needs more; SQLite and Postgres."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from app import catalogues, generations, retention
from app.models import Generation, Run
from tests.contract.world import World, world_on

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def ago(days: int, hours: int = 0) -> datetime:
    return NOON - timedelta(days=days, hours=hours)


async def retired(world: World, at: Sequence[datetime], fed: int = 0) -> list[str]:
    """Retired generations, newest first, the first *fed* of them fed, and a live one that came after them all."""
    rows = [
        Generation(
            id=f"g{number}", catalogue="shop", engine="main", index=f"rag-{number}", state="retired",
            created_at=moment - timedelta(minutes=1), retired_at=moment, fed=number < fed,
        )
        for number, moment in enumerate(at)
    ]  # fmt: skip
    live = Generation(
        id="live", catalogue="shop", engine="main", index="rag-live-1", state="live", created_at=NOON, fed=True
    )
    async with world.db.writing() as session:
        session.add_all([*rows, live])
    return [row.id for row in rows]


async def kept(world: World, now: datetime = NOON) -> list[str]:
    """The retired ones that are left, by id; the others are dropped."""
    async with world.db.writing() as session:
        gone = await retention.overdue(session, await catalogues.locked(session, "shop"), now)
        assert {one.state for one in gone} <= {"dropped"}
    async with world.db.reading() as session:
        return sorted(one.id for one in await generations.retired(session, "shop"))


async def test_the_last_one_of_each_day_is_kept_beside_the_last_few(database_url: str) -> None:
    async with world_on(database_url, keep=2, keep_daily=3) as world:
        at = [ago(0), ago(0, 1), ago(0, 2), ago(1), ago(1, 3), ago(2, 11), ago(2, 12), ago(3), ago(9)]
        await retired(world, at)
        assert await kept(world) == ["g0", "g1", "g3", "g5"]


async def test_days_are_those_of_utc_and_today_is_the_first(database_url: str) -> None:
    async with world_on(database_url, keep=1, keep_daily=2) as world:
        midnight = datetime(2026, 3, 10, tzinfo=UTC)
        second = timedelta(seconds=1)
        await retired(
            world, [midnight, midnight - second, midnight - timedelta(days=1), midnight - timedelta(days=1, seconds=1)]
        )
        assert await kept(world, midnight) == ["g0", "g1"]


async def test_as_days_go_by_fewer_are_kept(database_url: str) -> None:
    async with world_on(database_url, keep=1, keep_daily=3) as world:
        await retired(world, [ago(0), ago(1), ago(2)])
        assert await kept(world) == ["g0", "g1", "g2"]
        assert await kept(world, NOON + timedelta(days=1)) == ["g0", "g1"]
        assert await kept(world, NOON + timedelta(days=9)) == ["g0"]


async def test_without_days_only_the_number_counts(database_url: str) -> None:
    async with world_on(database_url, keep=1) as world:
        await retired(world, [ago(0), ago(1), ago(2)])
        assert await kept(world) == ["g0"]


async def test_what_is_fed_is_kept_beyond_the_number(database_url: str) -> None:
    async with world_on(database_url, keep=1, rollback_window=3) as world:
        await retired(world, [ago(0), ago(1), ago(2), ago(3)], fed=3)
        assert await kept(world) == ["g0", "g1", "g2"]


@pytest.mark.parametrize("state", ["running", "ready"])
async def test_what_an_unfinished_run_began_from_is_kept(database_url: str, state: str) -> None:
    async with world_on(database_url, keep=1) as world:
        await retired(world, [ago(0), ago(1), ago(2)])
        async with world.db.writing() as session:
            session.add(Run(id="r", catalogue="shop", strategy="full", state=state, from_generation="g2"))
        assert await kept(world) == (["g0", "g2"] if state == "running" else ["g0"])


@pytest.mark.parametrize("state", ["draft", "sealed", "dropped"])
async def test_what_a_draft_is_a_clone_of_is_kept(database_url: str, state: str) -> None:
    async with world_on(database_url, keep=1) as world:
        await retired(world, [ago(0), ago(1), ago(2)])
        async with world.db.writing() as session:
            session.add(
                Generation(id="d", catalogue="shop", engine="main", index="rag-d", state=state, cloned_from="g2")
            )
        assert await kept(world) == (["g0"] if state == "dropped" else ["g0", "g2"])
