"""Runs: asked for, claimed, canceled, taken over, ended.

    queued ──claim──▶ running ──▶ ready      only when its switch moved
       │                 ├──────▶ failed     only when no switch of it is open or moved
       └──cancel──▶ canceled ◀───┘           the same

- *Asked for*: the run's row is inserted before the catalogue's row is locked (order of locks: run, catalogue). A
  partial unique index lets one active run a catalogue in; whoever comes second gets `Conflict` with the winner's id.
- *The switch number* is noted when a run is asked for: a rollback after that makes its promotion fail, even when the
  run had not begun. So nothing rebuilds by itself what an operator has just undone.
- *Held*: after a rollback an order is refused until one says `release`, audited in the same transaction. A dry run
  builds nothing: it neither asks for that nor does it.
- *The strategy* of a queued run is the one that was ordered, `incremental` for `auto`; what the run really does is
  decided when it plans, and stands in its place from then on.
- *Ended*: by whoever holds the fence. A switch that moved is the truth: a run that fails in its cleaning is `ready`.
"""

from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, true
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from app import audit, catalogues, idempotency, leases, maintenance, progress
from app.aliases import open_switch
from app.columns import iso, utc_now
from app.db import ReadSession, WriteSession
from app.errors import Conflict, Invalid, NotFound, Problem
from app.models import ACTIVE, Catalogue, RejectRow, Run, Switch
from app.paging import Page, page
from app.sync.tally import COUNTS

FOLLOWS: Mapping[str, Sequence[str]] = {
    "queued": ("running", "canceled"),
    "running": ("ready", "failed", "canceled"),
    "ready": (),
    "failed": (),
    "canceled": (),
}
"""The state diagram."""

OVER = frozenset(state for state, following in FOLLOWS.items() if not following)
"""States in which nothing happens any more."""

ORDERS = "orders"
"""The bell's topic for workers of this process that wait for a queued run."""

PAST_CANCEL = frozenset({"promoting", "cleaning"})
"""Stages that a cancel does not interrupt: the switch decides, which is given up if it has not moved."""

INSERTS = 10
"""How often an order meets an active run that is gone when it is looked for."""


class Order(BaseModel):
    """What `POST /sync` takes; one catalogue declared, an empty order will do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    catalogue: str | None = None
    strategy: Literal["auto", "full", "incremental", "repair"] = "auto"
    dry_run: bool = False
    reason: str | None = Field(None, max_length=1000)
    release: bool = False


# --- ask for ---------------------------------------------------------------------------------------------------------


async def request(
    session: WriteSession,
    order: Order,
    who: str,
    *,
    key: str | None = None,
    trigger: str = "api",
    request_id: str | None = None,
) -> Run:
    """A queued run for *order*, or the one that the idempotency *key* stands for.

    Raises `Conflict` with code `active` (and `run_id`), `held` or `switching`; `Invalid`, `NotFound`.
    """
    run_id = token_hex(8)
    if key is not None:
        stands_for = await idempotency.claim(session, _scope(who), key, _hash(order), run_id)
        if stands_for != run_id:
            return await get(session, stands_for)
    catalogue = await (catalogues.get(session, order.catalogue) if order.catalogue else catalogues.only(session))
    run = Run(
        id=run_id, catalogue=catalogue.name, strategy=_strategy(order), trigger=trigger, reason=order.reason,
        requested_by=who, request_id=request_id, dry_run=order.dry_run,
    )  # fmt: skip
    return await queue(session, run, release=order.release)


def _strategy(order: Order) -> str:
    return "incremental" if order.strategy == "auto" else order.strategy


async def known(session: ReadSession, order: Order, who: str, key: str) -> Run | None:
    """The run that *key* stands for already: an order that is repeated needs no admission. Raises `Invalid`."""
    run_id = await idempotency.find(session, _scope(who), key, _hash(order))
    return await get(session, run_id) if run_id else None


def _scope(who: str) -> str:
    return f"sync:{who}"


def _hash(order: Order) -> str:
    return idempotency.body_hash(order.model_dump(mode="json"))


async def queue(session: WriteSession, run: Run, *, release: bool = False) -> Run:
    """Let *run* wait for a worker. Raises `Conflict` (`active` with `run_id`, `held`, `switching`), `Unavailable`."""
    await maintenance.check(session)
    await _insert(session, run)
    catalogue = await catalogues.locked(session, run.catalogue)
    check_held(catalogue, dry_run=run.dry_run, release=release)
    if await open_switch(session, run.catalogue):
        raise Conflict(f"A rollback of {run.catalogue} is under way: ask again in a moment.", code="switching")
    if not run.dry_run:
        await catalogues.release(session, run.catalogue, run.requested_by, run.reason)
    run.switch_seen = catalogue.switch_number
    await _say(session, run)
    session.ring(ORDERS)
    return run


def check_held(catalogue: Catalogue, *, dry_run: bool, release: bool) -> None:
    """Raise `Conflict` (code `held`) for a run that a held catalogue does not take."""
    if catalogue.held and not (release or dry_run):
        why = (
            f"Catalogue {catalogue.name} is held ({catalogue.held_reason}): release it, or order with `release: true`."
        )
        raise Conflict(why, code="held")


async def _insert(session: WriteSession, run: Run) -> None:
    """Let the unique index decide. The loser waits for the winner's commit, so it can name the winner."""
    for _ in range(INSERTS):
        try:
            async with session.begin_nested():
                session.add(run)
            return
        except IntegrityError:
            await check_none_active(session, run.catalogue)
    raise Conflict("Runs of this catalogue come and go at this moment: ask again.", code="active")


