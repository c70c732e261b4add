"""The outbox against a plain model of it, in any order of notices, claims, outcomes, lost leases and moved epochs."""

import asyncio
import shutil
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app import claims, events
from app.claims import LIVES, SHRINKS, Claim
from app.errors import LeaseLost
from app.events import Wanted
from app.notices import Notice
from app.sync.apply import Done, Failed, Later, Outcome
from tests.contract.outbox import Outbox, outbox_on

T = TypeVar("T")

IDS = "abcdef"
NOTICES = st.lists(
    st.builds(
        Notice,
        product_id=st.sampled_from(IDS),
        action=st.sampled_from(["upsert", "delete"]),
        priority=st.booleans(),
        id=st.none() | st.sampled_from(["m1", "m2", "m3", "m4"]),
    ),
    min_size=1,
    max_size=5,
)
OUTCOMES = st.sampled_from(
    [
        Done(), Done(deleted=True), Failed("bad", ""), Later("out"), Later("tried", counts=True),
        Later("missing", missing=True), Later("unchanged", missing=False, looked=True), Later("away", 3600.0),
    ]
)  # fmt: skip


@dataclass
class Entry:
    """What waits, is held, or failed, as far as anybody can tell it from outside."""

    lane: str = "normal"
    attempts: int = 0
    lives: int = 0
    looks: int = 0
    code: str | None = None
    missing: bool = False
    due: bool = True

    @property
    def lost(self) -> int:
        return max(self.lives, self.attempts // 2)

    def merged(self, other: "Entry") -> "Entry":
        """Both in one, in whichever order they came."""
        return Entry(
            "priority" if "priority" in (self.lane, other.lane) else "normal",
            max(self.attempts, other.attempts),
            max(self.lives, other.lives),
            min(self.looks, other.looks),
            other.code if self.code and other.code else None,
            self.missing and other.missing,
            self.due or other.due,
        )


@dataclass
class Held:
    """A claim that somebody has in hand, or believes to have."""

    claim: Claim
    epoch: int
    entries: dict[str, Entry]
    lost: bool = False
    over: bool = False


@dataclass
class Model:
    waiting: dict[str, Entry] = field(default_factory=dict)
    failed: list[tuple[str, Entry]] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    done: int = 0
    epoch: int = 0
    number: int = 0

    def wait(self, product_id: str, entry: Entry) -> bool:
        """Whether it was not merged."""
        known = self.waiting.get(product_id)
        self.waiting[product_id] = known.merged(entry) if known else entry
        return known is None

    @property
    def mine(self) -> list[Held]:
        """Claims whose entries are still in their hands."""
        return [one for one in self.held if not one.over]

    @property
    def in_hand(self) -> dict[str, Entry]:
        return {product: entry for one in self.mine for product, entry in one.entries.items()}

    def back(self, product_id: str, entry: Entry, later: Later) -> None:
        entry.attempts, entry.looks = entry.attempts + later.counts, entry.looks + later.looked
        entry.code, entry.due = later.code, later.seconds == 0
        entry.missing = entry.missing if later.missing is None else later.missing
        self.wait(product_id, entry)

    def take_back(self) -> None:
        for held in [one for one in self.mine if one.lost]:
            held.over = True
            for product_id, entry in held.entries.items():
                entry.lives += 1
                if entry.lives >= LIVES:
                    self.failed.append((product_id, entry))
                else:
                    self.back(product_id, entry, Later("lease_ran_out"))

    def end(self, product_id: str, entry: Entry, outcome: Outcome) -> None:
        match outcome:
            case Done():
                self.done += 1
            case Failed():
                self.failed.append((product_id, entry))
            case Later():
                self.back(product_id, entry, outcome)


class Machine(RuleBasedStateMachine):
    """One outbox, on a copy of a database that has a catalogue already."""

    def __init__(self, template: Path) -> None:
        super().__init__()
        self.runner, self.stack, self.model = asyncio.Runner(), AsyncExitStack(), Model()
        self.template, self.file = template, template.with_suffix(f".{uuid4().hex}")
        self.outbox: Outbox

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize()
    def open(self) -> None:
        shutil.copy(self.template, self.file)
        self.outbox = self.run(self.stack.enter_async_context(outbox_on(f"sqlite+aiosqlite:///{self.file}")))

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()
        self.file.unlink()

    # --- senders ---

    @rule(notices=NOTICES)
    def tell(self, notices: list[Notice]) -> None:
        fresh, before = [], set(self.model.waiting)
        for one in notices:
            if one.id is None or one.id not in self.model.ids:
                fresh.append(one)
                self.model.ids |= {one.id} - {None}
        for one in fresh:
            lane = "priority" if one.priority or one.action == "delete" else "normal"
            self.model.wait(one.product_id, Entry(lane))
        new = len(set(self.model.waiting) - before)
        told = {"accepted": len(fresh), "coalesced": len(fresh) - new, "duplicates": len(notices) - len(fresh)}
        assert self.run(self.outbox.accept(*notices)) == told

    # --- appliers ---

    @rule(most=st.sampled_from([1, 2, 5, 200]))
    def claim(self, most: int) -> None:
        self.model.take_back()
        free = {one: entry for one, entry in self.model.waiting.items() if entry.due and one not in self.model.in_hand}
        claim = self.run(self.outbox.claim(most))
        assert (claim is not None) == bool(free)
        if claim is None:
            return
        taken = {one.product_id: free[one.product_id] for one in claim.entries}
        (lost,) = {entry.lost for entry in taken.values()}
        assert len(taken) == len(claim.entries) <= max(1, most // SHRINKS**lost)
        assert claim.number > self.model.number
        self.model.number = claim.number
        for one in taken:
            del self.model.waiting[one]
        self.model.held.append(Held(claim, self.model.epoch, taken))

    @precondition(lambda self: self.model.held)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.model.held))
        outcomes = {one: data.draw(OUTCOMES, label=one) for one in held.entries}
        if held.over or held.lost:
            self.refused(self.outbox.settle(held.claim, **outcomes))
            return
        again = self.run(self.outbox.settle(held.claim, **outcomes))
        assert (again is not None) == (held.epoch != self.model.epoch)
        if again is not None:
            assert again.number > self.model.number
            self.model.number, held.claim, held.epoch = again.number, again, self.model.epoch
            return
        held.over = True
        for one, outcome in outcomes.items():
            self.model.end(one, held.entries[one], outcome)

    @precondition(lambda self: self.model.held)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.model.held))
        if held.over or held.lost:
            self.refused(self.released(held.claim))
            return
        self.run(self.released(held.claim))
        held.over = True
        for one, entry in held.entries.items():
            self.model.back(one, entry, Later("stopped"))

    async def released(self, claim: Claim) -> None:
        async with self.outbox.db.writing() as session:
            await claims.release(session, claim, Later("stopped"))

    def refused(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            self.run(work)
        except LeaseLost:
            return
        raise AssertionError("somebody without a lease was let in")

    # --- the world ---

    @precondition(lambda self: self.model.mine)
    @rule()
    def leases_run_out(self) -> None:
        self.run(self.outbox.lapse())
        for held in self.model.mine:
            held.lost = True

    @rule()
    def the_set_of_generations_changes(self) -> None:
        self.model.epoch += 1
        self.run(self.outbox.set(epoch=self.model.epoch))

    @rule()
    def what_waits_for_its_time_is_due(self) -> None:
        self.run(self.outbox.come_due())
        for entry in self.model.waiting.values():
            entry.due = True

    @precondition(lambda self: self.model.failed)
    @rule()
    def failed_ones_are_replayed(self) -> None:
        assert self.run(self.replayed()) == len(self.model.failed)
        for product_id, entry in self.model.failed:
            self.model.wait(product_id, Entry(entry.lane))
        self.model.failed = []

    async def replayed(self) -> int:
        async with self.outbox.db.writing() as session:
            return await events.replay(session, self.outbox.name, Wanted(reason="mended"), "olga")

    # --- what is always so ---

    @invariant()
    def the_rows_are_what_the_model_says(self) -> None:
        if not hasattr(self, "outbox"):
            return
        found: dict[str, list[Any]] = {"pending": [], "processing": [], "failed": [], "done": []}
        for row in self.run(self.outbox.rows()):
            shown = (row.product_id, row.lane, row.lives)
            if row.status == "pending":
                shown = (*shown, row.attempts, row.looks, row.reason_code, row.missing_since is not None)
            found[row.status].append(shown)
        model = self.model
        assert sorted(found["pending"], key=str) == sorted(
            [
                (one, entry.lane, entry.lives, entry.attempts, entry.looks, entry.code, entry.missing)
                for one, entry in model.waiting.items()
            ],
            key=str,
        )
        assert sorted(found["processing"]) == sorted((one, e.lane, e.lives) for one, e in model.in_hand.items())
        assert sorted(found["failed"]) == sorted((one, e.lane, e.lives) for one, e in model.failed)
        assert len(found["done"]) == model.done


@pytest.mark.timeout(900)
def test_in_any_order_the_outbox_does_what_its_model_does(tmp_path: Path) -> None:
    async def made() -> None:
        async with outbox_on(f"sqlite+aiosqlite:///{tmp_path}/template"):
            pass

    asyncio.run(made())
    many = settings(max_examples=25, stateful_step_count=40, deadline=None)
    run_state_machine_as_test(lambda: Machine(tmp_path / "template"), settings=many)
