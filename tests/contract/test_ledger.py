"""What a run's worker may write, until when, and what becomes of it; SQLite and Postgres."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest

from app import catalogues, changes, generations, progress, runs
from app.errors import LeaseLost, Problem, RunCanceled
from app.ledger import REJECTS_KEPT, RunLedger
from app.sync.ports import Ledger
from app.sync.tally import Tally
from app.sync.words import Change, Reject
from tests.contract.world import ALIAS, PASSED, RECIPE, REFUSED, SHAPE, STAMP, World, world_on

pytestmark = pytest.mark.anyio

FIGURES = {"counts": {"read": 7, "loaded": 5}, "stages": [{"stage": "filling"}], "tokens": 42}


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with world_on(database_url) as made:
        yield made


def conforms(ledger: RunLedger) -> Ledger:
    return ledger


async def claimed(world: World) -> RunLedger:
    await world.order()
    return await world.claim()


def writes(ledger: RunLedger, draft: Any) -> dict[str, Callable[[], Awaitable[Any]]]:
    return {
        "stage": lambda: ledger.stage("filling"),
        "report": lambda: ledger.report(FIGURES),
        "note": lambda: ledger.note("note", {}),
        "reject": lambda: ledger.reject([Reject("1", "data", "no_id", "")]),
        "live": ledger.live,
        "alias_findings": ledger.alias_findings,
        "changes": lambda: ledger.changes([Change("1", "added")]),
        "decide": lambda: ledger.decide("full", {}),
        "pace": lambda: ledger.pace("full"),
        "foreseen": lambda: ledger.foreseen("hash"),
        "begin_again": ledger.begin_again,
        "withhold": lambda: ledger.withhold([]),
        "register": lambda: ledger.register(RECIPE, "hash", STAMP),
        "feed": lambda: ledger.feed(draft),
        "number": ledger.number,
        "pit": lambda: ledger.pit("p", "i", "u"),
        "sealed": lambda: ledger.sealed(draft, 1),
        "verdict": lambda: ledger.verdict(draft, PASSED),
        "promote": lambda: ledger.promote(draft),
        "abandon": lambda: ledger.abandon(draft, "dropped"),
        "close_pit": lambda: ledger.pit(None),
    }


async def refusal(write: Callable[[], Awaitable[Any]]) -> type[Problem] | None:
    try:
        await write()
    except Problem as problem:
        return type(problem)
    return None


async def lines(world: World, run: str, kind: str) -> list[dict[str, Any]]:
    async with world.db.reading() as session:
        return [line.data for line in await progress.lines(session, run=run) if line.kind == kind]


async def cancel(world: World, run: str) -> None:
    async with world.db.writing() as session:
        await runs.cancel(session, run, "bob")


@pytest.mark.parametrize("how", ["ran_out", "taken_over"])
async def test_without_the_lease_nothing_is_written(world: World, how: str) -> None:
    ledger = await claimed(world)
    await ledger.stage("planning")
    draft = await ledger.register(RECIPE, "hash", STAMP)
    await world.expire(ledger.run)
    if how == "taken_over":
        async with world.db.writing() as session:
            assert await runs.take_over(session, ledger.run, "w2", 60)
    before = [(await world.run(ledger.run)).model_dump(), (await world.generation(draft.generation)).model_dump()]
    for name, write in writes(conforms(ledger), draft).items():
        assert await refusal(write) is LeaseLost, name
    after = [(await world.run(ledger.run)).model_dump(), (await world.generation(draft.generation)).model_dump()]
    assert after == before


async def test_a_cancel_is_heard_everywhere_but_where_things_are_cleaned_up(world: World) -> None:
    ledger = await claimed(world)
    draft = await ledger.register(RECIPE, "hash", STAMP)
    await cancel(world, ledger.run)
    for name, write in writes(ledger, draft).items():
        if name not in ("promote", "abandon", "close_pit"):
            assert await refusal(write) is RunCanceled, name
    assert (await world.run(ledger.run)).counts == FIGURES["counts"], "a canceled run keeps what it counted"
    await ledger.pit(None)
    await ledger.abandon(draft, "dropped")
    await ledger.abandon(draft, "dropped")
    assert (await world.generation(draft.generation)).state == "dropped"


async def test_a_cancel_that_comes_after_promotion_began_is_heard_by_the_switch_alone(world: World) -> None:
    before = await world.synced()
    ledger, draft = await world.begun()
    await cancel(world, ledger.run)
    await ledger.note("note", {"still": "here"})
    with pytest.raises(RunCanceled):
        await ledger.promote(draft)
    assert await world.live() == before.index


async def test_figures_stand_on_the_run_and_in_its_story(world: World) -> None:
    ledger = await claimed(world)
    tally = Tally()
    tally.enter("filling")
    tally.add(source=10, read=4, loaded=3, excluded=1)
    await ledger.stage("filling")
    await ledger.report(tally.view())
    shown = runs.view(await world.run(ledger.run))
    assert (shown["stage"], shown["counts"]["read"], shown["counts"]["added"]) == ("filling", 4, None)
    assert shown["cost"] == {"tokens": 0, "usd": None}
    assert [stage["stage"] for stage in shown["stages"]] == ["filling"]
    assert await lines(world, ledger.run, "stage") == [{"stage": "filling"}]
    (counted,) = await lines(world, ledger.run, "counts")
    assert (counted["documents"], counted["of"]) == (4, 10)


async def test_money_stands_on_the_run_where_it_is_known(world: World) -> None:
    ledger = await claimed(world)
    await ledger.report(FIGURES | {"usd": 0.25})
    assert runs.view(await world.run(ledger.run))["cost"] == {"tokens": 42, "usd": 0.25}


async def test_what_was_decided_stands_on_the_run_and_in_its_story(world: World) -> None:
    ledger = await claimed(world)
    await ledger.decide("full", {"why": "the recipe changed", "tokens": 7})
    shown = runs.view(await world.run(ledger.run))
    assert (shown["strategy"], shown["plan"]) == ("full", {"why": "the recipe changed", "tokens": 7})
    assert await lines(world, ledger.run, "note") == [{"plan": shown["plan"]}]


async def paced(world: World, read: int, seconds: float, strategy: str = "full", **end: Any) -> None:
    """A run that read so many products in so many seconds, and promoted them unless *end* says otherwise."""
    await world.order(dry_run=end.get("dry_run", False))
    ledger = await world.claim()
    await ledger.decide(strategy, {})
    await ledger.report(FIGURES | {"counts": {"read": read}})
    if end.get("promoted", True):
        await ledger.promote(await world.build(ledger))
    await world.finish(ledger, end.get("state", "ready"))
    async with world.db.writing() as session:
        run = await runs.get(session, ledger.run)
        run.started_at = run.finished_at - timedelta(seconds=seconds)


async def pace(world: World, strategy: str) -> float | None:
    ledger = await claimed(world)
    found = await ledger.pace(strategy)
    await world.finish(ledger, "failed")
    return found


async def test_the_pace_is_the_median_of_the_last_runs_of_this_strategy_that_promoted(world: World) -> None:
    assert await pace(world, "full") is None
    await paced(world, 1000, 1)
    for read in (10, 20, 400, 30, 40):
        await paced(world, read, 2)
    await paced(world, 7, 1, "incremental")
    await paced(world, 9000, 1, promoted=False)
    await paced(world, 9000, 1, promoted=False, dry_run=True)
    await paced(world, 9000, 1, promoted=False, state="failed")
    assert await pace(world, "full") == 15
    assert await pace(world, "incremental") == 7
    assert await pace(world, "repair") is None


async def planned(world: World, recipe: str, *, dry_run: bool = True, ago: float = 0, state: str = "ready") -> None:
    await world.order(dry_run=dry_run)
    ledger = await world.claim()
    await ledger.decide("full", {"recipe": recipe, "tokens": 7})
    await world.finish(ledger, state)
    async with world.db.writing() as session:
        run = await runs.get(session, ledger.run)
        run.finished_at -= timedelta(minutes=ago)


@pytest.mark.parametrize(
    ("how", "found"),
    [
        ({}, True),
        ({"recipe": "another"}, False),
        ({"ago": 59}, True),
        ({"ago": 61}, False),
        ({"dry_run": False}, False),
        ({"state": "failed"}, False),
    ],
)
async def test_what_a_plan_of_the_last_hour_foresaw_is_there_for_a_run(
    world: World, how: dict[str, Any], found: bool
) -> None:
    await planned(world, **({"recipe": "hash"} | how))
    ledger = await claimed(world)
    assert await ledger.foreseen("hash") == ({"recipe": "hash", "tokens": 7} if found else None)


async def test_a_plan_that_was_carried_out_foresees_nothing_more(world: World) -> None:
    await planned(world, recipe="hash")
    await world.finish(await claimed(world), "failed")
    ledger = await claimed(world)
    assert await ledger.foreseen("hash") is not None
    await world.finish(ledger, "ready")
    assert await (await claimed(world)).foreseen("hash") is None


async def test_a_run_that_begins_again_takes_back_its_own_changes_and_rejects(world: World) -> None:
    for again in (False, True):
        ledger = await claimed(world)
        await ledger.changes([Change("1", "added")])
        await ledger.reject([Reject("2", "data", "no_name", "")])
        if again:
            await ledger.begin_again()
        await world.finish(ledger, "ready")
    run = await world.run(ledger.run)
    async with world.db.reading() as session:
        rows, _ = await changes.listed(session, world.name)
        assert (await runs.rejects(session, run.id))[0] == []
        assert await runs.last_reject(session, world.name, "2") is not None
    assert [row.run == run.id for row in rows] == [False]
    assert run.reject_rows == 0


async def test_rejects_are_kept_up_to_a_limit(world: World) -> None:
    ledger = await claimed(world)
    some = [Reject(str(number), "data", "no_name", "has no name") for number in range(REJECTS_KEPT - 1)]
    await ledger.reject(some)
    await ledger.reject(some[:3])
    await ledger.reject([])
    assert (await world.run(ledger.run)).reject_rows == REJECTS_KEPT
    async with world.db.reading() as session:
        page, cursor = await runs.rejects(session, ledger.run, 2)
        again, _ = await runs.rejects(session, ledger.run, 2, cursor)
    assert [runs.view_reject(row)["product_id"] for row in (*page, *again)] == ["0", "1", "2", "3"]
    assert runs.view_reject(page[0]) == {"product_id": "0", "by": "data", "code": "no_name", "detail": "has no name"}


async def test_a_number_is_never_given_twice_and_never_behind_the_clock(world: World) -> None:
    ledger = await claimed(world)
    given = []

    async def take() -> None:
        given.append(await ledger.number())

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(take)
    assert len(set(given)) == 20
    assert min(given) > 1_700_000_000_000
    async with world.db.writing() as session:
        (await catalogues.locked(session, world.name)).number = 9_000_000_000_000
    assert await ledger.number() == 9_000_000_000_001
    assert (await world.run(ledger.run)).number == 9_000_000_000_001


async def test_a_point_in_time_is_written_down_and_forgotten(world: World) -> None:
    ledger = await claimed(world)
    await ledger.pit("pit-1", "shop-7", "uuid-7")
    run = await world.run(ledger.run)
    assert (run.pit, run.source_index, run.source_uuid) == ("pit-1", "shop-7", "uuid-7")
    await ledger.pit(None)
    assert (await world.run(ledger.run)).pit is None


async def test_a_draft_is_named_before_it_exists_and_is_born_with_the_number_only_where_nothing_is_live(
    world: World,
) -> None:
    ledger = await claimed(world)
    assert await ledger.live() is None
    draft = await ledger.register(RECIPE, "hash", STAMP)
    row = await world.generation(draft.generation)
    assert (row.index, row.state, row.fed, row.created_by) == (draft.index, "draft", True, ledger.run)
    assert row.embedder == {"name": "local", "model": "hashing-64", "version": "1", "dims": 64, "normalized": True}
    assert await ledger.aliases(draft) == [f"{draft.index}.fill-1", f"{draft.index}.feed", f"{ALIAS}.switch-0"]
    mark = await ledger.mark(draft)
    assert (mark.catalogue, mark.run, mark.generation, mark.recipe) == ("shop", ledger.run, row.id, "hash")
    async with world.db.reading() as session:
        assert mark.owner == await generations.owner(session)
    await ledger.abandon(draft, "dropped")
    await world.finish(ledger, "failed")
    live = await world.synced()
    later = await claimed(world)
    assert (await later.live()).id == live.id
    again = await later.register(RECIPE, "hash", STAMP)
    assert await later.aliases(again) == [f"{again.index}.fill-1", f"{again.index}.feed"]


async def test_the_epoch_moves_with_the_fed_set(world: World) -> None:
    async def epoch() -> int:
        async with world.db.reading() as session:
            return (await catalogues.get(session, world.name)).epoch

    ledger = await claimed(world)
    seen = [await epoch()]
    draft = await ledger.register(RECIPE, "hash", STAMP)
    seen.append(await epoch())
    await ledger.sealed(draft, 3)
    seen.append(await epoch())
    await ledger.verdict(draft, PASSED)
    await world.engine.create(draft.index, SHAPE, await ledger.aliases(draft), await ledger.mark(draft))
    await ledger.promote(draft)
    seen.append(await epoch())
    assert seen == sorted(set(seen))


async def test_a_verdict_stands_on_the_run_and_a_refused_draft_leaves(world: World) -> None:
    ledger = await claimed(world)
    draft = await world.build(ledger, REFUSED)
    shown = (await world.run(ledger.run)).verdict
    check = {"check": "count", "expected": 3, "found": 2, "passed": False, "detail": "One product is missing."}
    assert shown == {"passed": False, "checks": [check]}
    assert await lines(world, ledger.run, "verdict") == [shown]
    assert (await world.generation(draft.generation)).state == "refused"


async def test_a_story_has_no_gaps_and_no_repeats_however_many_write(world: World) -> None:
    ledger = await claimed(world)

    async def say(word: int) -> None:
        await ledger.note("note", {"word": word})

    async with anyio.create_task_group() as group:
        for word in range(20):
            group.start_soon(say, word)
    async with world.db.reading() as session:
        told = await progress.lines(session, run=ledger.run)
    assert [line.seq for line in told] == list(range(1, len(told) + 1))
    assert [line.number for line in told] == list(range(1, len(told) + 1))
