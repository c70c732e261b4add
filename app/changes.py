"""The change log: which product was found different, when, in which fields, by which run.

Lines are written by the run that carries the change, before anybody can read it in the target, and go after
`RETENTION_DAYS`. They are shown once that run is `ready`: what a failed one found was carried by nobody; but for a
repair, which writes where readers are and takes nothing back. A run that begins anew takes its lines back first.
"""

from datetime import UTC, datetime
from typing import Any

from sqlmodel import col, or_, select
from sqlmodel.sql.expression import SelectOfScalar

from app import catalogues
from app.columns import iso
from app.db import ReadSession
from app.errors import Invalid
from app.models import ChangeRow, Run
from app.paging import Page, page


async def listed(
    session: ReadSession,
    catalogue: str,
    limit: int = 50,
    cursor: str | None = None,
    *,
    since: datetime | None = None,
    product_id: str | None = None,
) -> Page[ChangeRow]:
    """The changes of a catalogue, newest first, and the cursor of the next page. Raises `NotFound`, `Invalid`."""
    await catalogues.get(session, catalogue)
    query = _carried(catalogue)
    if since is not None:
        query = query.where(col(ChangeRow.at) >= _in_utc(since))
    if product_id is not None:
        query = query.where(col(ChangeRow.product_id) == product_id)
    return await page(session, query, [col(ChangeRow.at), col(ChangeRow.id)], limit, cursor)


def _carried(catalogue: str) -> SelectOfScalar[ChangeRow]:
    shown = or_(col(Run.state) == "ready", col(Run.strategy) == "repair")
    ready = select(Run.id).where(col(Run.catalogue) == catalogue, shown)
    return select(ChangeRow).where(col(ChangeRow.catalogue) == catalogue, col(ChangeRow.run).in_(ready))


def _in_utc(since: datetime) -> datetime:
    """Raises `Invalid` for the moments that an offset pushes out of the calendar, and for those without one."""
    try:
        if since.tzinfo is not None:
            return since.astimezone(UTC)
    except OverflowError:
        pass
    why = "must be a time with its zone, such as 2026-01-31T00:00:00Z"
    raise Invalid("There is no such moment.", errors=[{"where": "since", "why": why}])


async def last(session: ReadSession, catalogue: str, product_id: str) -> ChangeRow | None:
    """The newest change of one product, None when there is none (any more)."""
    query = _carried(catalogue).where(col(ChangeRow.product_id) == product_id)
    return (await session.exec(query.order_by(col(ChangeRow.id).desc()).limit(1))).first()


def view(change: ChangeRow) -> dict[str, Any]:
    """A change as clients see it."""
    same = ("product_id", "kind", "fields", "run")
    return {name: getattr(change, name) for name in same} | {"at": iso(change.at)}
