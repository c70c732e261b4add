"""The outbox over SQLite and Postgres: accepted, merged, refused, listed, replayed, dropped, forgotten."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from app import audit, catalogues, events, intake
from app.errors import Invalid, NotFound, TooMuch
from app.events import DONE_KEPT, KEYS_KEPT, Wanted
from app.intake import Room
from app.models import Event
from app.notices import FARTHEST, Notice, Notices
from app.sync.apply import Done, Failed, Later
from tests.contract.outbox import Outbox, ahead
from tests.contract.world import spec

pytestmark = pytest.mark.anyio

WHY = "the shop is back"
FIRST_LOOK = {"status": "pending", "attempts": 0, "lives": 0, "looks": 0, "reason_code": None, "missing_since": None}


def counted(accepted: int, coalesced: int = 0, duplicates: int = 0) -> dict[str, int]:
    return {"accepted": accepted, "coalesced": coalesced, "duplicates": duplicates}


def parts(row: Event, *names: str) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in names)


# --- accept ----------------------------------------------------------------------------------------------------------


async def test_what_was_accepted_is_a_row_that_waits(outbox: Outbox) -> None:
    assert await outbox.tell("1", "2") == counted(2)
    row = await outbox.row("1")
    assert {name: getattr(row, name) for name in FIRST_LOOK} == FIRST_LOOK
    assert (row.catalogue, row.action, row.lane, row.number) == ("shop", "upsert", "normal", None)
    assert row.due_at == row.received_at
    assert abs(row.received_at - datetime.now(UTC).timestamp() * 1000) < 60_000


async def test_one_entry_waits_for_a_product_and_the_last_notice_wins(outbox: Outbox) -> None:
    await outbox.tell("1", action="delete")
    assert await outbox.tell("1", "2") == counted(2, coalesced=1)
    assert await outbox.tell("1") == counted(1, coalesced=1)
    row = await outbox.row("1")
    assert parts(row, "action", "lane", "merged") == ("upsert", "priority", 2)


async def test_two_of_one_product_in_a_request_are_one_entry(outbox: Outbox) -> None:
    notices = [Notice(product_id="1", action=action) for action in ("upsert", "delete", "upsert")]
    assert await outbox.accept(*notices, Notice(product_id="2")) == counted(4, coalesced=2)
    assert parts(await outbox.row("1"), "action", "lane") == ("upsert", "priority")
    assert parts(await outbox.row("2"), "action", "lane") == ("upsert", "normal")


@pytest.mark.parametrize(
    ("how", "lane"), [({}, "normal"), ({"priority": True}, "priority"), ({"action": "delete"}, "priority")]
)
async def test_deletions_and_what_the_sender_marks_go_first(outbox: Outbox, how: dict[str, Any], lane: str) -> None:
    await outbox.tell("1", **how)
    assert (await outbox.row("1")).lane == lane


async def test_an_entry_never_sinks_to_the_normal_lane(outbox: Outbox) -> None:
    await outbox.tell("1", priority=True)
    await outbox.tell("1")
    assert (await outbox.row("1")).lane == "priority"


async def test_an_id_makes_a_repeat_harmless(outbox: Outbox) -> None:
    notices = [Notice(product_id=str(n), id=f"m{n}") for n in range(3)]
    assert await outbox.accept(*notices) == counted(3)
    assert await outbox.accept(*notices) == counted(0, duplicates=3)
    assert await outbox.accept(*notices, Notice(product_id="1")) == counted(1, coalesced=1, duplicates=3)
    await outbox.settle(await outbox.claimed("0", "1", "2"))
    assert await outbox.accept(*notices) == counted(0, duplicates=3)
    assert await outbox.statuses() == {"0": ["done"], "1": ["done"], "2": ["done"]}


async def test_the_same_id_twice_in_one_request_counts_once(outbox: Outbox) -> None:
    assert await outbox.accept(*[Notice(product_id=one, id="m") for one in "12"]) == counted(1, duplicates=1)
    assert list(await outbox.statuses()) == ["1"]


async def test_ids_of_another_catalogue_are_others(outbox: Outbox) -> None:
    async with outbox.db.writing() as session:
        await catalogues.declare(session, "other", spec("other-live"))
    await outbox.tell("1", id="m")
    assert await intake.take(outbox.db, "other", [Notice(product_id="1", id="m")], outbox.room) == counted(1)


async def test_a_refused_request_uses_up_no_id(outbox: Outbox) -> None:
    outbox.room = Room(1)
    notices = [Notice(product_id=one, id=one) for one in "12"]
    with pytest.raises(TooMuch):
        await outbox.accept(*notices)
    outbox.room = Room(10)
    assert await outbox.accept(*notices) == counted(2)


async def test_what_is_being_applied_is_never_merged_into(outbox: Outbox) -> None:
    await outbox.tell("1")
    claim = await outbox.claimed("1")
    assert await outbox.tell("1") == counted(1)
    assert await outbox.tell("1") == counted(1, coalesced=1)
    assert await outbox.statuses() == {"1": ["processing", "pending"]}
    await outbox.settle(claim)
    assert await outbox.statuses() == {"1": ["done", "pending"]}


async def test_for_an_unknown_catalogue_nothing_is_accepted(outbox: Outbox) -> None:
    with pytest.raises(NotFound):
        await intake.take(outbox.db, "nope", [Notice(product_id="1")], outbox.room)


# --- not before ------------------------------------------------------------------------------------------------------


async def test_what_cannot_be_read_yet_waits_for_its_time(outbox: Outbox) -> None:
    await outbox.tell("1", not_before=ahead(100))
    await outbox.tell("2", not_before=ahead(-100))
    await outbox.settle(await outbox.claimed("2"))
    assert await outbox.claim() is None
    await outbox.elapse(101)
    await outbox.claimed("1")


@pytest.mark.parametrize("order", [(100, None), (None, 100), (100, None, None)])
async def test_merged_notices_are_looked_at_each_in_its_time(outbox: Outbox, order: Sequence[float | None]) -> None:
    """The earliest is not kept waiting, and the latest is not taken for applied before it could be read."""
    for one in order:
        await outbox.tell("1", not_before=None if one is None else ahead(one))
    await outbox.settle(await outbox.claimed("1"), Failed("no_name", "") if len(order) == 3 else Done(deleted=True))
    over, again = await outbox.rows("1")
    assert (over.status, again.status) == ("failed" if len(order) == 3 else "done", "pending")
    assert parts(again, "attempts", "merged", "deleted", "reason_code") == (0, 0, False, None)
    assert await outbox.claim() is None
    await outbox.elapse(101)
    await outbox.settle(await outbox.claimed("1"))
    assert (await outbox.statuses())["1"][1:] == ["done"]


async def test_both_moments_in_one_request_are_merged_alike(outbox: Outbox) -> None:
    await outbox.accept(Notice(product_id="1", not_before=ahead(100)), Notice(product_id="1"))
    await outbox.settle(await outbox.claimed("1"))
    assert await outbox.statuses() == {"1": ["done", "pending"]}


# --- what is refused before it is written ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {"product_id": ""}, {"product_id": "x" * 513}, {"product_id": "é" * 257}, {"product_id": "a\x00b"},
        {"product_id": "\ud800"}, {"id": ""}, {"id": "x" * 256}, {"id": "\x00"}, {"id": "\udfff"},
        {"action": "remove"}, {"not_before": "2024-01-01T00:00:00"},
        {"not_before": "9999-12-31T23:59:59-23:59"}, {"more": 1},
    ],
    ids=repr,
)  # fmt: skip
def test_a_notice_that_could_not_be_kept_is_no_notice(how: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Notice(**{"product_id": "1", **how})


def test_what_is_too_far_ahead_is_no_notice() -> None:
    Notice(product_id="1", not_before=ahead(FARTHEST - 3600))
    with pytest.raises(ValidationError):
        Notice(product_id="1", not_before=ahead(FARTHEST + 3600))


def test_a_request_has_one_to_a_thousand_events() -> None:
    for count in (0, 1001):
        with pytest.raises(ValidationError):
            Notices(events=[Notice(product_id="1")] * count)
    Notices(events=[Notice(product_id="é" * 256)] * 1000)


async def test_text_that_no_database_holds_is_refused_also_when_it_came_past_the_form(outbox: Outbox) -> None:
    for bad in ({"product_id": "a\x00"}, {"product_id": "\ud800"}, {"product_id": "1", "id": "\x00"}):
        with pytest.raises(Invalid) as refused:
            await outbox.accept(Notice.model_construct(action="upsert", **{"id": None, **bad}))
        assert refused.value.code == "invalid_text"
    assert await outbox.rows() == []


# --- bounded ---------------------------------------------------------------------------------------------------------


async def test_a_full_outbox_refuses_and_says_when_to_come_again(outbox: Outbox) -> None:
    outbox.room = Room(5)
    await outbox.tell("1", "2", "3")
    with pytest.raises(TooMuch) as full:
        await outbox.tell("4", "5", "6")
    assert (full.value.code, full.value.status, full.value.headers) == ("outbox_full", 429, {"Retry-After": "5"})
    await outbox.tell("4", "5")
    assert len(await outbox.rows()) == 5


async def test_room_that_was_made_is_seen(outbox: Outbox) -> None:
    outbox.room = Room(2, seconds=0)
    await outbox.tell("1", "2")
    with pytest.raises(TooMuch):
        await outbox.tell("3")
    await outbox.claimed("1", "2")
    await outbox.tell("3")


async def test_room_is_counted_by_catalogue(outbox: Outbox) -> None:
    async with outbox.db.writing() as session:
        await catalogues.declare(session, "other", spec("other-live"))
    outbox.room = Room(1)
    await outbox.tell("1")
    assert await intake.take(outbox.db, "other", [Notice(product_id="1")], outbox.room) == counted(1)


# --- at once ---------------------------------------------------------------------------------------------------------


async def test_many_who_tell_of_the_same_products_lose_nothing_and_never_stand_in_each_others_way(
    outbox: Outbox,
) -> None:
    """Without a second try: nobody deadlocks. Others claim, and give back, all the time."""
    dice, told, answers = random.Random(7), [str(n) for n in range(30)], []

    async def tell(shuffled: Sequence[str]) -> None:
        async with outbox.db.writing() as session:
            notices = [Notice(product_id=one, id=f"{id(shuffled)}:{one}") for one in shuffled]
            answers.extend(await intake.accept(session, outbox.name, [notices], outbox.room))

    async def apply() -> None:
        for _ in range(10):
            if claim := await outbox.claim(most=10):
                await outbox.settle(claim, Later("engine_unavailable"))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(tell, dice.sample(told, 20))
        group.start_soon(apply)
        group.start_soon(apply)
    rows = await outbox.rows()
    assert sum(answer["accepted"] for answer in answers) == 400
    assert {row.status for row in rows} == {"pending"}
    assert len({row.product_id for row in rows}) == len(rows) == 30


async def test_the_same_message_many_times_at_once_is_accepted_once(outbox: Outbox) -> None:
    answers = []

    async def tell() -> None:
        answers.append(await outbox.tell("1", id="m"))

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(tell)
    assert sorted(answer["accepted"] for answer in answers) == [0] * 9 + [1]
    assert (await outbox.row("1")).merged == 0


# --- look ------------------------------------------------------------------------------------------------------------


async def test_entries_are_listed_newest_first_by_status_and_product(outbox: Outbox) -> None:
    await outbox.ended("1", outcome=Failed("no_name", "It has no name."))
    await outbox.tell("1", "2")

    async def listed(**which: Any) -> list[tuple[str, str]]:
        how = {"status": None, "product_id": None, **which}
        async with outbox.db.reading() as session:
            rows, cursor = await events.listed(session, outbox.name, 10, None, **how)
        assert cursor is None
        return [(row.product_id, row.status) for row in rows]

    assert await listed() == [("2", "pending"), ("1", "pending"), ("1", "failed")]
    assert await listed(status="failed") == [("1", "failed")]
    assert await listed(product_id="2") == [("2", "pending")]
    async with outbox.db.reading() as session:
        (shown, _), cursor = await events.listed(session, outbox.name, 2, None, status=None, product_id=None)
        (last,), _ = await events.listed(session, outbox.name, 2, cursor, status=None, product_id=None)
        assert (await events.last(session, outbox.name, "1")).status == "pending"
        assert await events.last(session, outbox.name, "3") is None
    view = events.view(last)
    assert (view["reason_code"], view["detail"], view["next_retry_at"]) == ("no_name", "It has no name.", None)
    assert view["done_at"].endswith("Z")
    assert events.view(shown)["next_retry_at"] is not None


# --- replay, drop ----------------------------------------------------------------------------------------------------


async def failed(outbox: Outbox, *ids: str, code: str = "no_name") -> None:
    await outbox.ended(*ids, outcome=Failed(code, "It has no name."))


async def acted(outbox: Outbox, act: Any, **wanted: Any) -> int:
    async with outbox.db.writing() as session:
        return await act(session, outbox.name, Wanted(**{"reason": WHY, **wanted}), "olga")


async def audited(outbox: Outbox) -> list[tuple[str, Any, Any]]:
    async with outbox.db.reading() as session:
        entries, _ = await audit.listed(session, outbox.name)
    return [
        (one.act, one.reason, one.detail["count"]) for one in entries if (one.who, one.catalogue) == ("olga", "shop")
    ]


async def test_failed_entries_wait_again_as_if_nobody_had_looked_at_them(outbox: Outbox) -> None:
    await failed(outbox, "1", "2")
    before = await outbox.row("1")
    assert await acted(outbox, events.replay) == 2
    row = await outbox.row("1")
    assert {name: getattr(row, name) for name in FIRST_LOOK} == FIRST_LOOK
    assert (row.seq, row.received_at, row.replay_count, row.done_at) == (before.seq, before.received_at, 1, None)
    assert await audited(outbox) == [("replay", WHY, 2)]
    await outbox.settle(await outbox.claimed("1", "2"), Failed("no_name", ""))
    await acted(outbox, events.replay, limit=1)
    assert [parts(row, "status", "replay_count") for row in await outbox.rows()] == [("pending", 2), ("failed", 1)]


async def test_a_product_that_failed_twice_waits_once(outbox: Outbox) -> None:
    await failed(outbox, "1", "2")
    await outbox.tell("1", priority=True)
    await outbox.settle(await outbox.claimed("1"), Failed("gave_up", ""))
    first = min(row.received_at for row in await outbox.rows())
    assert await acted(outbox, events.replay) == 3
    rows = {row.product_id: row for row in await outbox.rows()}
    assert len(await outbox.rows()) == 2
    assert parts(rows["1"], "status", "lane", "received_at", "replay_count") == ("pending", "priority", first, 1)
    await outbox.claimed("1", "2")


async def test_the_number_of_a_deletion_that_was_given_back_outlives_a_new_notice(outbox: Outbox) -> None:
    """The hour's deletions are counted by it: what readers may have lost already is not forgotten."""
    await outbox.tell("1")
    claim = await outbox.claimed("1")
    assert await outbox.permit(claim, "1", most=5) == {"1"}
    await outbox.tell("1")
    await outbox.settle(claim, Later("engine_unavailable", 1.0))
    (row,) = await outbox.rows()
    assert parts(row, "status", "deleted", "number") == ("pending", True, claim.number)


