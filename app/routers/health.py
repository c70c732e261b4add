"""Probes, figures, version, and the description of the API."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from app import backlog, catalogues, probes, telemetry
from app.auth import Viewer
from app.db import ReadSession
from app.deps import Json, Service

router = APIRouter(tags=["operation"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def healthz() -> Response:
    """The process answers and its loop turns; touches nothing else."""
    return Json({"status": "ok"})


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz")
async def readyz(parts: Service) -> Response:
    """Whether traffic should come here: 503 while not."""
    found = await probes.readiness(parts)
    return Json(found, status_code=200 if found["ready"] else 503)


@router.get("/api/version")
async def version(parts: Service) -> Response:
    """Version, commit, engines, models with their digests."""
    return Json(await probes.version(parts))


@router.get("/metrics", include_in_schema=False)
async def metrics(who: Viewer, parts: Service) -> Response:  # noqa: ARG001
    """Figures for Prometheus."""

    async def events(session: ReadSession) -> None:
        names = [one.name for one in (await catalogues.listed(session, telemetry.CATALOGUES))[0]]
        telemetry.show_events(names, await backlog.of_all(session), parts.settings.events_most)

    telemetry.show_breakers({one.name: one.is_open for one in parts.connections.breakers})
    figures = await telemetry.exposition(parts.db, parts.figures, events)
    return Response(figures, media_type=telemetry.CONTENT_TYPE_LATEST)


@router.get("/api/v1/openapi.json", include_in_schema=False)
async def openapi(who: Viewer, request: Request) -> Response:  # noqa: ARG001
    """Every route, machine-readable."""
    return Json(request.app.openapi())
