"""Withheld deletions and the approval that lets them pass, once and on record; SQLite and Postgres."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app import approvals, audit, catalogues, progress, runs
from app.errors import Conflict, EngineError, NotFound
from app.models import Run
from app.sync.words import Check, Verdict, Withheld
from tests.contract.test_runs import at_once
from tests.contract.world import PASSED, World, world_on

pytestmark = pytest.mark.anyio

WITHHELD = Withheld("mass_delete", 50, 120)
SHRUNK = Verdict([Check("count", 3, 3, True), Check("shrink", 100, 3, False, "Too few are left.")])
WRONG = Verdict([Check("count", 3, 2, False, "One is missing."), Check("shrink", 3, 3, True)])


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with world_on(database_url) as made:
        yield made


async def approve(world: World, run: str, deletions: int = 120, who: str = "olga") -> Run:
    async with world.db.writing() as session:
        return await approvals.approve(session, run, deletions, who, "q1")


async def withheld(world: World, *found: Withheld, state: str = "ready", **order: Any) -> str:
    """A run that is over and withheld *found*; its id."""
    run = await world.order(**order)
    ledger = await world.claim()
    await ledger.withhold(found)
    await world.finish(ledger, state)
    return run.id


async def verdict(world: World, found: Verdict) -> str:
    """A run that its verdict ended; its id."""
    await world.order(strategy="full")
    ledger = await world.claim()
    await world.build(ledger, found)
    await world.finish(ledger, "failed", EngineError("refused", code="verdict_refused"))
    return ledger.run


async def refusal(world: World, run: str) -> str:
    with pytest.raises(Conflict) as refused:
        await approve(world, run)
    return refused.value.code


async def test_what_a_run_withheld_stands_on_it_and_in_its_story(world: World) -> None:
    run = await withheld(world, WITHHELD)
    shown = {"guard": "mass_delete", "limit": 50, "found": 120}
    assert runs.view(await world.run(run))["withheld"] == [shown]
    async with world.db.reading() as session:
        told = [line.data for line in await progress.lines(session, run=run) if line.kind == "note"]
    assert told == [{"withheld": [shown]}]
    assert runs.view(await world.run(await withheld(world)))["withheld"] == []


async def test_an_approval_is_a_new_run_of_the_same_order_with_a_ceiling_and_on_record(world: World) -> None:
    old = await withheld(world, WITHHELD, strategy="incremental", reason="nightly")
    new = runs.view(await approve(world, old, 130))
    assert new["id"] != old
    assert (new["state"], new["trigger"], new["requested_by"], new["request_id"]) == (
        "queued",
        "approval",
        "olga",
        "q1",
    )
    assert (new["strategy"], new["reason"]) == ("incremental", "nightly")
    assert (new["ceiling"], new["approves"]) == (130, old)
    async with world.db.reading() as session:
        ((entry,), _) = await audit.listed(session)
    assert (entry.who, entry.act, entry.catalogue, entry.subject) == ("olga", "approve", "shop", old)
    assert entry.detail == {"deletions": 130}


async def test_a_run_that_its_verdict_called_a_shrink_is_approved_and_no_other_that_was_refused(world: World) -> None:
    assert await refusal(world, await verdict(world, WRONG)) == "nothing_withheld"
    shrunk = await verdict(world, SHRUNK)
    assert (await approve(world, shrunk, 1)).approves == shrunk


async def test_a_run_is_approved_once(world: World) -> None:
    old = await withheld(world, WITHHELD)
    answers = await at_once(5, lambda: approve(world, old))
    first = [answer for answer in answers if isinstance(answer, Run)]
    assert len(first) == 1, answers
    assert {answer.code for answer in answers if answer not in first} == {"approved_already"}
    await world.finish(await world.claim(), "failed", EngineError("down"))
    assert await refusal(world, old) == "approved_already"
    async with world.db.reading() as session:
        assert len((await audit.listed(session))[0]) == 1


async def test_what_an_approval_withholds_anew_is_approved_in_its_turn(world: World) -> None:
    old = await withheld(world, WITHHELD)
    low = await approve(world, old, 60)
    ledger = await world.claim()
    await ledger.withhold([Withheld("mass_delete", 60, 120)])
    await world.finish(ledger, "ready")
    assert (await approve(world, low.id, 120)).approves == low.id


async def test_a_retry_of_an_approval_keeps_its_ceiling(world: World) -> None:
    old = await withheld(world, WITHHELD)
    new = await approve(world, old)
    await world.finish(await world.claim(), "failed", EngineError("down"))
    async with world.db.writing() as session:
        again = await runs.retry(session, new.id, "bob")
    assert (again.ceiling, again.approves, again.retry_of, again.trigger) == (120, old, new.id, "retry")


async def test_an_approval_that_was_used_is_not_used_again_by_a_retry(world: World) -> None:
    old = await withheld(world, WITHHELD)
    new = await approve(world, old)
    await world.finish(await world.claim(), "failed", EngineError("down"))
    async with world.db.writing() as session:
        again = await runs.retry(session, new.id, "bob")
    for state in ("failed", "ready"):
        if state == "ready":
            async with world.db.writing() as session:
                again = await runs.retry(session, again.id, "bob")
        await world.finish(await world.claim(), state, EngineError("down") if state == "failed" else None)
        with pytest.raises(Conflict) as refused:
            async with world.db.writing() as session:
                await runs.retry(session, new.id, "bob")
        assert (refused.value.code, refused.value.extra["run_id"]) == ("approved_already", again.id)


async def test_what_makes_no_sense_is_a_conflict_and_leaves_no_trace(world: World) -> None:
    run = await world.order()
    assert await refusal(world, run.id) == "not_over"
    ledger = await world.claim()
    await ledger.withhold([WITHHELD])
    assert await refusal(world, run.id) == "not_over"
    await world.finish(ledger, "ready")
    assert await refusal(world, await withheld(world)) == "nothing_withheld"
    assert await refusal(world, await withheld(world, WITHHELD, dry_run=True)) == "dry_run"
    with pytest.raises(NotFound):
        await approve(world, "nope")
    async with world.db.reading() as session:
        assert (await audit.listed(session))[0] == []


async def test_an_approval_waits_its_turn_and_is_bound_by_a_hold_like_any_order(world: World) -> None:
    old = await withheld(world, WITHHELD)
    other = await world.order()
    assert await refusal(world, old) == "active"
    async with world.db.writing() as session:
        await runs.cancel(session, other.id, "a")
        await catalogues.hold(session, "shop", "rolled back")
    assert await refusal(world, old) == "held"
    await world.release()
    assert (await approve(world, old)).state == "queued"


async def test_a_verdict_that_passed_withholds_nothing(world: World) -> None:
    ledger, draft = await world.begun()
    await ledger.promote(draft)
    await world.finish(ledger, "ready")
    assert PASSED.passed
    assert await refusal(world, ledger.run) == "nothing_withheld"
