"""The audit log: who did what administrative act, when, why. Entries are added, never changed."""

from typing import Any

from sqlmodel import col, select

from app.columns import iso
from app.db import ReadSession, WriteSession
from app.models import AuditEntry
from app.paging import Page, page


async def record(
    session: WriteSession,
    who: str,
    act: str,
    catalogue: str | None = None,
    subject: str | None = None,
    *,
    reason: str | None = None,
    **detail: Any,
) -> AuditEntry:
    """Add one entry within the transaction of the act itself: both happen or neither does."""
    entry = AuditEntry(who=who, act=act, catalogue=catalogue, subject=subject, reason=reason, detail=detail)
    session.add(entry)
    await session.flush()
    return entry


async def listed(
    session: ReadSession, catalogue: str | None = None, limit: int = 50, cursor: str | None = None
) -> Page[AuditEntry]:
    """The entries, newest first, and the cursor of the next page."""
    query = select(AuditEntry)
    if catalogue is not None:
        query = query.where(col(AuditEntry.catalogue) == catalogue)
    return await page(session, query, [col(AuditEntry.id)], limit, cursor)


def view(entry: AuditEntry) -> dict[str, Any]:
    """An entry as clients see it."""
    return {**entry.model_dump(), "id": str(entry.id), "at": iso(entry.at)}
