"""Claims over SQLite and Postgres: who gets what, in which order, under which number, and what becomes of it."""

from typing import Any

import anyio
import pytest
from prometheus_client import REGISTRY

from app import claims, events, maintenance
from app.claims import LIVES, SHRINKS, Claim
from app.errors import LeaseLost, NotFound
from app.models import Event
from app.sync.apply import ABSENT, WITHHELD, Done, Failed, Later, Outcome
from tests.contract.outbox import Outbox

pytestmark = pytest.mark.anyio

OUT = Later("engine_unavailable", 5.0, "The engine is out.")


def products(claim: Claim | None) -> list[str]:
    return [one.product_id for one in claim.entries] if claim else []


def parts(row: Event, *names: str) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in names)


# --- claim -----------------------------------------------------------------------------------------------------------


async def test_a_claim_holds_entries_under_a_lease_and_a_number(outbox: Outbox) -> None:
    await outbox.tell("1", "2")
    claim = await outbox.claimed("1", "2", seconds=60)
    assert (claim.number, claim.epoch) == (claim.now, 0)
    for row in await outbox.rows():
        assert parts(row, "status", "number", "worker") == ("processing", claim.number, "w1")
        assert row.lease_until == claim.now + 60_000
    assert await outbox.claim() is None


async def test_numbers_rise_and_are_never_below_the_clock(outbox: Outbox) -> None:
    numbers = [(await outbox.ended(str(n))).number for n in range(3)]
    assert numbers == sorted(set(numbers))
    await outbox.set(number=numbers[-1] + 10**9)
    ahead = await outbox.ended("4")
    assert ahead.number == numbers[-1] + 10**9 + 1
    assert (await outbox.catalogue()).number == ahead.number


async def test_the_priority_lane_goes_first_and_the_other_has_its_share(outbox: Outbox) -> None:
    await outbox.tell(*[f"n{n:02}" for n in range(30)])
    await outbox.tell(*[f"p{n:02}" for n in range(30)], priority=True)
    claim = await outbox.claim(most=10)
    assert products(claim) == [f"p{n:02}" for n in range(8)] + ["n00", "n01"]
    await outbox.settle(claim)
    assert products(await outbox.claim(most=1)) == ["p08"]
    assert products(await outbox.claim(most=30)) == [f"p{n:02}" for n in range(9, 30)] + [
        f"n{n:02}" for n in range(2, 11)
    ]


async def test_a_lane_alone_has_the_whole_claim(outbox: Outbox) -> None:
    await outbox.tell("1", "2", "3")
    assert products(await outbox.claim(most=2)) == ["1", "2"]
    await outbox.tell("4", "5", priority=True)
    assert products(await outbox.claim(most=3)) == ["4", "5", "3"]


async def test_the_oldest_goes_first(outbox: Outbox) -> None:
    for one in "cab":
        await outbox.tell(one)
    assert products(await outbox.claim()) == ["c", "a", "b"]


async def test_a_product_is_in_one_pair_of_hands_only(outbox: Outbox) -> None:
    await outbox.tell("1", "2")
    first = await outbox.claimed("1", "2")
    await outbox.tell("1", "3")
    second = await outbox.claimed("3")
    assert second.number > first.number
    await outbox.settle(first)
    await outbox.claimed("1")


async def test_many_who_claim_at_once_have_nothing_in_common(outbox: Outbox) -> None:
    everything = [str(n) for n in range(40)]
    await outbox.tell(*everything)
    held: list[Claim] = []

    async def hand() -> None:
        while claim := await outbox.claim(most=4):
            held.append(claim)

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(hand)
    assert sorted(one for claim in held for one in products(claim)) == sorted(everything)
    assert len({claim.number for claim in held}) == len(held)


async def test_nothing_is_claimed_of_a_paused_catalogue(outbox: Outbox) -> None:
    await outbox.tell("1")
    await outbox.set(paused=True)
    assert (await outbox.due(), await outbox.claim()) == ([], None)
    await outbox.set(paused=False)
    assert await outbox.due() == ["shop"]
    await outbox.claimed("1")


