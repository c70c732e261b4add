"""Requests that come at once are written together, over SQLite and Postgres; each is answered for itself."""

from collections.abc import Sequence

import anyio
import pytest

from app import events, intake
from app.errors import NotFound, Problem, TooMuch, Unavailable
from app.intake import Intake, Line, Request
from app.notices import MOST, Notice
from tests.contract.outbox import Outbox

pytestmark = pytest.mark.anyio


def notices(*ids: str) -> list[Notice]:
    return [Notice(product_id=one, id=f"m{one}") for one in ids]


class Together:
    """An intake whose turn the test holds, so that those who come stand in line and are written at once."""

    def __init__(self, outbox: Outbox, most: int = 1000) -> None:
        self.intake, self.line = Intake(outbox.db, most), Line()
        self.intake._lines[outbox.name] = self.line
        self.name = outbox.name
        self.answers: dict[int, dict[str, int] | Problem] = {}

    async def take(self, number: int, told: Sequence[Notice]) -> None:
        try:
            self.answers[number] = await self.intake.take(self.name, told)
        except Problem as problem:
            self.answers[number] = problem

    async def stand(self, group: anyio.abc.TaskGroup, *requests: Sequence[Notice]) -> None:
        """These requests wait, in this order."""
        for told in requests:
            known = len(self.line.waiting)
            group.start_soon(self.take, known, told)
            with anyio.fail_after(10):
                while len(self.line.waiting) == known:
                    await anyio.lowlevel.checkpoint()


def counted(accepted: int, coalesced: int = 0, duplicates: int = 0) -> dict[str, int]:
    return {"accepted": accepted, "coalesced": coalesced, "duplicates": duplicates}


async def test_each_request_is_answered_as_if_it_had_come_alone(outbox: Outbox) -> None:
    await outbox.tell("1")
    here = Together(outbox)
    async with anyio.create_task_group() as group, here.line.turn:
        await here.stand(group, notices("1", "2"), notices("2", "3"), [Notice(product_id="3")], notices("4", "4"))
    assert here.answers == {
        0: counted(2, coalesced=1),
        1: counted(1, duplicates=1),
        2: counted(1, 1),
        3: counted(1, 0, 1),
    }
    assert {one: row for one, (row,) in (await outbox.statuses()).items()} == dict.fromkeys("1234", "pending")
    assert len({row.received_at for row in await outbox.rows("2", "3", "4")}) == 1, "they were written together"


async def test_one_that_does_not_fit_refuses_no_other(outbox: Outbox) -> None:
    here = Together(outbox, most=3)
    async with anyio.create_task_group() as group, here.line.turn:
        await here.stand(group, notices("1", "2"), notices("3", "4"), notices("5"))
    assert isinstance(here.answers.pop(1), TooMuch)
    assert here.answers == {0: counted(2), 2: counted(1)}
    assert list(await outbox.statuses()) == ["1", "2", "5"]
    assert (await outbox.accept(*notices("3", "4"))) == counted(2), "its ids were not used up"


async def test_one_who_leaves_while_waiting_leaves_the_line(outbox: Outbox) -> None:
    here = Together(outbox)
    async with here.line.turn, anyio.create_task_group() as leaving:
        await here.stand(leaving, notices("1"), notices("2"))
        leaving.cancel_scope.cancel()
    assert (here.line.waiting, here.intake._lines, await outbox.statuses()) == ([], {}, {})


async def test_one_who_leaves_while_writing_for_others_leaves_nobody_behind(outbox: Outbox) -> None:
    """Where the database is away for the moment, the first waits for it with the others' events in hand."""
    here = Together(outbox)
    async with anyio.create_task_group() as group, anyio.create_task_group() as leaving:
        async with here.line.turn:
            await here.stand(leaving, notices("1"))
            await here.stand(group, notices("2"), notices("3"))
            hold = await group.start(held, outbox)
        with anyio.fail_after(10):
            while here.line.waiting:
                await anyio.lowlevel.checkpoint()
        leaving.cancel_scope.cancel()
        hold.set()
    assert here.answers.keys() == {1, 2}
    assert {"2", "3"} <= (await outbox.statuses()).keys()
    assert here.intake._lines == {}


async def held(outbox: Outbox, *, task_status: anyio.abc.TaskStatus[anyio.Event]) -> None:
    """Nobody else can write these products before the event is set."""
    hold = anyio.Event()
    async with outbox.db.writing() as session:
        await events.put(session, [*intake._entries(outbox.name, notices("1"), 1)])
        task_status.started(hold)
        await hold.wait()


async def test_an_unknown_catalogue_is_not_found_by_anybody_and_leaves_nothing(outbox: Outbox) -> None:
    intake = Intake(outbox.db, 10)
    with pytest.raises(NotFound):
        await intake.take("nope", notices("1"))
    assert intake._lines == {}


async def test_without_a_database_everybody_hears_of_it_and_when_to_come_again(outbox: Outbox) -> None:
    here = Together(outbox)
    async with outbox.db.writing() as session:
        await (await session.connection()).exec_driver_sql("DROP TABLE event")
    async with anyio.create_task_group() as group, here.line.turn:
        await here.stand(group, notices("1"), notices("2"))
    for answer in here.answers.values():
        assert isinstance(answer, Unavailable)
        assert answer.headers["Retry-After"] == "5"
    assert len(here.answers) == 2


def test_a_group_has_a_thousand_events_at_most_and_one_request_at_least() -> None:
    one = [Notice(product_id="1")]
    line = Line([Request(one * count) for count in (600, 400, 1, MOST, 5, 5)])
    groups = [[len(request.notices) for request in line.group()] for _ in range(5)]
    assert groups == [[600, 400], [1], [MOST], [5, 5], []]
