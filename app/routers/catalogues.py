"""Catalogues: declare, list, show, change, forget, release; what changed in them."""

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict
from starlette.responses import Response

from app import catalogues, changes, overview, sweeper
from app.auth import Admin, Editor, Viewer
from app.deps import Json, Paging, Reading, Service, Writing
from app.spec import CatalogueSpec

router = APIRouter(prefix="/catalogues", tags=["catalogues"])


class Patch(BaseModel):
    """What can be switched without declaring the catalogue anew."""

    model_config = ConfigDict(extra="forbid")

    paused: bool | None = None
    projection: Literal["on", "off"] | None = None


class Release(BaseModel):
    """Why runs may start again."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str | None, Query(max_length=1000)] = None


@router.put("/{name}")
async def declare(who: Editor, name: str, spec: CatalogueSpec, session: Writing, parts: Service) -> Response:  # noqa: ARG001
    """Declare a catalogue or change it: 201 when it is new. Checks form only."""
    made, is_new = await catalogues.declare(session, name, spec, parts.settings)
    return Json(await overview.of(session, made), status_code=201 if is_new else 200)


@router.get("")
async def list_catalogues(who: Viewer, session: Reading, pages: Paging) -> Response:  # noqa: ARG001
    """All catalogues, by name."""
    rows, cursor = await catalogues.listed(session, pages.limit, pages.cursor)
    return pages.of([await overview.of(session, row) for row in rows], cursor)


@router.get("/{name}")
async def show(who: Viewer, name: str, session: Reading) -> Response:  # noqa: ARG001
    """One catalogue with its live generation, last run, `held`, lag."""
    return Json(await overview.of(session, await catalogues.get(session, name)))


@router.patch("/{name}")
async def patch(who: Editor, name: str, wanted: Patch, session: Writing) -> Response:
    """Switch the applying of events, or reading; audited."""
    changed = await catalogues.patch(session, name, who.name, paused=wanted.paused, projection=wanted.projection)
    return Json(await overview.of(session, changed))


@router.delete("/{name}", status_code=204)
async def forget(who: Admin, name: str, parts: Service, purge: bool = False) -> Response:
    """Forget a catalogue; its indices stay, unless `purge` removes those that are ours."""
    await sweeper.forget(parts.db, parts.connections, name, who.name, purge=purge)
    return Response(status_code=204)


@router.post("/{name}/release")
async def release(who: Editor, name: str, session: Writing, why: Annotated[Release | None, Body()] = None) -> Response:
    """Let runs start again after a rollback."""
    released = await catalogues.release(session, name, who.name, why.reason if why else None)
    return Json(await overview.of(session, released))


@router.get("/{name}/changes")
async def list_changes(
    who: Viewer,  # noqa: ARG001
    name: str,
    session: Reading,
    pages: Paging,
    since: AwareDatetime | None = None,
    product_id: Annotated[str | None, Query(max_length=512)] = None,
) -> Response:
    """The change log, newest first."""
    found = changes.listed(session, name, pages.limit, pages.cursor, since=since, product_id=product_id)
    return pages.answer(await found, changes.view)
