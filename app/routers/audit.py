"""The audit log: who did what administrative act, when, why."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from app import audit
from app.auth import Admin
from app.deps import Paging, Reading

router = APIRouter(tags=["audit"])


@router.get("/audit")
async def list_audit(
    who: Admin,  # noqa: ARG001
    session: Reading,
    pages: Paging,
    catalogue: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Entries, newest first."""
    return pages.answer(await audit.listed(session, catalogue, pages.limit, pages.cursor), audit.view)