async def test_nothing_is_due_while_the_service_is_read_only(outbox: Outbox) -> None:
    await outbox.tell("1")
    for read_only, due in ((True, ()), (False, ["shop"])):
        async with outbox.db.writing() as session:
            await maintenance.switch(session, maintenance.Mode(read_only=read_only), "olga")
        assert not read_only or await outbox.claim() is None, "nor for a hand that looked before it was switched"
        assert await outbox.due() == due


async def test_a_catalogue_is_due_for_what_can_be_claimed_or_taken_back(outbox: Outbox) -> None:
    assert await outbox.due() == []
    await outbox.tell("1")
    assert await outbox.due() == ["shop"]
    claim = await outbox.claimed("1")
    assert await outbox.due() == []
    await outbox.lapse()
    assert await outbox.due() == ["shop"]
    claim = await outbox.claimed("1")
    await outbox.settle(claim, OUT)
    assert await outbox.due() == []
    await outbox.elapse(6)
    assert await outbox.due() == ["shop"]


async def test_of_a_catalogue_that_is_gone_nothing_is_claimed(outbox: Outbox) -> None:
    with pytest.raises(NotFound):
        async with outbox.db.writing() as session:
            await claims.claim(session, "nope", "w1", 60)


async def test_a_claim_knows_the_generations_that_are_fed(outbox: Outbox) -> None:
    live = await outbox.world.synced()
    await outbox.tell("1")
    claim = await outbox.claimed("1")
    assert [(one.id, one.state) for one in claim.fed] == [(live.id, "live")]
    assert claim.epoch == (await outbox.catalogue()).epoch > 0


# --- settle ----------------------------------------------------------------------------------------------------------


async def test_each_entry_ends_as_its_outcome_says(outbox: Outbox) -> None:
    await outbox.tell("done", "gone", "absent", "bad", "later")
    claim = await outbox.claim()
    outcomes: dict[str, Outcome] = {
        "gone": Done(deleted=True), "absent": Done(deleted=True, code=ABSENT), "bad": Failed("no_name", "x" * 999),
        "later": OUT,
    }  # fmt: skip
    assert await outbox.settle(claim, Done(), **outcomes) is None
    rows = {row.product_id: row for row in await outbox.rows()}
    shown = {one: parts(row, "status", "deleted", "reason_code", "attempts") for one, row in rows.items()}
    assert shown == {
        "done": ("done", False, None, 0), "gone": ("done", True, None, 0), "absent": ("done", True, ABSENT, 0),
        "bad": ("failed", False, "no_name", 0), "later": ("pending", False, "engine_unavailable", 0),
    }  # fmt: skip
    for one, row in rows.items():
        assert parts(row, "lease_until", "worker", "number") == (None, None, claim.number)
        assert (row.done_at is None) == (one == "later")
    assert len(rows["bad"].detail) == 500
    assert 4500 < rows["later"].due_at - claim.now < 60_000


async def test_when_the_epoch_moved_all_is_done_again_under_a_new_number(outbox: Outbox) -> None:
    await outbox.tell("1", "2")
    claim = await outbox.claimed("1", "2")
    await outbox.set(epoch=claim.epoch + 1)
    again = await outbox.settle(claim)
    assert again is not None
    assert again.number > claim.number
    assert (again.epoch, again.now, sorted(products(again))) == (claim.epoch + 1, claim.now, ["1", "2"])
    assert {parts(row, "status", "number", "attempts") for row in await outbox.rows()} == {
        ("processing", again.number, 0)
    }
    with pytest.raises(LeaseLost):
        await outbox.settle(claim)
    assert await outbox.settle(again) is None


async def test_a_number_that_this_database_never_gave_out_raises_its_own(outbox: Outbox) -> None:
    await outbox.tell("1")
    claim = await outbox.claimed("1")
    lost = claim.number + 10**9
    again = await outbox.settle(claim, highest=lost)
    assert again is not None
    assert again.number > lost
    assert (await outbox.catalogue()).number == again.number
    assert await outbox.settle(again, highest=again.number) is None
    assert (await outbox.ended("2")).number > again.number