async def test_a_replay_merges_into_what_waits_and_leaves_what_is_applied_alone(outbox: Outbox) -> None:
    await failed(outbox, "1", "2")
    await outbox.tell("1", action="delete")
    await outbox.tell("2")
    await outbox.claim(most=1)
    assert await acted(outbox, events.replay) == 2
    assert sorted((await outbox.statuses()).values()) == [["pending"], ["pending", "processing"]]
    async with outbox.db.reading() as session:
        newest = await events.last(session, outbox.name, "1")
    assert newest.action == "delete" or newest.status == "processing"


@pytest.mark.parametrize("act", [events.replay, events.drop])
async def test_a_dry_run_counts_and_changes_nothing(outbox: Outbox, act: Any) -> None:
    await failed(outbox, "1", "2")
    assert await acted(outbox, act, dry_run=True) == 2
    assert await outbox.statuses() == {"1": ["failed"], "2": ["failed"]}
    assert await audited(outbox) == []


async def test_failed_entries_are_dropped_for_good_and_who_did_it_is_known(outbox: Outbox) -> None:
    await failed(outbox, "1", "2")
    await failed(outbox, "3", code="rejected")
    await outbox.tell("4")
    assert await acted(outbox, events.drop, reason_code="no_name") == 2
    assert await outbox.statuses() == {"3": ["failed"], "4": ["pending"]}
    assert await audited(outbox) == [("drop_events", WHY, 2)]
    assert await acted(outbox, events.drop, reason_code="no_name") == 0
    assert len(await audited(outbox)) == 1


