"""Runs as orders, over SQLite and Postgres: one at a time, held, repeated, canceled, retried, ended."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anyio
import pytest

from app import audit, catalogues, idempotency, leases, progress, runs
from app.columns import utc_now
from app.errors import Conflict, EngineError, Invalid, LeaseLost, NotFound, Problem, Refused
from app.models import Run
from app.sync.tally import COUNTS
from app.sync.words import Reject
from tests.contract.world import World, spec, world_on

pytestmark = pytest.mark.anyio

ORDER = runs.Order(catalogue="shop")


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with world_on(database_url) as made:
        yield made


async def at_once(times: int, call: Any) -> list[Any]:
    """The answers of *times* calls that run at the same time; errors of ours stand as themselves."""
    answers: list[Any] = []

    async def one() -> None:
        try:
            answers.append(await call())
        except Problem as problem:
            answers.append(problem)

    async with anyio.create_task_group() as group:
        for _ in range(times):
            group.start_soon(one)
    return answers


async def state_lines(world: World, run_id: str) -> list[str]:
    async with world.db.reading() as session:
        return [line.data["state"] for line in await progress.lines(session, run=run_id) if line.kind == "state"]


# --- ask for ---------------------------------------------------------------------------------------------------------


async def test_an_order_becomes_a_queued_run_that_says_who_and_why(world: World) -> None:
    run = await world.order("cron", strategy="auto", reason="nightly")
    shown = runs.view(run)
    assert (shown["state"], shown["strategy"], shown["dry_run"]) == ("queued", "incremental", False)
    assert (shown["ceiling"], shown["approves"]) == (None, None)
    assert (shown["requested_by"], shown["reason"]) == ("cron", "nightly")
    assert shown["counts"] == dict.fromkeys(COUNTS)
    assert shown["cost"] == {"tokens": None, "usd": None}
    assert shown["requested_at"].endswith("Z")
    assert await state_lines(world, run.id) == ["queued"]


async def test_an_order_without_a_name_means_the_only_catalogue(world: World) -> None:
    async with world.db.writing() as session:
        assert (await runs.request(session, runs.Order(), "a")).catalogue == "shop"
    async with world.db.writing() as session:
        await catalogues.declare(session, "other", spec("other-live"))
    with pytest.raises(Invalid):
        async with world.db.writing() as session:
            await runs.request(session, runs.Order(), "a")


@pytest.mark.parametrize(("strategy", "dry_run"), [("full", True), ("incremental", True), ("repair", False)])
async def test_a_strategy_that_is_named_is_the_one_that_is_queued(world: World, strategy: str, dry_run: bool) -> None:
    run = await world.order(strategy=strategy, dry_run=dry_run)
    assert (run.strategy, run.dry_run) == (strategy, dry_run)
    async with world.db.reading() as session:
        assert await runs.active(session, "shop") == run.id


async def test_an_order_for_an_unknown_catalogue_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        async with world.db.writing() as session:
            await runs.request(session, runs.Order(catalogue="nope"), "a")


async def test_twenty_orders_at_once_are_one_run_and_nineteen_conflicts_that_name_it(world: World) -> None:
    answers = await at_once(20, world.order)
    winners = [answer for answer in answers if isinstance(answer, Run)]
    losers = [answer for answer in answers if isinstance(answer, Conflict)]
    assert len(winners) == 1
    assert len(losers) == 19, answers
    assert {(loser.code, loser.extra["run_id"]) for loser in losers} == {("active", winners[0].id)}


async def test_another_catalogue_runs_beside_it(world: World) -> None:
    async with world.db.writing() as session:
        await catalogues.declare(session, "other", spec("other-live"))
    await world.order()
    async with world.db.writing() as session:
        await runs.request(session, runs.Order(catalogue="other"), "a")


# --- held ------------------------------------------------------------------------------------------------------------


async def test_a_held_catalogue_takes_no_order_until_one_releases_it(world: World) -> None:
    async with world.db.writing() as session:
        await catalogues.hold(session, "shop", "olga rolled back")
    with pytest.raises(Conflict) as refused:
        await world.order("cron")
    assert refused.value.code == "held"
    assert "olga rolled back" in refused.value.detail
    run = await world.order("olga", release=True, reason="fixed")
    assert run.state == "queued"
    async with world.db.reading() as session:
        assert not (await catalogues.get(session, "shop")).held
        (entry,) = (await audit.listed(session))[0]
    assert (entry.who, entry.act, entry.reason) == ("olga", "release", "fixed")


async def test_an_order_that_releases_but_is_refused_releases_nothing(world: World) -> None:
    await world.order()
    async with world.db.writing() as session:
        await catalogues.hold(session, "shop", "rolled back")
    with pytest.raises(Conflict):
        await world.order(release=True)
    async with world.db.reading() as session:
        assert (await catalogues.get(session, "shop")).held
        assert (await audit.listed(session))[0] == []


@pytest.mark.parametrize("release", [False, True])
async def test_a_held_catalogue_is_planned_and_stays_held(world: World, release: bool) -> None:
    async with world.db.writing() as session:
        await catalogues.hold(session, "shop", "olga rolled back")
    run = await world.order(dry_run=True, release=release)
    assert run.switch_seen == 0
    async with world.db.reading() as session:
        assert (await catalogues.get(session, "shop")).held
        assert (await audit.listed(session))[0] == []
    with pytest.raises(Conflict):
        await world.order()


# --- the same key ----------------------------------------------------------------------------------------------------


async def keyed(world: World, key: str = "k", who: str = "a", **order: Any) -> Run:
    async with world.db.writing() as session:
        return await runs.request(session, runs.Order(catalogue="shop", **order), who, key=key)


async def test_the_same_key_and_order_are_the_same_run_even_when_it_is_over(world: World) -> None:
    first = await keyed(world)
    async with world.db.writing() as session:
        await runs.cancel(session, first.id, "a")
    assert (await keyed(world)).id == first.id
    async with world.db.reading() as session:
        assert (await runs.known(session, ORDER, "a", "k")).id == first.id
        assert await runs.known(session, ORDER, "b", "k") is None


async def test_equal_orders_with_one_key_at_once_are_one_run(world: World) -> None:
    answers = await at_once(10, lambda: keyed(world))
    assert len({answer.id for answer in answers}) == 1, answers


async def test_a_key_with_another_order_is_refused(world: World) -> None:
    await keyed(world)
    with pytest.raises(Invalid) as refused:
        await keyed(world, reason="another")
    assert (refused.value.status, refused.value.code) == (422, "idempotency_key_reused")


async def test_a_refused_order_leaves_its_key_free(world: World) -> None:
    first = await world.order()
    with pytest.raises(Conflict):
        await keyed(world)
    async with world.db.writing() as session:
        await runs.cancel(session, first.id, "a")
    assert (await keyed(world)).id != first.id


async def test_a_key_is_free_again_after_a_day(world: World) -> None:
    now = utc_now()
    for moment, run in ((now, "r1"), (now + timedelta(hours=23), "r2"), (now + timedelta(hours=25), "r3")):
        async with world.db.writing() as session:
            stands_for = await idempotency.claim(session, "s", "k", "h", run, now=moment)
        assert stands_for == {"r1": "r1", "r2": "r1", "r3": "r3"}[run]
    async with world.db.writing() as session:
        assert await idempotency.forget(session, now + timedelta(hours=50)) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "\x00"])
async def test_a_key_no_one_could_store_is_refused(world: World, key: str) -> None:
    with pytest.raises(Invalid):
        await keyed(world, key)


# --- cancel, retry ---------------------------------------------------------------------------------------------------


async def test_a_queued_run_is_canceled_at_once(world: World) -> None:
    run = await world.order()
    async with world.db.writing() as session:
        canceled = await runs.cancel(session, run.id, "bob")
    assert (canceled.state, canceled.canceled_by, canceled.error["code"]) == ("canceled", "bob", "canceled")
    assert canceled.finished_at is not None
    assert await state_lines(world, run.id) == ["queued", "canceled"]
    async with world.db.reading() as session:
        assert [(entry.who, entry.act, entry.subject) for entry in (await audit.listed(session))[0]] == [
            ("bob", "cancel", run.id)
        ]


async def test_a_running_run_is_asked_to_stop_once_and_its_bell_rings(world: World) -> None:
    run = await world.order()
    await world.claim()
    rung = world.db.bell.listen(run.id)
    for who in ("bob", "eve"):
        async with world.db.writing() as session:
            asked = await runs.cancel(session, run.id, who)
    assert rung.is_set()
    assert (asked.state, asked.cancel_requested, asked.canceled_by) == ("running", True, "bob")
    async with world.db.reading() as session:
        assert len((await audit.listed(session))[0]) == 1


async def test_what_is_over_can_not_be_canceled_and_what_succeeded_not_retried(world: World) -> None:
    await world.synced()
    async with world.db.reading() as session:
        (run,), _ = await runs.listed(session)
    for act in (runs.cancel, runs.retry):
        with pytest.raises(Conflict):
            async with world.db.writing() as session:
                await act(session, run.id, "bob")


async def test_a_promoted_run_that_cleans_up_can_not_be_canceled(world: World) -> None:
    ledger, draft = await world.begun()
    await ledger.promote(draft)
    await ledger.stage("cleaning")
    with pytest.raises(Conflict) as refused:
        async with world.db.writing() as session:
            await runs.cancel(session, ledger.run, "bob")
    assert refused.value.code == "too_late"


async def test_a_retry_is_a_new_run_of_the_same_order(world: World) -> None:
    run = await world.order(reason="nightly")
    with pytest.raises(Conflict):
        async with world.db.writing() as session:
            await runs.retry(session, run.id, "bob")
    await world.finish(await world.claim(), "failed", EngineError("down"))
    async with world.db.writing() as session:
        again = await runs.retry(session, run.id, "bob", request_id="q1")
    assert (again.attempt, again.retry_of, again.reason, again.requested_by) == (2, run.id, "nightly", "bob")
    assert again.id != run.id


async def test_a_retry_of_a_plan_plans(world: World) -> None:
    run = await world.order(strategy="full", dry_run=True)
    await world.finish(await world.claim(), "failed", EngineError("down"))
    async with world.db.writing() as session:
        again = await runs.retry(session, run.id, "bob")
    assert (again.dry_run, again.strategy) == (True, "full")


async def test_a_run_keeps_what_was_found_against_it(world: World) -> None:
    run = await world.order()
    found = [{"code": "source_empty", "detail": "Nothing there."}]
    await world.finish(await world.claim(), "failed", Refused("Nothing there.", code="source_empty", findings=found))
    assert (await world.run(run.id)).error == {**found[0], "findings": found}


async def test_the_last_reject_of_a_product_is_the_newest_of_its_own_catalogue(world: World) -> None:
    for code in ("no_name", "no_price"):
        await world.order()
        ledger = await world.claim()
        await ledger.reject([Reject("1", "data", code, ""), Reject("2", "rule", "excluded", "")])
        await world.finish(ledger, "failed")
    async with world.db.reading() as session:
        last = await runs.last_reject(session, "shop", "1")
        assert last is not None
        assert last.code == "no_price"
        assert await runs.last_reject(session, "shop", "3") is None
        assert await runs.last_reject(session, "other", "1") is None


async def test_unknown_runs_are_not_found(world: World) -> None:
    for act in (runs.cancel, runs.retry):
        with pytest.raises(NotFound):
            async with world.db.writing() as session:
                await act(session, "nope", "bob")


# --- leases ----------------------------------------------------------------------------------------------------------


async def test_one_of_many_workers_claims_a_run(world: World) -> None:
    run = await world.order()

    async def claim() -> Run | None:
        async with world.db.writing() as session:
            return await runs.claim(session, "w", 30)

    claimed = [answer for answer in await at_once(10, claim) if answer is not None]
    assert [(one.id, one.state, one.fence) for one in claimed] == [(run.id, "running", 1)]


async def test_one_of_many_takes_a_dead_worker_s_run_over_and_the_dead_one_is_fenced_off(world: World) -> None:
    run = await world.order()
    ledger = await world.claim()

    async def take() -> Run | None:
        async with world.db.writing() as session:
            return await runs.take_over(session, run.id, "w2", 30)

    assert await take() is None
    await world.expire(run.id)
    async with world.db.reading() as session:
        assert [one.id for one in await runs.expired(session)] == [run.id]
    taken = [answer for answer in await at_once(10, take) if answer is not None]
    assert [one.fence for one in taken] == [2]
    for write in (lambda: ledger.stage("filling"), lambda: world.finish(ledger, "ready"), lambda: renew(world, ledger)):
        with pytest.raises(LeaseLost):
            await write()
    assert (await world.run(run.id)).stage is None


async def renew(world: World, ledger: Any, seconds: float = 60) -> None:
    async with world.db.writing() as session:
        await leases.renew(session, ledger.run, ledger.fence, seconds)


async def test_a_lease_is_renewed_by_the_database_s_clock_and_never_after_it_ran_out(world: World) -> None:
    run = await world.order()
    ledger = await world.claim(seconds=20)
    before = (await world.run(run.id)).lease_until
    await renew(world, ledger, 600)
    assert (await world.run(run.id)).lease_until >= before + 570_000
    await world.expire(run.id)
    with pytest.raises(LeaseLost):
        await renew(world, ledger)


async def test_a_lease_that_ran_out_unnoticed_does_not_spoil_the_end(world: World) -> None:
    run = await world.order()
    ledger = await world.claim()
    await world.expire(run.id)
    ended = await world.finish(ledger, "failed", EngineError("down", code="engine_refused"))
    assert (ended.state, ended.error) == ("failed", {"code": "engine_refused", "detail": "down"})
    assert await state_lines(world, run.id) == ["queued", "running", "failed"]


# --- lists -----------------------------------------------------------------------------------------------------------


async def test_runs_are_listed_newest_first_in_pages(world: World) -> None:
    made = []
    for _ in range(5):
        run = await world.order()
        made.append(run.id)
        async with world.db.writing() as session:
            await runs.cancel(session, run.id, "a")
    seen, cursor = [], None
    while True:
        async with world.db.reading() as session:
            rows, cursor = await runs.listed(session, "shop", "canceled", 2, cursor)
        seen += [row.id for row in rows]
        if cursor is None:
            break
    assert seen == made[::-1]
    async with world.db.reading() as session:
        assert (await runs.listed(session, state="ready"))[0] == []
        with pytest.raises(Invalid):
            await runs.listed(session, state="sleeping")
