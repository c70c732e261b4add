"""`POST /sync`: an order becomes a run; for cron, webhooks and people."""

from typing import Annotated

from fastapi import APIRouter, Body
from starlette.responses import Response

from app import orders, runs
from app.auth import Editor
from app.deps import Json, Key, Parts, RequestId, Service
from app.models import Run
from app.routers.runs import accepted, at

router = APIRouter(tags=["runs"])


@router.post("/sync", status_code=202)
async def sync(
    who: Editor,
    parts: Service,
    request_id: RequestId,
    key: Key = None,
    order: Annotated[runs.Order | None, Body()] = None,
) -> Response:
    """Start a run. With one catalogue declared an empty body will do. The same `Idempotency-Key`: the same run.

    A dry run is answered with its plan when that is there in time.
    """
    asked = orders.Asked(order or runs.Order(), who.name, key, request_id)
    run = await orders.place(parts.db, parts.connections, asked)
    return await planned(parts, run) if run.dry_run else accepted(run)


async def planned(parts: Parts, run: Run) -> Response:
    """The plan, or the run that goes on planning."""
    over = await orders.planned(parts.db, run, parts.draining)
    return Json(over.plan, headers=at(run.id)) if over.state == "ready" else accepted(over)
