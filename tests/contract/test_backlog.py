"""How far events are behind, over SQLite and Postgres, and what runs are told of them."""

from typing import Any

import pytest

from app import backlog, catalogues, events, maintenance
from app.sync.apply import ABSENT, UNCHANGED, WITHHELD, Done, Failed, Later
from tests.contract.outbox import Outbox, ahead

pytestmark = pytest.mark.anyio


# --- how far behind --------------------------------------------------------------------------------------------------


async def figures(outbox: Outbox) -> dict[str, Any]:
    async with outbox.db.reading() as session:
        found = dict(await backlog.of(session, outbox.name))
        everything = await backlog.of_all(session)
    assert everything.get(outbox.name, dict.fromkeys(found, 0) | {"oldest_seconds": None}).keys() == found.keys()
    return found


async def test_an_empty_outbox_is_not_behind(outbox: Outbox) -> None:
    nothing = dict.fromkeys(backlog.FIGURES, 0) | {"oldest_seconds": None}
    assert await figures(outbox) == nothing
    await outbox.ended("1")
    assert await figures(outbox) == nothing


async def test_what_waits_is_stuck_or_failed_is_counted(outbox: Outbox) -> None:
    await outbox.tell(*"1234567")
    outcomes = {"1": Later(WITHHELD, 30), "2": Later("engine_unavailable"), "3": Failed("no_name", "")}
    await outbox.settle(await outbox.claim(), **outcomes)
    await outbox.tell("8", not_before=ahead(300))
    await outbox.claimed("2")
    await outbox.tell("9")
    await outbox.elapse(20)
    found = await figures(outbox)
    assert 20 <= found.pop("oldest_seconds") < 30
    assert found == {"pending": 3, "due": 1, "processing": 1, "stuck": 0, "failed": 1, "withheld": 1}
    await outbox.elapse(100)
    found = await figures(outbox)
    assert (found["stuck"], found["due"]) == (1, 2)


async def test_what_is_later_or_failed_does_not_age(outbox: Outbox) -> None:
    await outbox.tell("1", not_before=ahead(500))
    await outbox.ended("2", outcome=Failed("no_name", ""))
    await outbox.elapse(100)
    assert (await figures(outbox))["oldest_seconds"] is None


async def test_what_its_sender_put_off_ages_from_then_on(outbox: Outbox) -> None:
    await outbox.tell("1", not_before=ahead(500))
    await outbox.elapse(540)
    assert 30 <= (await figures(outbox))["oldest_seconds"] < 100


async def test_what_a_guard_withholds_makes_nothing_late(outbox: Outbox) -> None:
    await outbox.ended("1", outcome=Later(WITHHELD, 30))
    await outbox.elapse(100)
    found = await figures(outbox)
    assert (found["due"], found["withheld"], found["oldest_seconds"]) == (1, 1, None)


# --- what a run asks -------------------------------------------------------------------------------------------------


async def test_a_run_knows_what_events_told_of_since_a_number(outbox: Outbox) -> None:
    before = (await outbox.ended("old")).number
    await outbox.ended("merged", outcome=Failed("early", ""))
    await outbox.tell("back")
    await outbox.settle(await outbox.claimed("back"), Later("engine_unavailable", 60))
    since = (await outbox.catalogue()).number
    await outbox.ended("done")
    await outbox.ended("failed", outcome=Failed("no_name", ""))
    await outbox.tell("merged")
    await outbox.tell("held", priority=True)
    claim = await outbox.claimed("merged", "held")
    async with outbox.db.writing() as session:
        assert await events.replay(session, outbox.name, events.Wanted(reason="x", reason_code="early"), "olga") == 1
    await outbox.settle(claim, Later("engine_unavailable"))
    await outbox.claimed("held", most=1)
    await outbox.tell("waits")
    touched = {"done", "failed", "held", "waits", "merged"}
    async with outbox.db.reading() as session:
        for number, found in ((since, touched), (before - 1, touched | {"back", "old"})):
            asked = [*sorted(touched), "old", "back", "none"]
            assert await backlog.told_of(session, outbox.name, number, asked) == found
            assert {one async for ids in backlog.touched(session, outbox.name, number) for one in ids} == found