async def check_none_active(session: ReadSession, catalogue: str) -> None:
    """Raise `Conflict` (code `active`, with its `run_id`) while there is an active run."""
    if winner := await active(session, catalogue):
        why = f"Run {winner} of catalogue {catalogue} is active: wait for it or cancel it."
        raise Conflict(why, code="active", run_id=winner)


async def active(session: ReadSession, catalogue: str) -> str | None:
    """The id of the queued or running run of a catalogue."""
    return (await session.exec(select(Run.id).where(col(Run.catalogue) == catalogue, ACTIVE))).first()


async def retry(session: WriteSession, id: str, who: str, request_id: str | None = None) -> Run:  # noqa: A002
    """The order of a failed or canceled run again, as a new run. Raises `Conflict` where that makes no sense."""
    old = await get(session, id)
    if old.state not in ("failed", "canceled"):
        raise Conflict(f"Run {id} is {old.state}: only a failed or canceled run can be retried.", code="not_over")
    if old.approves:
        await _check_last_approved(session, old)
    run = Run(
        id=token_hex(8), catalogue=old.catalogue, strategy=old.strategy, trigger="retry", reason=old.reason,
        requested_by=who, request_id=request_id, attempt=old.attempt + 1, retry_of=old.id, dry_run=old.dry_run,
        ceiling=old.ceiling, approves=old.approves,
    )  # fmt: skip
    return await queue(session, run)


async def _check_last_approved(session: ReadSession, old: Run) -> None:
    """An approval is used once: a chain of retries goes on where it ended, and not at all once it was ready."""
    newest = select(Run.id).where(col(Run.approves) == old.approves).order_by(col(Run.attempt).desc()).limit(1)
    if (last := (await session.exec(newest)).one()) != old.id:
        why = f"The approval that run {old.id} had went on with run {last}: look at that one."
        raise Conflict(why, code="approved_already", run_id=last)


# --- read ------------------------------------------------------------------------------------------------------------


async def get(session: ReadSession, id: str) -> Run:  # noqa: A002 - what clients call it
    """One run. Raises `NotFound`."""
    if run := await session.get(Run, id, populate_existing=True):
        return run
    raise NotFound(f"There is no run {id[:80]!r}: see GET /api/v1/runs.")


