"""`create_app`: the only place that builds things for HTTP; and what happens at start and at the end.

    start:  schema and durability checked ─▶ connections ─▶ declared catalogues ─▶ worker ─▶ answers
    end:    draining (not ready, streams say `bye`) ─▶ worker drains ─▶ connections close ─▶ database closes

What is wrong at start is raised as a `Problem` that says what to do. A worker that fails by a bug is logged and built
anew after `RESTART_SECONDS`; while it is down the service is not ready, and still answers.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio
import structlog
from anyio.abc import TaskGroup
from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator

from app import __version__, declared, edge
from app.auth import OPEN, check_listening
from app.config import Settings
from app.db import Database, ensure_schema, open_database
from app.deps import Json, Parts
from app.errors import Problem
from app.routers import (
    audit,
    catalogues,
    events,
    generations,
    health,
    maintenance,
    page,
    problems,
    products,
    runs,
    search,
    session,
    sync,
)
from app.sync.flow import plainly

if TYPE_CHECKING:
    from app.connections import Connections

RESTART_SECONDS = 5.0
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})

log = structlog.get_logger("reshelve.main")


def create_app(settings: Settings, *, connections: "Connections | None" = None, works: bool = True) -> FastAPI:
    """The service of *settings*, not started: its lifespan does that. Raises `Problem` when it must not listen so.

    *connections* are closed by whoever made them; without them the service makes its own. *works* False leaves the
    runs to other processes.
    """
    check_listening(settings)
    figures = CollectorRegistry()
    app = FastAPI(
        title="Reshelve",
        version=__version__,
        lifespan=partial(_lifespan, settings=settings, connections=connections, figures=figures, works=works),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        default_response_class=Json,
        responses=dict.fromkeys(("4XX", "5XX", 422), problems.SHOWN),
    )
    app.state.settings = settings
    problems.install(app)
    files = page.assets()
    _add_routes(app, page.router(files))
    _wrap(app, settings, figures, OPEN | files.keys())
    return app


def _add_routes(app: FastAPI, pages: APIRouter) -> None:
    for module in (catalogues, sync, runs, generations, events, search, products, audit, maintenance, session):
        app.include_router(module.router, prefix="/api/v1")
    app.include_router(sync.router, include_in_schema=False)
    app.include_router(health.router)
    app.include_router(pages)


def _wrap(app: FastAPI, settings: Settings, figures: CollectorRegistry, is_open: frozenset[str]) -> None:
    """Innermost first: what is added last sees a request first."""
    app.add_middleware(edge.Gate, mode=settings.auth.mode, is_open=is_open)
    Instrumentator(
        excluded_handlers=["^/metrics$", "^/healthz$", "^/readyz$"],
        should_exclude_streaming_duration=True,
        registry=figures,
    ).instrument(app, metric_namespace="reshelve")
    app.add_middleware(edge.Edge, quiet=QUIET)


# --- start and end ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _lifespan(
    app: FastAPI, *, settings: Settings, connections: "Connections | None", figures: CollectorRegistry, works: bool
) -> AsyncIterator[None]:
    lent = _connected(settings, connections)
    async with _database(settings) as db, lent as ready:
        await declared.declare(db, settings)
        parts = app.state.parts = Parts(settings, db, ready, figures)
        with plainly():
            async with anyio.create_task_group() as group:
                if works:
                    group.start_soon(_work, parts)
                log.info("started", database=db.dialect, worker=works)
                yield
                await _end(parts, group)


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    db = await open_database(settings.database_url.get_secret_value())
    try:
        await ensure_schema(db)
        await db.check_durable()
        yield db
    finally:
        await db.close()


def _connected(settings: Settings, given: "Connections | None") -> "AbstractAsyncContextManager[Connections]":
    return _lent(given) if given is not None else _own_connections(settings)


@asynccontextmanager
async def _lent(connections: "Connections") -> "AsyncIterator[Connections]":
    yield connections


@asynccontextmanager
async def _own_connections(settings: Settings) -> "AsyncIterator[Connections]":
    from app.connections import Connections

    made = Connections(settings)
    try:
        yield made
    finally:
        with anyio.CancelScope(shield=True):
            await made.close()


async def _work(parts: Parts) -> None:
    """Keep a worker at work until it is drained."""
    from app.worker import Worker

    while not parts.draining.is_set():
        parts.worker = Worker(parts.db, parts.connections, parts.settings, parts.draining)
        try:
            await parts.worker.run()
        except Problem as problem:
            log.error("worker_stopped", code=problem.code, detail=problem.detail)
        except Exception:
            log.exception("worker_stopped")
        with anyio.move_on_after(RESTART_SECONDS):
            await parts.draining.wait()


async def _end(parts: Parts, group: TaskGroup) -> None:
    parts.draining.set()
    with anyio.move_on_after(parts.settings.drain_seconds):
        if parts.worker is not None:
            await parts.worker.drain()
    group.cancel_scope.cancel()
    log.info("stopped")
