"""What simpler protocols lose, one hole by one: events, runs, clones, switches and zombies, stopped where it matters.

Afterwards each generation that events reach is, document by document, what the source says.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app import progress, refusing
from app.db import heard
from app.errors import Conflict, IndexMissing
from app.models import Event
from app.sync import apply, pipeline
from tests.gates import Watched, documents
from tests.stack import Gate, Stack, ask, stack
from tests.telling import (
    On,
    assert_equal,
    entries,
    entries_when,
    flooded,
    lapse,
    ready,
    rename,
    settled,
    stands,
    tell,
    text_of,
    to,
    versions,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def time_to_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that stands at a gate is not given up, also on a slow machine."""
    monkeypatch.setattr(apply, "WRITE_SECONDS", 60.0)


@asynccontextmanager
async def shop(url: str, folder: Path, **settings: object) -> AsyncIterator[tuple[Stack, dict[str, dict[str, object]]]]:
    """A live generation, and the products that are in it; one event that stands at a gate leaves room for others."""
    async with stack(url, folder, **{"bulk_concurrency": 4, **settings}) as here:
        yield here, await ready(here)


async def newest(here: Stack) -> str:
    """The index of the newest generation."""
    return (await here.generations())[0].index


# --- runs and events -------------------------------------------------------------------------------------------------


async def test_an_event_read_before_the_point_in_time_and_written_after_it_loses(
    any_engine_url: str, tmp_path: Path
) -> None:
    async with shop(any_engine_url, tmp_path) as (here, products):
        one = sorted(products)[0]
        run, before_number = await here.stopped_at("create", On(lambda args: True))
        draft = await newest(here)
        rename(here, products, one, "Early lamp")
        writing = here.gate("bulk", to(f"{draft}.feed"))
        await tell(here, one)
        await stands(writing)
        rename(here, products, one, "Late lamp")  # of which nobody tells
        sealing = here.gate("green")
        before_number.open()
        await stands(sealing)
        assert "Late lamp" in text_of(here, draft, one)
        writing.open()
        await settled(here, one)
        assert [[item.error for item in items] for items in writing.answers] == [["version_conflict_engine_exception"]]
        sealing.open()
        ended = await here.ended(run.id)
        assert (ended.state, ended.error) == ("ready", None)
        assert "Late lamp" in text_of(here, here.alias, one)
        assert versions(here, here.alias)[one] == ended.number


async def test_a_late_document_of_a_run_whose_deletion_was_forgotten_goes_at_sealing(
    any_engine_url: str, tmp_path: Path
) -> None:
    async with shop(any_engine_url, tmp_path) as (here, products):
        one = sorted(products)[0]
        run, late = await here.stopped_at("bulk", to(".fill-"))
        draft = await newest(here)
        here.shop.delete(one)
        await tell(here, one, action="delete")
        await settled(here, one)
        forget_deletions(here, draft)
        sealing = here.gate("green")
        late.open()
        await stands(sealing)
        assert one in documents(here, draft), "the document came back: nothing was in its way"
        sealing.open()
        ended = await here.ended(run.id)
        assert (ended.state, ended.error) == ("ready", None)
        assert one not in documents(here, here.alias)
        assert {row.status for row in await settled(here)} == {"done"}
        await assert_equal(here)


def forget_deletions(here: Stack, index: str) -> None:
    """As a restart does, or a shard that moves."""
    ask(here.url, "POST", f"/{index}/_close?wait_for_active_shards=1")
    ask(here.url, "POST", f"/{index}/_open?wait_for_active_shards=1")
    ask(here.url, "GET", f"/_cluster/health/{index}?wait_for_status=yellow&timeout=30s")