async def test_a_lower_version_in_the_way_is_no_news(outbox: Outbox) -> None:
    await outbox.tell("1")
    claim = await outbox.claimed("1")
    assert await outbox.settle(claim, highest=claim.number) is None


@pytest.mark.parametrize("how", ["ran_out", "taken_back", "given_back", "settled"])
async def test_without_its_lease_a_claim_settles_permits_and_releases_nothing(outbox: Outbox, how: str) -> None:
    await outbox.tell("1")
    claim = await outbox.claimed("1")
    if how in ("ran_out", "taken_back"):
        await outbox.lapse()
    if how == "taken_back":
        await outbox.claimed("1")
    if how == "settled":
        await outbox.settle(claim)
    if how == "given_back":
        await outbox.settle(claim, OUT)
    before = [row.model_dump() for row in await outbox.rows()]
    with pytest.raises(LeaseLost):
        await outbox.settle(claim, Failed("no_name", ""))
    with pytest.raises(LeaseLost):
        async with outbox.db.writing() as session:
            await claims.release(session, claim, OUT)
    with pytest.raises(LeaseLost):
        await outbox.permit(claim, "1", most=10)
    assert [row.model_dump() for row in await outbox.rows()] == before


async def test_a_claim_that_lost_one_entry_settles_none(outbox: Outbox) -> None:
    await outbox.tell("1", "2")
    claim = await outbox.claimed("1", "2")
    async with outbox.db.writing() as session:
        (await session.get_one(Event, (await outbox.row("1")).seq)).lease_until = 1
    with pytest.raises(LeaseLost):
        await outbox.settle(claim)


# --- give back -------------------------------------------------------------------------------------------------------


async def test_what_goes_back_keeps_its_place_and_its_age(outbox: Outbox) -> None:
    await outbox.tell("1", "2", action="delete")
    before = {row.product_id: row for row in await outbox.rows()}
    claim = await outbox.claimed("1", "2")
    await outbox.settle(claim, Later("busy", 3, "later", counts=True, looked=True))
    for row in await outbox.rows():
        was = before[row.product_id]
        kept = ("seq", "received_at", "action", "lane", "lives", "missing_since")
        assert parts(row, *kept) == parts(was, *kept)
        assert parts(row, "attempts", "looks", "reason_code", "detail") == (1, 1, "busy", "later")


async def test_what_goes_back_merges_into_what_came_meanwhile(outbox: Outbox) -> None:
    await outbox.tell("1", priority=True, action="delete")
    old = await outbox.row("1")
    claim = await outbox.claimed("1")
    await outbox.elapse(0.01)
    await outbox.tell("1")
    await outbox.settle(claim, Later("unchanged", 30, missing=True, counts=True, looked=True))
    row = await outbox.row("1")
    assert parts(row, "status", "action", "lane") == ("pending", "upsert", "priority")
    assert (row.received_at, row.merged) == (old.received_at - 10, 1)
    assert parts(row, "looks", "reason_code", "detail") == (0, None, None), "the new notice was never looked at"
    assert (row.attempts, row.missing_since) == (1, None), "it was told again: it is missing anew"
    await outbox.claimed("1")


async def test_a_new_notice_of_what_waits_for_another_look_begins_anew(outbox: Outbox) -> None:
    await outbox.ended("1", outcome=Later("unchanged", 30, looked=True))
    assert await outbox.claim() is None
    await outbox.tell("1")
    assert parts(await outbox.row("1"), "looks", "reason_code") == (0, None)
    await outbox.claimed("1")


async def test_a_product_is_missing_since_it_was_first_looked_for(outbox: Outbox) -> None:
    await outbox.tell("1")
    first = await outbox.claimed("1")
    await outbox.settle(first, Later("missing", 10, missing=True))
    since = (await outbox.row("1")).missing_since
    assert since == first.now
    await outbox.elapse(11)
    for later, found in (
        (Later("missing", missing=True), since - 11_000),
        (Later("engine_unavailable"), since - 11_000),
        (Later("unchanged", missing=False), None),
    ):
        await outbox.settle(await outbox.claimed("1"), later)
        assert (await outbox.row("1")).missing_since == found


