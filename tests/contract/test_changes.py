"""The change log: written by runs, read by time and product, forgotten in time; SQLite and Postgres."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlmodel import select

from app import catalogues, changes, runs, sweeper
from app.columns import utc_now
from app.errors import Invalid, NotFound
from app.models import ChangeRow
from app.sync.words import Change
from tests.contract.world import World, spec, world_on

pytestmark = pytest.mark.anyio

SOME = [Change("1", "added"), Change("2", "modified", ("price", "name")), Change("3", "deleted")]


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with world_on(database_url) as made:
        yield made


async def logged(world: World, found: list[Change], name: str = "shop", state: str = "ready") -> str:
    """A run that found *found*; its id."""
    async with world.db.writing() as session:
        run = await runs.request(session, runs.Order(catalogue=name), "a")
    ledger = await world.claim()
    await ledger.changes(found)
    await ledger.changes([])
    await world.finish(ledger, state)
    return run.id


async def products(world: World, **how: object) -> list[str]:
    async with world.db.reading() as session:
        rows, _ = await changes.listed(session, "shop", **how)
    return [row.product_id for row in rows]


async def test_a_change_says_what_when_which_fields_and_by_which_run(world: World) -> None:
    run = await logged(world, SOME)
    async with world.db.reading() as session:
        rows, cursor = await changes.listed(session, "shop")
    assert cursor is None
    shown = [changes.view(row) for row in rows]
    at = shown[0].pop("at")
    assert at.endswith("Z")
    assert abs(datetime.fromisoformat(at) - utc_now()) < timedelta(minutes=5)
    assert shown[0] == {"product_id": "3", "kind": "deleted", "fields": [], "run": run}
    assert {key: shown[1][key] for key in ("kind", "fields")} == {"kind": "modified", "fields": ["price", "name"]}


async def test_the_log_is_read_newest_first_in_pages_by_product_and_since_a_time(world: World) -> None:
    await logged(world, SOME)
    async with world.db.writing() as session:
        for row in (await session.exec(select(ChangeRow))).all():
            row.at -= timedelta(days=1)
    await logged(world, [Change("2", "deleted"), Change("4", "added")])
    assert await products(world) == ["4", "2", "3", "2", "1"]
    assert await products(world, since=utc_now() - timedelta(hours=1)) == ["4", "2"]
    assert await products(world, product_id="2") == ["2", "2"]
    assert await products(world, product_id="2", since=utc_now() - timedelta(hours=1)) == ["2"]
    seen, cursor = [], None
    while True:
        async with world.db.reading() as session:
            rows, cursor = await changes.listed(session, "shop", 2, cursor)
        seen += [row.product_id for row in rows]
        if cursor is None:
            break
    assert seen == ["4", "2", "3", "2", "1"]


async def test_the_last_change_of_a_product_is_the_newest_of_its_own_catalogue(world: World) -> None:
    await logged(world, SOME)
    async with world.db.writing() as session:
        await catalogues.declare(session, "other", spec("other-live"))
    await logged(world, [Change("1", "modified", ("price",))], "other")
    async with world.db.reading() as session:
        last = await changes.last(session, "shop", "1")
        assert last is not None
        assert last.kind == "added"
        assert await changes.last(session, "shop", "9") is None
    assert await products(world) == ["3", "2", "1"]


async def test_what_a_failed_run_found_was_carried_by_nobody(world: World) -> None:
    await logged(world, SOME)
    await logged(world, [Change("1", "deleted"), Change("5", "added")], state="failed")
    assert await products(world) == ["3", "2", "1"]
    async with world.db.reading() as session:
        last = await changes.last(session, "shop", "1")
    assert last is not None
    assert last.kind == "added"


async def test_a_large_page_of_changes_is_one_call(world: World) -> None:
    await logged(world, [Change(str(number), "added") for number in range(5000)])
    async with world.db.reading() as session:
        assert len((await session.exec(select(ChangeRow.id))).all()) == 5000


@pytest.mark.parametrize(
    "since",
    [datetime(2026, 1, 1), datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))],  # noqa: DTZ001
)
async def test_a_moment_that_is_none_is_refused(world: World, since: datetime) -> None:
    with pytest.raises(Invalid) as refused:
        await products(world, since=since)
    assert refused.value.errors[0]["where"] == "since"


async def test_another_offset_is_the_same_moment(world: World) -> None:
    await logged(world, SOME)
    hour_ago = (utc_now() - timedelta(hours=1)).astimezone(timezone(timedelta(hours=9)))
    assert len(await products(world, since=hour_ago)) == 3
    assert await products(world, since=hour_ago.astimezone(UTC) + timedelta(hours=2)) == []


async def test_an_unknown_catalogue_has_no_log(world: World) -> None:
    with pytest.raises(NotFound):
        async with world.db.reading() as session:
            await changes.listed(session, "nope")


async def test_changes_go_after_their_time_and_with_their_catalogue(world: World) -> None:
    await logged(world, SOME)
    for days, left in ((89, 3), (91, 0)):
        await sweeper.sweep(world.db, world.connections, retention_days=90, now=utc_now() + timedelta(days=days))
        assert len(await products(world)) == left
    await logged(world, SOME)
    await sweeper.forget(world.db, world.connections, "shop", "olga", purge=False)
    async with world.db.reading() as session:
        assert (await session.exec(select(ChangeRow))).all() == []