async def test_a_run_waits_for_what_was_received_before_and_for_nothing_else(outbox: Outbox) -> None:
    async def waiting(mark: int) -> tuple[int, str]:
        async with outbox.db.reading() as session:
            return await backlog.waiting(session, outbox.name, mark)

    await outbox.tell("guarded", "again", "out", "held")
    told = {"guarded": Later(WITHHELD), "again": Later(UNCHANGED), "out": Later("engine_unavailable", 5)}
    await outbox.settle(await outbox.claim(), held=Later("engine_unavailable"), **told)
    await outbox.tell("later", not_before=ahead(300))
    mark = (await outbox.row("later")).received_at
    assert await waiting(mark) == (2, "engine_unavailable")
    await outbox.elapse(10)
    assert await waiting(mark - 10_000) == (2, "engine_unavailable")
    claim = await outbox.claim()
    assert (await waiting(mark))[0] == len(claim.entries) - 2
    assert await waiting(mark - 60_000) == (0, "")
    async with outbox.db.writing() as session:
        await catalogues.patch(session, outbox.name, "tester", paused=True)
    assert (await waiting(mark))[1] == "paused"
    async with outbox.db.writing() as session:
        await maintenance.switch(session, maintenance.Mode(read_only=True), "tester")
    assert (await waiting(mark))[1] == "read_only"


async def test_a_run_still_waits_for_what_went_back_into_a_newer_entry(outbox: Outbox) -> None:
    await outbox.tell("1")
    mark = (await outbox.row("1")).received_at
    claim = await outbox.claimed("1")
    await outbox.elapse(-1)
    await outbox.tell("1")
    await outbox.elapse(1)
    await outbox.settle(claim, Later("engine_unavailable"))
    async with outbox.db.reading() as session:
        assert await backlog.waiting(session, outbox.name, mark) == (1, "")


async def test_a_new_notice_of_what_a_guard_withholds_is_waited_for(outbox: Outbox) -> None:
    await outbox.ended("1", "2", outcome=Later(WITHHELD))
    await outbox.tell("1")
    async with outbox.db.reading() as session:
        assert await backlog.waiting(session, outbox.name, 2**62) == (1, "")


# --- what sealing asks -----------------------------------------------------------------------------------------------


async def test_what_events_deleted_since_a_draft_was_registered_is_looked_at_again(outbox: Outbox) -> None:
    await outbox.ended("before", outcome=Done(deleted=True))
    since = (await outbox.catalogue()).number
    await outbox.ended("written")
    await outbox.ended("waits", "gone", outcome=Done(deleted=True))
    await outbox.ended("gone", "absent", outcome=Done(deleted=True, code=ABSENT))
    await outbox.tell("waits")
    async with outbox.db.writing() as session:
        row = await events.last(session, outbox.name, "absent")
        row.missing_since = 77
        session.add(row)
        await session.flush()
        await backlog.replay_deletions(session, outbox.name, since)
    waiting = {row.product_id: row for row in await outbox.rows() if row.status == "pending"}
    assert waiting.keys() == {"gone", "absent", "waits"}
    absent = waiting["absent"]
    assert (absent.missing_since, absent.action, absent.lane, absent.number) == (77, "delete", "priority", None)
    assert (waiting["waits"].action, waiting["waits"].lane) == ("upsert", "normal")
    assert all(row.seq is not None and not row.deleted for row in waiting.values())
    await outbox.claimed("gone", "absent", "waits")


async def test_what_is_there_again_since_is_not_looked_at_as_if_it_were_missing(outbox: Outbox) -> None:
    await outbox.ended("back", "still", outcome=Done(deleted=True))
    await outbox.ended("back")
    await outbox.ended("again", outcome=Done(deleted=True))
    await outbox.ended("again")
    await outbox.ended("again", outcome=Done(deleted=True))
    async with outbox.db.writing() as session:
        await backlog.replay_deletions(session, outbox.name, 0)
    await outbox.claimed("still", "again")