async def test_a_new_notice_of_a_missing_product_begins_its_settle_time_anew(outbox: Outbox) -> None:
    """Two gaps of a shop that deletes and indexes again are two gaps, however near they are."""
    await outbox.tell("1")
    await outbox.settle(await outbox.claimed("1"), Later("missing", 10, missing=True))
    await outbox.elapse(9)
    await outbox.tell("1")
    second = await outbox.claimed("1")
    await outbox.settle(second, Later("missing", 10, missing=True))
    assert (await outbox.row("1")).missing_since == second.now


async def test_a_claim_is_given_back_as_a_whole(outbox: Outbox) -> None:
    await outbox.tell("1", "2")
    claim = await outbox.claimed("1", "2")
    async with outbox.db.writing() as session:
        await claims.release(session, claim, Later("stopped"))
    rows = await outbox.rows()
    assert {parts(row, "status", "reason_code", "attempts", "lives") for row in rows} == {("pending", "stopped", 0, 0)}
    await outbox.claimed("1", "2")


# --- stuck -----------------------------------------------------------------------------------------------------------


async def test_what_was_held_too_long_is_taken_back_with_one_life_less(outbox: Outbox) -> None:
    await outbox.tell("1")
    first = await outbox.claimed("1")
    await outbox.lapse()
    second = await outbox.claimed("1")
    assert second.number > first.number
    row = await outbox.row("1")
    assert parts(row, "lives", "attempts", "reason_code") == (1, 0, "lease_ran_out")
    await outbox.settle(second)
    assert parts(await outbox.row("1"), "status", "lives", "reason_code") == ("done", 1, None)


async def test_what_is_taken_back_merges_into_what_came_meanwhile(outbox: Outbox) -> None:
    await outbox.tell("1")
    await outbox.claimed("1")
    await outbox.tell("1")
    await outbox.lapse()
    await outbox.claimed("1")
    assert parts(await outbox.row("1"), "lives", "merged") == (1, 1)


