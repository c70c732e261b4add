"""Appliers: each claims events, brings them into every fed generation, and settles what became of them; then again.

        look ─▶ breakers admit? ─▶ claim ─▶ apply ─┬─ outcomes ──▶ settle ─┬─ settled
                                            ▲      │                       └─ the epoch moved: a new number, again
                                            │      ├─ trouble of a dependency ──▶ all go back, it is no attempt while
                                            │      │                              the breaker is open
                                            │      ├─ trouble of a generation ──▶ all go back; one that readers do not
                                            │      │                              have is fed no longer, after a while
                                            └──────┴─ anything else: halves, until the culprit stands alone and fails

Several run in a process, and in any number of processes. Dependencies have a breaker each, shared by the process: while
one is open nobody claims what needs it, but for one entry at a time that tries. A model that is out holds back only
what needs it (`app.sync.apply`).

A claim is worked on for `WORK_SECONDS` at most, by our own clock from before it was taken, and is over well before its
lease: a write never goes out under a number that is older than that. A database out of reach is waited for as long as
the lease lasts. On the way out nothing new is claimed; what is in hand has the rest of the grace time, and goes back
when that is over, which costs it nothing.
"""

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import anyio
import structlog
from anyio import CancelScope, create_task_group, fail_after

from app import catalogues, claims, telemetry
from app.claims import Claim
from app.connections import Connections
from app.db import Database, WriteSession, heard
from app.errors import EmbedderBusy, EngineBusy, LeaseLost, Problem, Unavailable
from app.freshness import Freshness
from app.models import Event
from app.notices import ARRIVED
from app.reaching import dependencies, reach_of
from app.refusing import MODEL_PATIENCE, PATIENCE, Refusals
from app.sync.apply import Applied, Failed, Fed, Later, Outcome, Told, apply
from app.sync.breaker import Call

LEASE_SECONDS, WORK_SECONDS = 60.0, 40.0
"""How long a claim lasts, and how long its work may take: the rest is for settling it."""

GATHER_SECONDS = 0.05
"""How long who is woken, or had a claim that was not full, waits for what is told in the same moment: one claim of many
costs what one of few does."""

LOOK_SECONDS = 0.5
"""How often the database is asked for events of which no bell of this process told, and whether it is there again."""

ATTEMPTS = 10
"""Tries of an entry that come to nothing while everything it needs is well."""

RELEASE_SECONDS = 5.0
"""How long giving back may take on the way out."""

BACK = (0.5, 30.0)
"""Seconds until an entry is tried again: the first ceiling, doubled with each attempt, and the last."""

OUT = (2.0, 30.0)
"""The same of an entry that is not to blame: a quarter of the time it has waited by now, but not less than the first
and not more than the last."""

BUSY = (EngineBusy, EmbedderBusy)
"""Answers of somebody who is alive and wants less: never an attempt."""

log = structlog.get_logger("reshelve.applier")

T = TypeVar("T")


