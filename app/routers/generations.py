"""Generations: list, and go back to one."""

from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from app import catalogues, generations, switches
from app.auth import Admin, Viewer
from app.deps import Json, Paging, Reading, Service

router = APIRouter(prefix="/catalogues/{name}", tags=["generations"])


class Rollback(BaseModel):
    """Where to: the generation before the live one, unless named; one that is no longer fed only if `stale`."""

    model_config = ConfigDict(extra="forbid")

    to: str | None = Field(None, min_length=1, max_length=255)
    stale: bool = False


@router.get("/generations")
async def list_generations(who: Viewer, name: str, session: Reading, pages: Paging) -> Response:  # noqa: ARG001
    """The generations of a catalogue, newest first."""
    await catalogues.get(session, name)
    return pages.answer(await generations.listed(session, name, pages.limit, pages.cursor), generations.view)


@router.post("/rollback")
async def rollback(
    who: Admin, name: str, parts: Service, wanted: Annotated[Rollback | None, Body()] = None
) -> Response:
    """Move the alias back, at once. The catalogue is held afterwards."""
    to = wanted or Rollback()
    moved = await switches.rollback(parts.db, parts.connections, name, to=to.to, stale=to.stale, who=who.name)
    return Json(moved)