async def test_one_that_kills_its_worker_is_given_up_alone(outbox: Outbox) -> None:
    """Its worker dies with whatever it holds; all others are applied in the end."""
    given_up = {"catalogue": "shop", "reason": "kills_worker"}
    before = REGISTRY.get_sample_value("reshelve_events_failed_total", given_up) or 0.0
    await outbox.tell(*[str(n) for n in range(100)])
    company = []
    for _ in range(200):
        claim = await outbox.claim(most=64)
        if claim is None:
            break
        if "50" in products(claim):
            company.append(len(claim.entries))
            await outbox.lapse()
        else:
            await outbox.settle(claim)
    assert company == [64, 64 // SHRINKS, 64 // SHRINKS**2, 1, 1]
    failed = [row for row in await outbox.rows() if row.status != "done"]
    assert [parts(row, "product_id", "status", "lives", "reason_code") for row in failed] == [
        ("50", "failed", LIVES, "kills_worker")
    ]
    assert REGISTRY.get_sample_value("reshelve_events_failed_total", given_up) == before + 1
    async with outbox.db.writing() as session:
        assert await events.replay(session, "shop", events.Wanted(reason="mended"), "olga") == 1
    await outbox.settle(await outbox.claimed("50"))


async def test_tries_that_come_to_nothing_part_the_company_too(outbox: Outbox) -> None:
    await outbox.tell(*[str(n) for n in range(8)])
    for _ in range(2):
        await outbox.settle(await outbox.claim(most=8), Later("too_slow", counts=True))
    assert len(products(await outbox.claim(most=8))) == 2


# --- the guard over deletions ----------------------------------------------------------------------------------------


async def test_only_so_many_deletions_an_hour_are_permitted(outbox: Outbox) -> None:
    await outbox.tell(*"12345")
    claim = await outbox.claimed(*"12345")
    assert len(await outbox.permit(claim, "1", "2", "3", most=2)) == 2
    assert await outbox.permit(claim, "4", most=2) == set()
    await outbox.tell("6")
    other = await outbox.claimed("6")
    assert await outbox.permit(other, "6", most=2) == set(), "while they are applied"
    await outbox.settle(claim, Done(deleted=True))
    assert await outbox.permit(other, "6", most=5) == set(), "and when they are"
    assert await outbox.permit(other, "6", most=6) == {"6"}


async def test_after_an_hour_they_count_no_longer(outbox: Outbox) -> None:
    await outbox.tell("1", "2")
    claim = await outbox.claimed("1", "2")
    await outbox.permit(claim, "1", "2", most=2)
    await outbox.settle(claim, Done(deleted=True))
    async with outbox.db.writing() as session:
        for row in await outbox.rows():
            (await session.get_one(Event, row.seq)).number -= claims.HOUR + 1
    await outbox.tell("3", "4", "5")
    assert len(await outbox.permit(await outbox.claimed(*"345"), *"345", most=2)) == 2


async def test_a_deletion_that_took_nothing_from_readers_does_not_count(outbox: Outbox) -> None:
    await outbox.ended("1", "2", outcome=Done(deleted=True, code=ABSENT))
    await outbox.tell("3")
    assert await outbox.permit(await outbox.claimed("3"), "3", most=1) == {"3"}


async def test_one_that_is_there_after_all_does_not_count(outbox: Outbox) -> None:
    await outbox.tell("1", "2")
    claim = await outbox.claimed("1", "2")
    assert await outbox.permit(claim, "1", "2", most=2) == {"1", "2"}
    await outbox.settle(claim, **{"1": Done(), "2": Later("unchanged", missing=False)})
    await outbox.tell("3", "4")
    claim = await outbox.claim()
    assert await outbox.permit(claim, "3", "4", most=2) == {"3", "4"}


async def test_the_same_product_again_is_one_deletion(outbox: Outbox) -> None:
    await outbox.tell("1")
    claim = await outbox.claimed("1")
    await outbox.permit(claim, "1", most=1)
    await outbox.settle(claim, Done(deleted=True))
    await outbox.tell("1", "2")
    claim = await outbox.claimed("1", "2")
    assert await outbox.permit(claim, "1", "2", most=1) == {"1"}


async def test_a_permit_outlives_a_try_that_was_half_done(outbox: Outbox) -> None:
    """Readers may have lost it already; the second try finds it absent, and it counts nevertheless."""
    await outbox.tell("1")
    claim = await outbox.claimed("1")
    await outbox.permit(claim, "1", most=1)
    await outbox.settle(claim, Later("engine_unavailable"))
    await outbox.tell("2")
    claim = await outbox.claimed("1", "2")
    assert await outbox.permit(claim, "2", most=1) == set()
    await outbox.settle(claim, **{"1": Done(deleted=True, code=ABSENT), "2": Later(WITHHELD, missing=True)})
    assert parts(await outbox.row("1"), "deleted", "reason_code") == (True, None)
    assert await outbox.permit(await outbox.claimed("2"), "2", most=1) == set()


async def test_a_permit_outlives_a_notice_that_came_meanwhile(outbox: Outbox) -> None:
    await outbox.tell("1")
    claim = await outbox.claimed("1")
    await outbox.permit(claim, "1", most=1)
    await outbox.tell("1")
    await outbox.settle(claim, Later("engine_unavailable"))
    assert (await outbox.row("1")).deleted
    await outbox.tell("1", "2")
    claim = await outbox.claimed("1", "2")
    assert await outbox.permit(claim, "1", "2", most=1) == {"1"}


async def test_a_permit_outlives_a_new_number(outbox: Outbox) -> None:
    await outbox.tell("1", "2")
    claim = await outbox.claimed("1", "2")
    await outbox.permit(claim, "1", most=1)
    await outbox.set(epoch=claim.epoch + 1)
    again = await outbox.settle(claim, Done(deleted=True))
    assert again is not None
    assert await outbox.permit(again, "1", "2", most=1) == {"1"}
