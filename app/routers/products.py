"""The trace of one product."""

from fastapi import APIRouter
from starlette.responses import Response

from app.auth import Viewer
from app.deps import Json, Service
from app.trace import trace

router = APIRouter(tags=["products"])


@router.get("/catalogues/{name}/products/{product_id:path}")
async def show(who: Viewer, name: str, product_id: str, parts: Service) -> Response:  # noqa: ARG001
    """A product in the source, in each generation, and why it is found as it is. Ids may hold slashes, encoded."""
    return Json(await trace(parts.db, parts.connections, name, product_id))