class Applier:
    """One hand that applies events until it is drained."""

    def __init__(self, db: Database, connections: Connections, name: str, draining: anyio.Event) -> None:
        self.db, self.connections, self.name = db, connections, name
        self._draining = draining
        self._refusals = Refusals(db, connections)
        self._freshness = Freshness(connections)

    async def run(self) -> None:
        """Apply what there is, then wait for more. Trouble is logged, and the next round comes."""
        async with create_task_group() as self._group:
            while not self._draining.is_set():
                rung = self.db.bell.listen(ARRIVED)
                claimed = await self._round()
                if claimed < claims.AT_ONCE and (claimed or await heard(rung, LOOK_SECONDS)):
                    with anyio.move_on_after(GATHER_SECONDS):
                        await self._draining.wait()
            self._group.cancel_scope.cancel()

    async def _round(self) -> int:
        """One claim of each catalogue that has something due; how many entries the largest had."""
        names = list(await self._tried(self._due) or ())
        random.shuffle(names)
        claimed = [await self._tried(partial(self._one, name)) for name in names if not self._draining.is_set()]
        return max((count or 0 for count in claimed), default=0)

    async def _tried(self, act: Callable[[], Awaitable[T]]) -> T | None:
        """What *act* answers; its trouble is nobody else's."""
        try:
            return await act()
        except Problem as problem:
            log.warning("no_events", code=problem.code, detail=problem.detail)
        except Exception:
            log.exception("applier_broke")
        return None

    async def _due(self) -> Sequence[str]:
        async with self.db.reading() as session:
            return await claims.due(session)

    async def _one(self, name: str) -> int:
        """How many entries were claimed."""
        async with self.db.reading() as session:
            catalogue = await catalogues.get(session, name)
        async with self._entered(dependencies(catalogues.spec_of(catalogue))) as calls:
            if calls is None:
                return 0
            most = 1 if any(call.is_probe for call in calls.values()) else claims.AT_ONCE
            since = time.monotonic()
            async with self.db.writing() as session:
                claim = await claims.claim(session, name, self.name, LEASE_SECONDS, most)
            if claim is None:
                return 0
            await self._hold(Held(claim, since), calls)
            return len(claim.entries)

    @asynccontextmanager
    async def _entered(self, needs: Sequence[str]) -> AsyncIterator[Mapping[str, Call] | None]:
        """A call to each dependency; None while one of them holds calls back. What nobody learnt of, nobody tells."""
        calls: dict[str, Call] = {}
        try:
            for need in needs:
                if (call := self.connections.breaker(need).enter()) is None:
                    yield None
                    return
                calls[need] = call
            yield calls
        finally:
            for call in calls.values():
                call.left()

    # --- hold ---

    async def _hold(self, held: "Held", calls: Mapping[str, Call]) -> None:
        """Apply a claim and settle it. One that cannot be settled is taken back when its lease runs out."""
        name = held.claim.catalogue.name
        try:
            with fail_after(max(held.until - time.monotonic(), 0.0)):
                await self._applied(held, calls)
        except TimeoutError:
            await self._release(held, Later("too_slow", random.uniform(1, 5), counts=True))  # noqa: S311
        except Unavailable as problem:
            await self._release(held, Later(problem.code, detail=problem.detail))
        except LeaseLost as lost:
            log.warning("events_lost", catalogue=name, detail=lost.detail)
        except anyio.get_cancelled_exc_class():
            with CancelScope(shield=True), anyio.move_on_after(RELEASE_SECONDS):
                await self._release(held, Later("stopped"))
            raise

    async def _applied(self, held: "Held", calls: Mapping[str, Call]) -> None:
        """Until the epoch stays what it was while the claim was applied."""
        while True:
            applied = await self._parted(held, held.claim.entries, calls)
            settle = partial(claims.settle, claim=held.claim, outcomes=applied.outcomes, highest=applied.newest)
            again = await self._written(held, settle)
            if again is None:
                break
            held.claim = again
        telemetry.events_settled(held.claim.catalogue.name, held.ages(), applied.outcomes)
        self._freshness.follow(self._group, held.claim, held.ages(), applied)

    async def _release(self, held: "Held", later: Later) -> None:
        try:
            await self._written(held, partial(claims.release, claim=held.claim, later=later))
            outcomes = {one.product_id: later for one in held.claim.entries}
            telemetry.events_settled(held.claim.catalogue.name, {}, outcomes)
        except (LeaseLost, Unavailable) as problem:
            log.warning("not_released", catalogue=held.claim.catalogue.name, code=problem.code)

    async def _written(self, held: "Held", act: Callable[[WriteSession], Awaitable[T]]) -> T:
        """*act* in a transaction, tried again while the database is away and nobody else may have the entries."""
        while True:
            try:
                async with self.db.writing() as session:
                    return await act(session)
            except Unavailable as problem:
                log.warning("not_written_yet", catalogue=held.claim.catalogue.name, code=problem.code)
                if time.monotonic() >= held.since + LEASE_SECONDS:
                    raise
            await anyio.sleep(LOOK_SECONDS)

    # --- apply ---

    async def _parted(self, held: "Held", entries: Sequence[Event], calls: Mapping[str, Call]) -> Applied:
        """What became of *entries*: all of them, or half by half where that cannot be told of all."""
        claim = held.claim
        try:
            reach = await reach_of(self.db, self.connections, claim, held.until)
            applied = await apply(reach, [told_of(one, claim.now) for one in entries], claim.number)
        except (Unavailable, LeaseLost):
            raise
        except Problem as problem:
            if problem.transient or "dependency" in problem.extra:
                return await self._troubled(held, entries, problem, calls)
            return await self._halved(held, entries, calls, Failed(problem.code, problem.detail))
        except Exception:
            if len(entries) == 1:
                log.exception("events_broke", catalogue=claim.catalogue.name, product=entries[0].product_id)
            return await self._halved(held, entries, calls, Failed("internal", "A bug: the service's log tells more."))
        for call in calls.values():
            call.succeeded()
        await self._spoken(claim, applied)
        return held.timed(entries, applied)

    async def _halved(self, held: "Held", entries: Sequence[Event], calls: Mapping[str, Call], why: Failed) -> Applied:
        if len(entries) == 1:
            return Applied({entries[0].product_id: why})
        half = len(entries) // 2
        one, other = [await self._parted(held, some, calls) for some in (entries[:half], entries[half:])]
        return Applied({**one.outcomes, **other.outcomes}, max(one.newest, other.newest), one.hashes | other.hashes)

    async def _troubled(
        self, held: "Held", entries: Sequence[Event], problem: Problem, calls: Mapping[str, Call]
    ) -> Applied:
        """All go back; whoever can do something about it hears of it."""
        call, fed = calls.get(str(problem.extra.get("dependency"))), problem.extra.get("fed")
        seconds, counts = 0.0, False
        if isinstance(fed, Fed):
            if call is not None:
                call.succeeded()  # it is one generation that cannot be written to: its engine is well
            refused = await self._refusals.met(held.claim, fed, problem)
            seconds = random.uniform(0.5, 1) * min(BACK[1], max(BACK[0], refused / 2))  # noqa: S311
        elif call is not None:
            call.failed()
            counts = problem.transient and not isinstance(problem, BUSY) and not call.breaker.is_open
        later = Later(problem.code, seconds, problem.detail, counts=counts)
        return held.timed(entries, Applied({one.product_id: later for one in entries}))

    async def _spoken(self, claim: Claim, applied: Applied) -> None:
        """Everything was written that has a vector; a generation whose model is out may wait for a while."""
        self._refusals.over([one.id for one in claim.fed], PATIENCE)
        self._refusals.over([one.generation for one in applied.spoke], MODEL_PATIENCE)
        for fed, problem in applied.speechless:
            await self._refusals.met(claim, fed, problem)