async def test_what_was_back_since_its_deletion_is_not_deleted_when_it_is_missing_for_a_moment_at_sealing(
    any_engine_url: str, tmp_path: Path
) -> None:
    """Magento deletes a product before it indexes it again: that a deletion was known once is no proof today."""
    async with shop(any_engine_url, tmp_path) as (here, products):
        one = sorted(products)[0]
        run, late = await here.stopped_at("bulk", to(".fill-"))
        here.shop.delete(one)
        await tell(here, one)
        await settled(here, one)
        rename(here, products, one, "Lamp that is back")
        await tell(here, one)
        await settled(here, one)
        here.shop.delete(one)
        proving = here.gate("nearest")
        late.open()
        await stands(proving)
        await entries_when(here, lambda rows: all(row.status != "processing" for row in rows), one)
        await tell(here, *sorted(products)[1:3])
        await settled(here, *sorted(products)[1:3])
        assert "Lamp that is back" in text_of(here, here.alias, one)
        rename(here, products, one, "Lamp that is back")
        proving.open()
        assert (await here.ended(run.id)).state == "ready"
        await settled(here)
        await assert_equal(here)


async def test_a_draft_that_is_registered_while_a_claim_is_in_flight_is_fed_by_it(
    any_engine_url: str, tmp_path: Path
) -> None:
    async with shop(any_engine_url, tmp_path) as (here, products):
        one = sorted(products)[0]
        rename(here, products, one, "Lamp in flight")
        writing = here.gate("bulk", to(".feed"))
        await tell(here, one)
        await stands(writing)
        first = (await entries(here, one))[0].number
        run, reading = await here.stopped_at("refresh", On(lambda args: args[0] == here.shop.indices[-1]))
        draft = await newest(here)
        writing.open()
        (row,) = await settled(here, one)
        assert (row.status, row.attempts, row.lives) == ("done", 0, 0)
        assert row.number is not None
        assert first is not None
        assert row.number > first
        assert versions(here, draft) == {one: row.number}
        assert "Lamp in flight" in text_of(here, draft, one)
        reading.open()
        assert (await here.ended(run.id)).state == "ready"
        await assert_equal(here)


async def test_events_wait_while_a_clone_is_made_and_reach_it(any_engine_url: str, tmp_path: Path) -> None:
    async with shop(any_engine_url, tmp_path) as (here, products):
        one, (live,) = sorted(products)[0], here.behind_alias()
        run, cloning = await here.stopped_at("clone", strategy="incremental")
        rename(here, products, one, "Lamp beside a clone")
        await tell(here, one)
        (row,) = await entries_when(here, lambda rows: rows[0].reason_code == "write_blocked", one)
        assert (row.status, row.attempts) == ("pending", 0)
        assert blocked(here, live), "nobody lifts the block of a run that clones"
        cloning.open()
        (row,) = await settled(here, one)
        assert (row.status, row.attempts) == ("done", 0)
        ended = await here.ended(run.id)
        assert (ended.state, ended.error) == ("ready", None)
        assert not blocked(here, live)
        await settled(here)
        await assert_equal(here)


async def test_a_block_that_nobody_needs_is_lifted_by_whoever_meets_it(any_engine_url: str, tmp_path: Path) -> None:
    async with shop(any_engine_url, tmp_path) as (here, products):
        one, (live,) = sorted(products)[0], here.behind_alias()
        ask(here.url, "PUT", f"/{live}/_block/write")
        rename(here, products, one, "Lamp behind a block")
        await tell(here, one)
        (row,) = await settled(here, one)
        assert (row.status, row.attempts) == ("done", 0)
        assert not blocked(here, live)
        await assert_equal(here)


def blocked(here: Stack, index: str) -> bool:
    (settings,) = ask(here.url, "GET", f"/{index}/_settings").values()
    return bool(settings["settings"]["index"].get("blocks", {}).get("write") == "true")


# --- promotion and rollback ------------------------------------------------------------------------------------------


async def test_a_promotion_waits_for_events_and_says_so(any_engine_url: str, tmp_path: Path) -> None:
    async with shop(any_engine_url, tmp_path) as (here, products):
        one, before = sorted(products)[0], here.behind_alias()
        run, proving = await here.stopped_at("nearest")
        rename(here, products, one, "Lamp before the switch")
        writing = here.gate("bulk", to(".feed"))
        await tell(here, one)
        await stands(writing)
        moving = here.gate("move", Watched())
        proving.open()
        note = await told(here, run.id)
        assert note == {"waiting_for_events": 1, "why": pipeline.APPLYING}
        assert here.behind_alias() == before
        writing.open()
        assert (await here.ended(run.id)).state == "ready"
        assert isinstance(moving, Watched)
        assert len(moving.answers) == 1
        await settled(here)
        await assert_equal(here)


