"""The process that works: claims queued runs, holds their leases, drives the pipeline, settles what others left.
Beside them its appliers bring single changes to what is there (`app.applier`).

        queued ─claim─▶ running ─┬─ pipeline ends ──────────────▶ ready | failed
                                 ├─ cancel requested ───────────▶ canceled
                                 ├─ no progress for too long ───▶ failed (stalled)
                                 ├─ this process stops ─────────▶ failed (interrupted)
                                 ├─ its switch may have moved ──▶ lease given back, settled by whoever finds it
                                 └─ lease lost ─────────────────▶ whoever took over says

A run and its siblings live in one task group: the renewal of its lease, the watch for cancel and stall, the reports.
The first of them to raise ends the others; the pipeline then leaves by its own clean-up, bounded in time. The holder
stops trusting its lease by its own monotonic clock, counted from before it asked, so that two workers never both
believe in it. From promotion on nothing interrupts a run but the loss of its lease.
"""

import os
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

import anyio
import structlog
from anyio import TASK_STATUS_IGNORED, create_task_group
from anyio.abc import TaskGroup, TaskStatus

from app import leases, logs, maintenance, runs, settling, sweeper, telemetry, upkeep
from app.applier import Applier
from app.catalogues import get
from app.config import Settings
from app.connections import Connections
from app.db import Database, heard
from app.equipment import ports_of
from app.errors import LeaseLost, Problem, RunCanceled, RunFailed, Unavailable
from app.ledger import RunLedger
from app.models import Run
from app.notices import ARRIVED
from app.sync.drafting import PromotionOpen
from app.sync.flow import plainly
from app.sync.pipeline import sync
from app.sync.tally import Tally

RUNS_AT_ONCE = 4
"""Runs of different catalogues that one worker drives; embedding and bulk limits are shared by all of them."""

LOOK_SECONDS = 1.0
"""How often the database is asked for orders, cancels and dead runs of which no bell of this process told."""

SWEEP_SECONDS = 60.0

EVICT_SECONDS = 3600.0

RENEWALS = 3
"""Renewals within one lease: two may fail before the third decides."""

STALLING = frozenset({"planning", "filling"})
"""Stages in which something must go on; what comes later waits for one thing after another, each with a bound."""

log = structlog.get_logger("reshelve.worker")

T = TypeVar("T")


@dataclass
class Held:
    """A run this worker holds; *until* by the monotonic clock, and what the lease was counted from.

    *price* is that of the run's model, in US dollars for a million tokens.
    """

    run: Run
    ledger: RunLedger
    until: float
    tally: Tally = field(default_factory=Tally)
    price: float | None = None

    @property
    def can_stop(self) -> bool:
        """Whether the run may still be interrupted: its switch has not begun, and it is not on its way out."""
        return not (self.tally.leaving or self.tally.reached("promoting"))