@dataclass
class Held:
    """A claim in hand, as it stands; *since* when, by the monotonic clock."""

    claim: Claim
    since: float

    @property
    def until(self) -> float:
        """When work on it is over."""
        return self.since + WORK_SECONDS

    def ages(self) -> Mapping[str, float]:
        """How many seconds ago each product's event was received, or was to be applied."""
        return {one.product_id: self._age(one) for one in self.claim.entries}

    def _age(self, entry: Event) -> float:
        first = max(entry.received_at, entry.not_before)
        return max(self.claim.now - first, 0) / 1000 + time.monotonic() - self.since

    def timed(self, entries: Sequence[Event], applied: Applied) -> Applied:
        """*applied*, in which everything that goes back knows when it is tried again."""
        applied.outcomes = {one.product_id: self._timed(one, applied.outcomes[one.product_id]) for one in entries}
        return applied

    def _timed(self, entry: Event, outcome: Outcome) -> Outcome:
        """*outcome* with the moment of the next try; too many tries are a failure."""
        if not isinstance(outcome, Later) or outcome.seconds:
            return outcome
        if outcome.counts and entry.attempts + 1 >= ATTEMPTS:
            return Failed("gave_up", f"Tried {ATTEMPTS} times, the last: {outcome.code}. {outcome.detail}")
        ceiling = BACK[0] * 2.0**entry.attempts if outcome.counts else max(OUT[0], self._age(entry) / 4)
        ceiling = min(ceiling, BACK[1] if outcome.counts else OUT[1])
        return replace(outcome, seconds=random.uniform(ceiling / 4, ceiling))  # noqa: S311 - spreads tries out


def told_of(entry: Event, now: int) -> Told:
    """An entry as it is applied; *now* is when the claim was taken."""
    missing_for = None if entry.missing_since is None else (now - entry.missing_since) / 1000
    return Told(entry.product_id, missing_for, looked=entry.looks > 0)