@pytest.mark.long
async def test_a_promotion_waits_no_longer_than_it_may_and_loses_nothing(
    any_engine_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "CATCH_UP_SECONDS", 0.5)
    async with shop(any_engine_url, tmp_path) as (here, products):
        one = sorted(products)[0]
        run, proving = await here.stopped_at("nearest")
        rename(here, products, one, "Lamp after the switch")
        writing = here.gate("bulk", to(".feed"))
        await tell(here, one)
        await stands(writing)
        proving.open()
        assert (await here.ended(run.id)).state == "ready"
        assert "Lamp after the switch" not in text_of(here, here.alias, one)
        writing.open()
        await settled(here)
        assert "Lamp after the switch" in text_of(here, here.alias, one)
        await assert_equal(here)


async def told(here: Stack, run_id: str) -> dict[str, object]:
    """What a run says of the events that it waits for."""
    while True:
        rung = here.db.bell.listen(run_id)
        async with here.db.reading() as session:
            lines = await progress.lines(session, run=run_id)
        if found := [dict(line.data) for line in lines if "waiting_for_events" in line.data]:
            return found[0]
        await heard(rung, 0.1)


async def test_live_and_rollback_target_equal_the_source_after_a_flood_with_switches(
    any_engine_url: str, tmp_path: Path
) -> None:
    async with shop(any_engine_url, tmp_path) as (here, products):
        ids = sorted(products)
        async with flooded(here, products, ids[:20], ids[20:25]):
            assert (await here.sync()).state == "ready"
            await here.rollback()
            assert (await here.sync(strategy="incremental", release=True)).state == "ready"
            await here.rollback()
        rows = await settled(here)
        assert {row.status for row in rows} == {"done"}
        fed = {row.state for row in await here.generations() if row.fed}
        assert fed == {"live", "retired"}
        await assert_equal(here)


# --- zombies ---------------------------------------------------------------------------------------------------------


async def test_an_applier_that_lost_its_lease_does_no_harm(any_engine_url: str, tmp_path: Path) -> None:
    async with shop(any_engine_url, tmp_path) as (here, products):
        one = sorted(products)[0]
        rename(here, products, one, "Lamp of the sleeper")
        sleeping = here.gate("bulk", to(".feed", once=True))
        await tell(here, one)
        await stands(sleeping)
        rename(here, products, one, "Lamp of the other")
        await lapse(here)
        (row,) = await settled(here, one)
        assert (row.status, row.lives) == ("done", 1)
        stood = versions(here, here.alias)
        sleeping.open()
        await entries_when(here, lambda _: bool(sleeping.answers), one)
        assert [item.error for item in sleeping.answers[0]] == ["version_conflict_engine_exception"]
        assert versions(here, here.alias) == stood
        assert stood[one] == row.number
        await tell(here, sorted(products)[1])
        await settled(here, sorted(products)[1])
        assert (await entries(here, one))[0] == row, "its word on what became of them is not heard"
        await assert_equal(here)


async def test_a_version_that_was_never_given_out_is_overtaken(any_engine_url: str, tmp_path: Path) -> None:
    """The database was restored, and has lost numbers: what stands in the way is no success."""
    async with shop(any_engine_url, tmp_path) as (here, products):
        one, (live,) = sorted(products)[0], here.behind_alias()
        lost = versions(here, live)[one] + 3_600_000
        body = b'{"text": "from a future that is lost"}'
        ask(here.url, "PUT", f"/{live}/_doc/{one}?version={lost}&version_type=external_gte&refresh=true", body)
        rename(here, products, one, "Lamp of today")
        await tell(here, one)
        (row,) = await settled(here, one)
        assert row.status == "done"
        assert row.number is not None
        assert row.number > lost
        assert "Lamp of today" in text_of(here, live, one)
        await assert_equal(here)


# --- generations that refuse -----------------------------------------------------------------------------------------


def no_feed(here: Stack, index: str) -> None:
    """Somebody took away the alias through which events write."""
    body = b'{"actions": [{"remove": {"index": "%s", "alias": "%s.feed"}}]}' % (index.encode(), index.encode())
    ask(here.url, "POST", "/_aliases", body)


