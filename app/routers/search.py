"""Search for preview and verification; two generations side by side."""

from fastapi import APIRouter
from starlette.responses import Response

from app import search
from app.auth import Viewer
from app.deps import Json, Service

router = APIRouter(tags=["search"])


@router.post("/catalogues/{name}/search")
async def find(who: Viewer, name: str, ask: search.Ask, parts: Service) -> Response:  # noqa: ARG001
    """Hits on the live generation, or on the one that is named."""
    return Json(await search.find(parts.db, parts.connections, name, ask))


@router.post("/catalogues/{name}/compare")
async def compare(who: Viewer, name: str, wanted: search.Comparison, parts: Service) -> Response:  # noqa: ARG001
    """Result lists of the live generation beside those of another catalogue or generation."""
    return Json(await search.compare(parts.db, parts.connections, name, wanted))