@pytest.mark.parametrize("act", [events.replay, events.drop])
async def test_only_so_many_the_oldest_first(outbox: Outbox, act: Any) -> None:
    await failed(outbox, "1", "2", "3")
    assert await acted(outbox, act, limit=2) == 2
    assert [row.product_id for row in await outbox.rows() if row.status == "failed"] == ["3"]


async def test_a_replayed_deletion_asks_for_its_permit_again(outbox: Outbox) -> None:
    await outbox.tell("1")
    claim = await outbox.claimed("1")
    assert await outbox.permit(claim, "1", most=1) == {"1"}
    await outbox.settle(claim, Failed("rejected", ""))
    await acted(outbox, events.replay)
    assert await outbox.permit(await outbox.claimed("1"), "1", most=0) == set()


# --- forget ----------------------------------------------------------------------------------------------------------


async def test_what_was_applied_long_ago_is_forgotten_and_nothing_else(outbox: Outbox) -> None:
    await outbox.tell(*[str(n) for n in range(7)], id=None)
    await outbox.settle(await outbox.claim(), **{"5": Failed("no_name", ""), "6": Later("engine_unavailable")})
    await outbox.tell("k", id="old")
    await outbox.elapse(max(DONE_KEPT, KEYS_KEPT) / 1000 + 1)
    await outbox.ended("new", "6", "k")
    assert await events.forget_old(outbox.db, portion=2) == 6
    assert await outbox.statuses() == {"5": ["failed"], "6": ["done"], "new": ["done"], "k": ["done"]}
    assert await outbox.tell("k", id="old") == counted(1)
    assert await events.forget_old(outbox.db) == 0
    assert await outbox.tell("k", id="old") == counted(0, duplicates=1)
