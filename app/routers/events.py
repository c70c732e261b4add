"""Events: told, listed, replayed, dropped; also by signed webhooks."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app import events, hooks, notices
from app.auth import Admin, Editor, Viewer
from app.deps import Json, Paging, Reading, Service, Writing

router = APIRouter(tags=["events"])


@router.post("/catalogues/{name}/events", status_code=202)
async def accept(who: Editor, name: str, told: notices.Notices, parts: Service) -> Response:  # noqa: ARG001
    """Take up to 1,000 events: 202 once they are committed, 429 with `Retry-After` when too many wait."""
    return Json(await parts.intake.take(name, told.events), status_code=202)


@router.post("/hooks/{name}", status_code=202)
async def hook(name: str, request: Request, parts: Service) -> Response:
    """The same from outside, signed as Standard Webhooks; no token is asked for."""
    message = hooks.verified(request.headers, await request.body(), parts.settings.webhook_secrets)
    return Json(await parts.intake.take(name, message.events), status_code=202)


@router.get("/catalogues/{name}/events")
async def list_events(
    who: Viewer,  # noqa: ARG001
    name: str,
    session: Reading,
    pages: Paging,
    status: Annotated[Literal["pending", "processing", "done", "failed"] | None, Query()] = None,
    product_id: Annotated[str | None, Query(max_length=512)] = None,
) -> Response:
    """The outbox, newest first."""
    found = events.listed(session, name, pages.limit, pages.cursor, status=status, product_id=product_id)
    return pages.answer(await found, events.view)


@router.post("/catalogues/{name}/events/replay")
async def replay(who: Admin, name: str, wanted: events.Wanted, session: Writing) -> Response:
    """Let failed events wait again, oldest first; audited."""
    return Json({"replayed": await events.replay(session, name, wanted, who.name), "dry_run": wanted.dry_run})


@router.post("/catalogues/{name}/events/drop")
async def drop(who: Admin, name: str, wanted: events.Wanted, session: Writing) -> Response:
    """Remove failed events for good, oldest first; audited."""
    return Json({"dropped": await events.drop(session, name, wanted, who.name), "dry_run": wanted.dry_run})