GIVEN_UP = [pytest.param("bulk", "generation_state", marks=pytest.mark.long), ("nearest", "draft_given_up")]


@pytest.mark.parametrize(("method", "code"), GIVEN_UP)
async def test_a_draft_that_refuses_fails_its_run_and_holds_nothing(
    any_engine_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, code: str
) -> None:
    monkeypatch.setattr(refusing, "PATIENCE", 0.5)
    async with shop(any_engine_url, tmp_path) as (here, products):
        one, before = sorted(products)[0], here.behind_alias()
        run, stopped = await here.stopped_at(method, to(".fill-") if method == "bulk" else Gate())
        no_feed(here, await newest(here))
        rename(here, products, one, "Lamp that one draft refuses")
        await tell(here, one)
        (row,) = await settled(here, one)
        assert (row.status, row.attempts) == ("done", 0)
        assert "Lamp that one draft refuses" in text_of(here, here.alias, one)
        stopped.open()
        ended = await here.ended(run.id)
        assert ended.error is not None
        assert (ended.state, ended.error["code"]) == ("failed", code)
        assert (here.behind_alias(), here.indices()) == (before, before)
        assert (await here.sync()).state == "ready"
        await assert_equal(here)


@pytest.mark.long
async def test_a_retired_generation_that_refuses_is_stale_and_holds_nothing(
    any_engine_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusing, "PATIENCE", 0.5)
    async with shop(any_engine_url, tmp_path) as (here, products):
        one = sorted(products)[0]
        assert (await here.sync()).state == "ready"
        retired = next(row for row in await here.generations() if row.state == "retired")
        no_feed(here, retired.index)
        rename(here, products, one, "Lamp that the past refuses")
        await tell(here, one)
        (row,) = await settled(here, one)
        assert (row.status, row.attempts) == ("done", 0)
        left = next(row for row in await here.generations() if row.id == retired.id)
        assert (left.state, left.fed) == ("retired", False)
        assert left.stale_since is not None
        with pytest.raises(Conflict) as refused:
            await here.rollback()
        assert refused.value.code == "stale"
        await assert_equal(here)


async def test_only_the_live_generation_may_hold_events(
    any_engine_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusing, "PATIENCE", 0.5)
    async with shop(any_engine_url, tmp_path) as (here, products):
        one, (live,) = sorted(products)[0], here.behind_alias()
        no_feed(here, live)
        rename(here, products, one, "Lamp that waits")
        await tell(here, one)
        looked: set[int] = set()

        def often(rows: Sequence[Event]) -> bool:
            looked.update(row.number or 0 for row in rows)
            return len(looked) > 3

        (row,) = await entries_when(here, often, one)
        assert (row.reason_code, row.attempts) == ("feed_missing", 0)
        (generation,) = await here.generations()
        assert (generation.state, generation.fed) == ("live", True)
        body = b'{"actions": [{"add": {"index": "%s", "alias": "%s.feed"}}]}' % (live.encode(), live.encode())
        ask(here.url, "POST", "/_aliases", body)
        (row,) = await settled(here, one)
        assert (row.status, row.attempts) == ("done", 0)
        await assert_equal(here)


async def test_what_is_written_late_makes_no_index_anew(any_engine_url: str, tmp_path: Path) -> None:
    async with shop(any_engine_url, tmp_path) as (here, products):
        one = sorted(products)[0]
        run, filling = await here.stopped_at("bulk", to(".fill-"))
        draft = await newest(here)
        filling.open()
        writing = here.gate("bulk", to(f"{draft}.feed", once=True))
        rename(here, products, one, "Lamp for a draft that is gone")
        stopped = here.gate("green")
        await stands(stopped)
        await tell(here, one)
        await stands(writing)
        await here.cancel(run.id)
        stopped.open()
        assert (await here.ended(run.id)).state == "canceled"
        assert draft not in here.indices()
        ask(here.url, "PUT", f"/{draft}.feed")  # as engines do, unless they are told not to
        writing.open()
        (row,) = await settled(here, one)
        assert (row.status, row.attempts) == ("done", 0)
        assert [type(answer) for answer in writing.answers] == [IndexMissing], "it was sent, late"
        assert versions(here, f"{draft}.feed") == {}
        assert draft not in here.indices()
        await assert_equal(here)
