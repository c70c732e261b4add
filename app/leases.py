"""Who may act on a run, and until when: leases by the database's clock, and a fence against late workers.

    queued ──take──▶ held, fence 1 ──renew──▶ held, fence 1 ──lease runs out──▶ take: held by another, fence 2

- `take` raises the fence. From then on every write that says `holds(id, old fence)` changes zero rows.
- A lease that has run out is not renewed: whoever takes the run over must be able to rely on the old holder's silence.
- A holder counts its lease by its own monotonic clock from *before* it asked, so it stops before the database would.
- Nothing here compares clocks of two machines: `now_ms()` is evaluated by the database, in the statement itself.
"""

from typing import Any

from sqlalchemy import ColumnElement, and_, update
from sqlmodel import col, select

from app.db import ReadSession, WriteSession
from app.dialects import now_ms
from app.errors import LeaseLost
from app.models import Run

_QUIET = {"synchronize_session": False}


def holds(run_id: str, fence: int) -> ColumnElement[bool]:
    """The condition under which a holder may write: the run goes on, the fence is its own, the lease is valid."""
    return and_(
        col(Run.id) == run_id, col(Run.state) == "running", col(Run.fence) == fence, col(Run.lease_until) > now_ms()
    )


def ran_out() -> ColumnElement[bool]:
    """The condition under which anybody may take a running run over."""
    return and_(col(Run.state) == "running", col(Run.lease_until) <= now_ms())


async def take(
    session: WriteSession, run_id: str, worker: str, seconds: float, where: ColumnElement[bool], **also: Any
) -> Run | None:
    """Make *worker* the holder of a run that fits *where*, one fence higher; None when it does not fit (any more)."""
    change = update(Run).where(col(Run.id) == run_id, where)
    change = change.values(worker=worker, fence=col(Run.fence) + 1, lease_until=_end(seconds), **also)
    if not (await session.exec(change, execution_options=_QUIET)).rowcount:
        return None
    return await session.get(Run, run_id, populate_existing=True)


async def renew(session: WriteSession, run_id: str, fence: int, seconds: float) -> None:
    """Hold on for *seconds* more, from now. Raises `LeaseLost`."""
    change = update(Run).where(holds(run_id, fence)).values(lease_until=_end(seconds))
    if not (await session.exec(change, execution_options=_QUIET)).rowcount:
        raise lost()


async def held(session: ReadSession, run_id: str, fence: int) -> Run:
    """The run as it stands, when *fence* still holds it. Raises `LeaseLost`."""
    return await _one(session, run_id, fence, lock=False)


async def locked(session: WriteSession, run_id: str, fence: int) -> Run:
    """The same, with the row locked until the transaction ends: nobody takes it over in between."""
    return await _one(session, run_id, fence, lock=True)


async def _one(session: ReadSession, run_id: str, fence: int, *, lock: bool) -> Run:
    query = select(Run).where(holds(run_id, fence))
    query = query.with_for_update() if lock else query
    run = (await session.exec(query, execution_options={"populate_existing": True})).first()
    if run is None:
        raise lost()
    return run


def lost() -> LeaseLost:
    """What a holder hears that is none any more."""
    return LeaseLost("The lease of this run has run out or another worker took it over: this one stops.")


def _end(seconds: float) -> ColumnElement[int]:
    return now_ms() + int(seconds * 1000)