async def listed(
    session: ReadSession,
    catalogue: str | None = None,
    state: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[Run]:
    """The runs, newest first, and the cursor of the next page."""
    if state is not None and state not in FOLLOWS:
        why = f"must be one of {', '.join(FOLLOWS)}"
        raise Invalid("There is no such state.", errors=[{"where": "state", "why": why}])
    query = select(Run)
    for column, value in ((col(Run.catalogue), catalogue), (col(Run.state), state)):
        query = query if value is None else query.where(column == value)
    return await page(session, query, [col(Run.requested_at), col(Run.id)], limit, cursor)


async def rejects(session: ReadSession, id: str, limit: int = 50, cursor: str | None = None) -> Page[RejectRow]:  # noqa: A002
    """What a run left out, in the order it was found. Raises `NotFound`."""
    await get(session, id)
    query = select(RejectRow).where(col(RejectRow.run) == id)
    return await page(session, query, [col(RejectRow.id)], limit, cursor, up=True)


async def last_reject(session: ReadSession, catalogue: str, product_id: str) -> RejectRow | None:
    """The newest reject of one product, None when there is none (any more)."""
    query = select(RejectRow).join(Run, col(Run.id) == col(RejectRow.run))
    query = query.where(col(Run.catalogue) == catalogue, col(RejectRow.product_id) == product_id)
    return (await session.exec(query.order_by(col(RejectRow.id).desc()).limit(1))).first()


def view(run: Run) -> dict[str, Any]:
    """A run as clients see it; a figure that was not found out is null."""
    same = (
        "id", "catalogue", "strategy", "state", "stage", "trigger", "reason", "requested_by", "attempt", "retry_of",
        "dry_run", "generation", "from_generation", "recipe", "plan", "verdict", "withheld", "stages", "error",
        "ceiling", "approves",
    )  # fmt: skip
    times = ("requested_at", "started_at", "finished_at")
    shown = {name: getattr(run, name) for name in same}
    shown |= {name: iso(getattr(run, name)) for name in times}
    shown["counts"] = {name: run.counts.get(name) for name in COUNTS}
    shown["cost"] = {"tokens": None, "usd": None, **(run.cost or {})}
    return shown | {"cancel_requested": run.cancel_requested, "request_id": run.request_id}


def view_reject(row: RejectRow) -> dict[str, Any]:
    """A reject as clients see it."""
    return {"product_id": row.product_id, "by": row.by, "code": row.code, "detail": row.detail}


# --- hold, take over -------------------------------------------------------------------------------------------------


async def claim(session: WriteSession, worker: str, lease_seconds: float) -> Run | None:
    """The oldest queued run, running now and held by *worker*; None when nothing waits or nothing may run."""
    if (await maintenance.current(session)).read_only:
        return None
    oldest = select(Run.id).where(col(Run.state) == "queued").order_by(col(Run.requested_at), col(Run.id))
    run_id = (await session.exec(oldest.limit(1).with_for_update(skip_locked=True))).first()
    if run_id is None:
        return None
    queued = col(Run.state) == "queued"
    run = await leases.take(session, run_id, worker, lease_seconds, queued, state="running", started_at=utc_now())
    if run is not None:
        await _say(session, run, worker=worker)
    return run


async def expired(session: ReadSession) -> Sequence[Run]:
    """Running runs whose lease has run out: their worker is dead, cut off or stopped."""
    return (await session.exec(select(Run).where(leases.ran_out()).order_by(col(Run.lease_until)))).all()


async def take_over(session: WriteSession, run_id: str, worker: str, lease_seconds: float) -> Run | None:
    """Hold a run whose lease has run out, one fence higher; None when somebody else was quicker."""
    return await leases.take(session, run_id, worker, lease_seconds, leases.ran_out())


# --- end -------------------------------------------------------------------------------------------------------------


async def cancel(session: WriteSession, id: str, who: str) -> Run:  # noqa: A002 - what clients call it
    """Cancel a queued run at once, ask a running one to stop. Raises `Conflict` (code `over`) for a finished one."""
    run = await locked(session, id)
    if run.state in OVER:
        raise Conflict(f"Run {id} is {run.state} already.", code="over")
    last = await last_switch(session, run)
    if last and last.state == "moved":
        raise Conflict(f"Run {id} has been promoted: roll back instead.", code="too_late")
    if not run.cancel_requested:
        await audit.record(session, who, "cancel", run.catalogue, run.id)
    run.cancel_requested, run.canceled_by = True, run.canceled_by or who
    if run.state == "queued":
        await _end(session, run, "canceled", {"code": "canceled", "detail": f"Canceled by {who} before it began."})
    session.ring(run.id)
    return run


async def finish(session: WriteSession, run_id: str, fence: int, state: str, error: Problem | None = None) -> Run:
    """The holder's last word: ready, failed or canceled; a lease that ran out unnoticed does no harm.

    A switch of this run that moved makes it `ready` whatever *state* says; *error* then is told as a note. Raises
    `LeaseLost` for another fence, `Conflict` with code `switch_open` when a switch must be settled first.
    """
    run = await _locked(session, run_id, (col(Run.fence) == fence) & (col(Run.state) == "running"))
    if run is None:
        raise leases.lost()
    last = await last_switch(session, run)
    if state != "ready" and last and last.state == "open":
        raise Conflict("The switch of this run may have moved: it is settled first.", code="switch_open")
    told = _told(error) if error else None
    if state != "ready" and last and last.state == "moved":
        await progress.say(session, run.catalogue, "note", {"after_promotion": told}, run)
        state, told = "ready", None
    await _end(session, run, state, told)
    return run


def _told(error: Problem) -> dict[str, Any]:
    """What a run keeps of the error that ended it; `findings` where it has some."""
    found = {"findings": error.extra["findings"]} if "findings" in error.extra else {}
    return {"code": error.code, "detail": error.detail, **found}


async def last_switch(session: ReadSession, run: Run) -> Switch | None:
    """The switch that *run* opened, None before promotion."""
    query = select(Switch).where(col(Switch.catalogue) == run.catalogue, col(Switch.run) == run.id)
    return (await session.exec(query.order_by(col(Switch.number).desc()).limit(1))).first()


async def _end(session: WriteSession, run: Run, state: str, error: Mapping[str, Any] | None) -> None:
    assert state in FOLLOWS[run.state], (run.state, state)
    run.state, run.error, run.finished_at, run.lease_until = state, dict(error) if error else None, utc_now(), None
    await _say(session, run, **({"error": run.error} if run.error else {}))


async def locked(session: WriteSession, id: str) -> Run:  # noqa: A002 - what clients call it
    """One run, its row locked until the end of the transaction. Raises `NotFound`."""
    return await _locked(session, id, true()) or await get(session, id)


async def _locked(session: WriteSession, run_id: str, where: ColumnElement[bool]) -> Run | None:
    query = select(Run).where(col(Run.id) == run_id, where).with_for_update()
    return (await session.exec(query, execution_options={"populate_existing": True})).first()


async def _say(session: WriteSession, run: Run, **more: Any) -> None:
    await session.flush()
    await progress.say(session, run.catalogue, "state", {"state": run.state, **more}, run)
