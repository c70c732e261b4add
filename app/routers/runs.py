"""Runs: list, show, cancel, retry, approve; their rejects and their story, as lines or as a stream."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from app import approvals, progress, runs, streams
from app.auth import Editor, Viewer
from app.deps import After, HasPlace, Json, Pages, Paging, Reading, RequestId, Service, Writing
from app.models import Run

router = APIRouter(tags=["runs"])

State = Literal["queued", "running", "ready", "failed", "canceled"]


class Approval(BaseModel):
    """How many of the withheld deletions may pass."""

    model_config = ConfigDict(extra="forbid")

    deletions: int = Field(ge=1, le=2**31 - 1, strict=True)


def at(run: str) -> dict[str, str]:
    """The header that says where a run is."""
    return {"Location": f"/api/v1/runs/{run}"}


def accepted(run: Run) -> Response:
    """202 with the run and where it is."""
    return Json(runs.view(run), status_code=202, headers=at(run.id))


@router.get("/runs")
async def list_runs(
    who: Viewer,  # noqa: ARG001
    session: Reading,
    pages: Paging,
    catalogue: Annotated[str | None, Query(max_length=64)] = None,
    state: State | None = None,
) -> Response:
    """Runs, newest first."""
    return pages.answer(await runs.listed(session, catalogue, state, pages.limit, pages.cursor), runs.view)


@router.get("/runs/{run_id}")
async def show(who: Viewer, run_id: str, session: Reading) -> Response:  # noqa: ARG001
    """One run."""
    return Json(runs.view(await runs.get(session, run_id)))


@router.post("/runs/{run_id}/cancel", status_code=202)
async def cancel(who: Editor, run_id: str, session: Writing) -> Response:
    """Stop a run; it is over within seconds."""
    return accepted(await runs.cancel(session, run_id, who.name))


@router.post("/runs/{run_id}/retry", status_code=202)
async def retry(who: Editor, run_id: str, session: Writing, request_id: RequestId) -> Response:
    """The same order again, as a new run."""
    return accepted(await runs.retry(session, run_id, who.name, request_id=request_id))


@router.post("/runs/{run_id}/approve", status_code=202)
async def approve(who: Editor, run_id: str, wanted: Approval, session: Writing, request_id: RequestId) -> Response:
    """The same order again, letting at most so many withheld deletions pass."""
    return accepted(await approvals.approve(session, run_id, wanted.deletions, who.name, request_id))


@router.get("/runs/{run_id}/rejects")
async def list_rejects(who: Viewer, run_id: str, session: Reading, pages: Paging) -> Response:  # noqa: ARG001
    """What was left out of a run, and why."""
    await runs.get(session, run_id)
    return pages.answer(await runs.rejects(session, run_id, pages.limit, pages.cursor), runs.view_reject)


@router.get("/runs/{run_id}/progress")
async def list_progress(
    who: Viewer,  # noqa: ARG001
    run_id: str,
    session: Reading,
    request: Request,
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    cursor: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    limit: Annotated[int, Query(ge=1, le=progress.PAGE)] = progress.PAGE,
) -> Response:
    """The lines of a run beyond number *after*; `next_cursor`, while there may be more, is the next `after` too."""
    await runs.get(session, run_id)
    found = await progress.lines(session, after if cursor is None else cursor, limit, run=run_id)
    return Pages(request, limit).of(map(progress.view, found), streams.further(found, limit))


@router.get("/runs/{run_id}/stream", dependencies=[HasPlace])
async def stream_run(run_id: str, parts: Service, after: After, request_id: RequestId) -> Response:
    """A run's lines as they are written, until `event: end`."""
    return await streams.answer(parts.db, streams.RunStory(run_id), after, parts.draining, request_id)


@router.get("/catalogues/{name}/stream", dependencies=[HasPlace])
async def stream_catalogue(name: str, parts: Service, after: After, request_id: RequestId) -> Response:
    """All lines of a catalogue as they are written."""
    return await streams.answer(parts.db, streams.CatalogueStory(name), after, parts.draining, request_id)
