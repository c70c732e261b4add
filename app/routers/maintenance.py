"""The maintenance mode: read-only, and back."""

from fastapi import APIRouter
from starlette.responses import Response

from app import maintenance
from app.auth import Admin, Viewer
from app.deps import Json, Reading, Writing

router = APIRouter(tags=["maintenance"])


@router.put("/maintenance")
async def switch(who: Admin, wanted: maintenance.Mode, session: Writing) -> Response:
    """Read-only: events are still accepted, nothing is applied, no run starts. Audited."""
    return Json(maintenance.view(await maintenance.switch(session, wanted, who.name)))


@router.get("/maintenance")
async def show(who: Viewer, session: Reading) -> Response:  # noqa: ARG001
    """Whether the service is read-only, and why."""
    return Json(maintenance.view(await maintenance.current(session)))