class Worker:
    """Works until it is cancelled or drained."""

    def __init__(
        self, db: Database, connections: Connections, settings: Settings, draining: anyio.Event | None = None
    ) -> None:
        """*draining* is set by whoever ends the process, perhaps long before it comes to `drain`."""
        self.db, self.connections, self.settings = db, connections, settings
        self.name = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self.alive = False
        self._slots = anyio.Semaphore(RUNS_AT_ONCE)
        self._draining, self._ended = draining or anyio.Event(), anyio.Event()

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        """Claim, settle and sweep until drained; then return when the last run has ended."""
        sweep = partial(sweeper.sweep, self.db, self.connections, retention_days=self.settings.retention_days)
        evict = partial(upkeep.evict, self.db, self.connections, self.settings)
        try:
            with plainly():
                async with create_task_group() as group, create_task_group() as chores:
                    self.alive = True
                    chores.start_soon(self._every, LOOK_SECONDS, self._settle)
                    chores.start_soon(self._every, SWEEP_SECONDS, partial(self._unless_read_only, sweep))
                    chores.start_soon(self._every, SWEEP_SECONDS, partial(upkeep.repair, self.db))
                    chores.start_soon(self._every, EVICT_SECONDS, partial(self._unless_read_only, evict))
                    for hand in range(self.settings.event_appliers):
                        name = f"{self.name}:{hand}"
                        group.start_soon(Applier(self.db, self.connections, name, self._draining).run)
                    task_status.started()
                    await self._claim(group)
                    chores.cancel_scope.cancel()
        finally:
            self.alive = False
            self._ended.set()

    async def drain(self) -> None:
        """No new claims; runs that may still stop are interrupted. Returns when this worker has ended."""
        self._draining.set()
        for topic in (runs.ORDERS, ARRIVED):
            self.db.bell.ring(topic)
        await self._ended.wait()

    async def _every(self, seconds: float, act: Callable[[], Awaitable[Any]]) -> None:
        """Do *act* again and again; trouble is logged and the next time comes."""
        while True:
            try:
                await act()
            except Problem as problem:
                log.warning("chore_failed", code=problem.code, detail=problem.detail)
            except Exception:
                log.exception("chore_failed")  # whatever it is, runs go on
            await anyio.sleep(seconds)

    async def _unless_read_only(self, act: Callable[[], Awaitable[Any]]) -> None:
        async with self.db.reading() as session:
            waits = (await maintenance.current(session)).read_only
        if not waits:
            await act()

    async def _settle(self) -> None:
        """Runs whose worker is gone. One that cannot be settled now keeps no other waiting."""
        async with self.db.reading() as session:
            dead = await runs.expired(session)
        for run in dead:
            with logs.bound(run_id=run.id, catalogue=run.catalogue):
                await self._settle_one(run)

    async def _settle_one(self, run: Run) -> None:
        seconds = self.settings.lease_seconds
        try:
            self._told(await settling.settle_run(self.db, self.connections, run.id, self.name, seconds))
        except Problem as problem:
            log.warning("not_settled", code=problem.code, detail=problem.detail)

    def _told(self, run: Run | None) -> None:
        if run is not None:
            telemetry.run_finished(run)
            log.info("run_ended", state=run.state, error=run.error)

    # --- claim ---

    async def _claim(self, group: TaskGroup) -> None:
        while not self._draining.is_set():
            rung = self.db.bell.listen(runs.ORDERS)
            await self._slots.acquire()
            since = time.monotonic()
            run = await self._next()
            if run is None:
                self._slots.release()
                await heard(rung, LOOK_SECONDS)
            else:
                group.start_soon(self._hold, run, since + self.settings.lease_seconds)

    async def _next(self) -> Run | None:
        try:
            async with self.db.writing() as session:
                return await runs.claim(session, self.name, self.settings.lease_seconds)
        except Unavailable as problem:
            log.warning("no_claims", code=problem.code, detail=problem.detail)
            return None

    async def _hold(self, run: Run, until: float) -> None:
        with logs.bound(run_id=run.id, catalogue=run.catalogue, request_id=run.request_id):
            log.info("run_claimed", fence=run.fence)
            try:
                await self._work(run, until)
            except Problem as problem:  # its end could not be written: the lease runs out, and it is settled
                log.warning("run_left", code=problem.code, detail=problem.detail)
            finally:
                self._slots.release()

    # --- hold ---

    async def _work(self, run: Run, until: float) -> None:
        """Drive a run and write down how it ended."""
        tally = Tally()
        try:
            await self._drive(run, until, tally)
            state, error = "ready", None
        except LeaseLost as lost:
            log.warning("lease_lost", detail=lost.detail)
            return
        except PromotionOpen as unknown:
            await self._give_back(run, unknown)
            return
        except Problem as problem:
            state, error = "canceled" if isinstance(problem, RunCanceled) else "failed", problem
        except Exception:
            log.exception("run_broke")
            state, error = "failed", RunFailed("A bug ended this run: its log tells more.", code="internal")
        await self._end(run, state, error)

    async def _drive(self, run: Run, until: float, tally: Tally) -> None:
        async with self.db.reading() as session:
            catalogue = await get(session, run.catalogue)
        target = await self.connections.engine(catalogue.engine)
        held = Held(run, RunLedger(self.db, target, run, self.settings.lease_seconds), until, tally)
        ports = await ports_of(self.connections, catalogue, run, held.ledger, tally)
        held.price = ports.price
        try:
            with plainly():
                async with create_task_group() as siblings:
                    for act in (self._renew, self._watch, self._report):
                        siblings.start_soon(act, held)
                    await sync(ports)
                    siblings.cancel_scope.cancel()
        finally:
            await self._tell(held)

    async def _renew(self, held: Held) -> None:
        """Keep the lease. Raises `LeaseLost` when the database says so, or when this worker can no longer trust it."""
        seconds = self.settings.lease_seconds
        while True:
            await anyio.sleep(seconds / RENEWALS)
            asked = time.monotonic()
            try:
                with anyio.fail_after(held.until - asked):
                    async with self.db.writing() as session:
                        await leases.renew(session, held.run.id, held.run.fence, seconds)
                held.until = asked + seconds
            except (Unavailable, TimeoutError) as error:
                log.warning("lease_not_renewed", error=type(error).__name__)
            if time.monotonic() >= held.until:
                raise leases.lost()

    async def _watch(self, held: Held) -> None:
        """Raises what ends a run from outside: a cancel, a stall, the end of this process."""
        while True:
            rung = self.db.bell.listen(held.run.id)
            canceled_by = await self._canceled_by(held.run.id)
            if held.can_stop:
                if canceled_by is not None:
                    raise RunCanceled(f"Canceled by {canceled_by}.")
                self._check_going(held)
            await heard(rung, LOOK_SECONDS)

    async def _canceled_by(self, run_id: str) -> str | None:
        try:
            async with self.db.reading() as session:
                run = await runs.get(session, run_id)
        except Unavailable:
            return None
        return (run.canceled_by or "somebody") if run.cancel_requested else None

    def _check_going(self, held: Held) -> None:
        limit = self.settings.stall_deadline
        if self._draining.is_set():
            raise RunFailed("The service was stopped; nothing was promoted: order the run again.", code="interrupted")
        if held.tally.stage in STALLING and held.tally.still() > limit:
            raise RunFailed(
                f"Nothing moved for {limit:g} seconds (STALL_DEADLINE): see the stage's errors.", code="stalled"
            )

    async def _report(self, held: Held) -> None:
        """Figures once a second, as long as there is something new to tell."""
        told: Any = None
        while True:
            await anyio.sleep(LOOK_SECONDS)
            figures = held.tally.view()
            telemetry.observe(held.run.id, figures)
            if (news := (figures["counts"], held.tally.stage)) != told:
                await self._tell(held)
                told = news

    async def _tell(self, held: Held) -> None:
        figures = held.tally.view()
        usd = None if held.price is None else round(figures["tokens"] * held.price / 1_000_000, 6)
        try:
            await held.ledger.report({**figures, "usd": usd})
        except (Unavailable, RunCanceled) as problem:
            log.debug("not_reported", code=problem.code)

    # --- end ---

    async def _end(self, run: Run, state: str, error: Problem | None) -> None:
        self._told(await self._written(partial(runs.finish, state=state, error=error), run))

    async def _give_back(self, run: Run, unknown: PromotionOpen) -> None:
        log.warning("switch_open", detail=unknown.detail)
        await self._written(partial(leases.renew, seconds=0), run)

    async def _written(self, act: Callable[..., Awaitable[T]], run: Run) -> T:
        """A last word in the database, which is waited for while it is away and nobody else may settle the run."""
        deadline = time.monotonic() + self.settings.lease_seconds
        while True:
            try:
                async with self.db.writing() as session:
                    return await act(session, run.id, run.fence)
            except Unavailable as problem:
                log.warning("end_not_written", code=problem.code)
                if time.monotonic() >= deadline:
                    raise
            await anyio.sleep(LOOK_SECONDS)
