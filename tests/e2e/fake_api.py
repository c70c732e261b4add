"""Plays the API to the page: scripted lines, switches to break things, and a record of what the page asked for."""

import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from app.sync.tally import COUNTS

WEB = Path(__file__).parents[2] / "app" / "web"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
DEADLINE = 15.0


def problem(status: int, title: str, detail: str, **extra: Any) -> Response:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "request_id": "req-1", **extra}
    return JSONResponse(body, status, media_type="application/problem+json")


class WithPolicy:
    """The content security policy of the real service on every answer."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_header(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", CSP.encode())]
            await send(message)

        await self.app(scope, receive, with_header if scope["type"] == "http" else send)


class FakeApi:
    """One catalogue `shop` unless told otherwise; everything may be changed by the test while it runs."""

    def __init__(self) -> None:
        self.catalogues: dict[str, dict[str, Any]] = {"shop": {"target": {"alias": "shop-live"}, "held": False}}
        self.generations: list[dict[str, Any]] = []
        self.runs: dict[str, dict[str, Any]] = {}
        self.rejects: list[dict[str, Any]] = []
        self.hits: list[dict[str, Any]] = []
        self.changes: list[dict[str, Any]] = []
        self.traces: dict[str, dict[str, Any]] = {}
        self.maintenance: dict[str, Any] = {"read_only": False, "message": None}
        self.lines: list[dict[str, Any]] = []
        self.token: str | None = None
        self.refusals: dict[str, Response] = {}
        self.stream_status = 200
        self.tells_progress = True
        self.asked: list[tuple[str, str, Any, dict[str, str]]] = []
        self.port = 0
        self._moved = threading.Condition()
        self._bell = anyio.Event()
        self._hangups = 0
        self._extra: list[str] = []
        self._portal: BlockingPortal | None = None

    # --- what a test does with it ---

    def say(self, kind: str, data: dict[str, Any], run: str | None = None) -> None:
        """Add one line to the story and send it."""
        now = {"seq": len(self.lines) + 1, "at": "2026-01-05T03:00:00.000Z"}
        self.lines.append({**now, "kind": kind, "run": run, "data": data})
        self.ring()

    def send_event(self, event: str) -> None:
        """Send an event that is no line, to the streams that are open now."""
        self._extra.append(event)
        self.ring()

    def hang_up(self) -> None:
        """End every stream that is open now."""
        self._hangups += 1
        self.ring()

    def ring(self) -> None:
        if self._portal is not None:
            self._portal.call(self._ring)

    async def _ring(self) -> None:
        self._bell.set()
        self._bell = anyio.Event()

    def requests(self, method: str, path: str) -> list[tuple[Any, dict[str, str]]]:
        """Bodies and headers of what was asked so far at one address."""
        return [(body, headers) for how, where, body, headers in self.asked if (how, where) == (method, path)]

    def wait_for(self, true: Callable[[], Any]) -> None:
        """Wait until something is so; fails after the deadline."""
        assert self.met(true, DEADLINE), "it did not come to that"

    def met(self, true: Callable[[], Any], seconds: float) -> bool:
        """Whether something is so within that time."""
        with self._moved:
            return bool(self._moved.wait_for(true, seconds))

    # --- how it answers ---

    async def note(self, request: Request) -> Any:
        raw = await request.body()
        body = json.loads(raw) if raw else None
        with self._moved:
            self.asked.append((request.method, request.url.path, body, dict(request.headers)))
            self._moved.notify_all()
        return body

    def refusal(self, request: Request) -> Response | None:
        if self.token is not None and request.cookies.get("reshelve_session") != self.token:
            return problem(401, "Not authenticated", "A token is needed.", code="unauthorized")
        return self.refusals.get(f"{request.method} {request.url.path}")

    def view(self, name: str) -> dict[str, Any]:
        progress = {"progress": len(self.lines)} if self.tells_progress else {}
        switches = {"paused": False, "projection": "on", "lag": lag_view()}
        return {"name": name, **switches, **self.catalogues[name], **progress}

    async def answer(self, request: Request) -> Response:
        """Everything but streams and sessions."""
        body = await self.note(request)
        if refused := self.refusal(request):
            return refused
        path = request.url.path.removeprefix("/api/v1")
        match [request.method, *path.strip("/").split("/")]:
            case ["GET", "catalogues"]:
                return listed([self.view(name) for name in self.catalogues])
            case ["GET", "catalogues", name]:
                return JSONResponse(self.view(name))
            case ["GET", "catalogues", _, *what]:
                return self.of_catalogue(what)
            case ["GET", "runs"]:
                return listed([*self.runs.values()][::-1])
            case ["GET", "runs", id_]:
                return JSONResponse(self.runs[id_])
            case ["GET", "runs", _, "rejects"]:
                return self.rejects_page(int(request.query_params.get("cursor", 0)))
            case ["POST", "catalogues", name, "search"]:
                return self.found(name, body["mode"])
            case ["POST", *act]:
                return self.act(act, body)
        return problem(404, "Not found", "There is no such thing.")

    def of_catalogue(self, what: list[str]) -> Response:
        match what:
            case ["generations"]:
                return listed(self.generations)
            case ["changes"]:
                return listed(self.changes)
            case ["products", *parts] if trace := self.traces.get("/".join(parts)):
                return JSONResponse(trace)
        return problem(404, "Not found", "There is no such thing.")

    def found(self, name: str, mode: str) -> Response:
        answer = {"hits": self.hits, "mode": mode, "generation": "g", "degraded": False}
        if self.view(name)["projection"] == "off":
            answer |= {"hits": [], "generation": None, "projection": "off"}
        return JSONResponse(answer)

    def rejects_page(self, start: int) -> Response:
        end = start + 50
        return listed(self.rejects[start:end], str(end) if end < len(self.rejects) else None)

    def act(self, act: list[str], body: Any) -> Response:
        match act:
            case ["sync"] if body.get("dry_run"):
                plan = plan_view()
                self.runs["run-9"] = run_view("run-9", state="ready", dry_run=True, strategy="incremental", plan=plan)
                return JSONResponse(plan)
            case ["sync"]:
                strategy = "full" if body["strategy"] == "full" else "incremental"
                self.runs["run-9"] = run_view("run-9", state="queued", strategy=strategy)
                return JSONResponse(self.runs["run-9"], 202)
            case ["runs", id_, "approve"]:
                told = {"state": "queued", "approves": id_, "ceiling": body["deletions"], "trigger": "approval"}
                self.runs["run-9"] = run_view("run-9", **told)
                return JSONResponse(self.runs["run-9"], 202)
            case ["runs", id_, "cancel"]:
                self.runs[id_] = {**self.runs[id_], "state": "canceled"}
                return JSONResponse(self.runs[id_], 202)
            case ["catalogues", name, "rollback"]:
                self.catalogues[name].update(held=True, held_reason="rolled back by night-shift")
                self.roll_back(body["to"])
                return JSONResponse({"from": "g", "to": body["to"], "stale_since": None})
            case ["catalogues", name, "release"]:
                self.catalogues[name].update(held=False, held_reason=None)
                return JSONResponse(self.view(name))
        return problem(404, "Not found", "There is no such thing.")

    def roll_back(self, to: str) -> None:
        for generation in self.generations:
            if generation["state"] == "live":
                generation["state"] = "retired"
            if generation["id"] == to:
                generation["state"] = "live"

    async def session(self, request: Request) -> Response:
        body = await self.note(request)
        if body.get("token") != self.token:
            return problem(401, "Not authenticated", "This token is not known.", code="unauthorized")
        answer = Response(status_code=204)
        answer.set_cookie("reshelve_session", body["token"], httponly=True, samesite="strict")
        return answer

    async def mode(self, request: Request) -> Response:
        await self.note(request)
        return self.refusal(request) or JSONResponse(self.maintenance)

    async def version(self, request: Request) -> Response:
        return JSONResponse({"version": "0.1.0"})

    async def stream(self, request: Request) -> Response:
        await self.note(request)
        if self.stream_status != 200:
            return problem(self.stream_status, "Bad gateway", "Nobody there.")
        if refused := self.refusal(request):
            return refused
        after = request.headers.get("last-event-id") or request.query_params.get("after") or "0"
        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(self.events(int(after)), media_type="text/event-stream", headers=headers)

    async def events(self, after: int) -> AsyncIterator[str]:
        hangups, extras = self._hangups, len(self._extra)
        yield "retry: 100\n: hello\n\n"
        while hangups == self._hangups:
            bell = self._bell
            while after < len(self.lines):
                yield f"id: {after + 1}\ndata: {json.dumps(self.lines[after])}\n\n"
                after += 1
            while extras < len(self._extra):
                yield f"event: {self._extra[extras]}\ndata: {{}}\n\n"
                extras += 1
            await bell.wait()

    def app(self) -> Starlette:
        routes = [
            Route("/api/version", self.version),
            Route("/api/v1/session", self.session, methods=["POST"]),
            Route("/api/v1/maintenance", self.mode),
            Route("/api/v1/catalogues/{name}/stream", self.stream),
            Route("/api/v1/{rest:path}", self.answer, methods=["GET", "POST"]),
            Mount("/", StaticFiles(directory=WEB, html=True)),
        ]
        return Starlette(routes=routes, middleware=[Middleware(WithPolicy)])

    @contextmanager
    def up(self) -> Iterator[str]:
        """Serve on a loopback port, the same one each time; the address."""
        options = {"log_config": None, "ws": "none", "timeout_graceful_shutdown": 1}
        server = uvicorn.Server(uvicorn.Config(self.app(), port=self.port, **options))
        with start_blocking_portal() as portal:
            served = portal.start_task_soon(server.serve)
            deadline = time.monotonic() + DEADLINE
            while not server.started:
                assert time.monotonic() < deadline
                assert not served.done()
                portal.call(anyio.lowlevel.checkpoint)
            self.port = server.servers[0].sockets[0].getsockname()[1]
            self._portal = portal
            try:
                yield f"http://127.0.0.1:{self.port}/"
            finally:
                self.hang_up()
                self._portal = None
                server.should_exit = True
                served.result(DEADLINE)


def listed(items: list[Any], cursor: str | None = None) -> Response:
    return JSONResponse({"items": items, "next_cursor": cursor})


# --- what it holds ---------------------------------------------------------------------------------------------------


def figures(seconds: float, documents: int = 0, size: int = 0) -> dict[str, Any]:
    errors = {"engine": 0, "embedder": 0, "data": 0}
    return {"seconds": seconds, "documents": documents, "bytes": size, "retries": 0, "errors": errors}


def run_view(id_: str, **changes: Any) -> dict[str, Any]:
    """A run as the API shows it."""
    view = {
        "id": id_, "catalogue": "shop", "strategy": "full", "state": "running", "stage": None, "trigger": "api",
        "reason": None, "requested_by": "local", "requested_at": "2026-01-05T02:58:00.000Z", "started_at": None,
        "finished_at": None, "dry_run": False, "counts": {}, "verdict": None, "stages": [], "error": None,
        "plan": None, "withheld": None, "cost": {"tokens": None, "usd": None}, "ceiling": None, "approves": None,
    }  # fmt: skip
    return {**view, **changes}


def lag_view(**changes: Any) -> dict[str, Any]:
    """How far events are behind, as the API shows it: not at all, unless told otherwise."""
    counts = dict.fromkeys(("pending", "due", "processing", "stuck", "failed", "withheld"), 0)
    return {**counts, "oldest_seconds": None, **changes}


def plan_view(**changes: Any) -> dict[str, Any]:
    """A plan as the API shows it."""
    counts = {"source": 5000, "added": 12, "modified": 30, "deleted": 3, "unchanged": 4938, "excluded": 17}
    view = {
        "strategy": "incremental", "why": "Builds on the live generation.", "recipe": "r", "findings": [],
        "counts": {name: counts.get(name) for name in COUNTS}, "texts_to_embed": 40, "tokens": 1600, "usd": 0.0032,
        "bytes": 123_456, "seconds": 12.5, "withheld": [],
    }  # fmt: skip
    return {**view, **changes}


def change_view(product: str, kind: str, *fields: str) -> dict[str, Any]:
    """A line of the change log as the API shows it."""
    at = "2026-01-05T03:00:00.000Z"
    return {"product_id": product, "kind": kind, "fields": list(fields), "run": "run-1", "at": at}


def trace_view(product: str, code: str, detail: str) -> dict[str, Any]:
    """The trace of a product that one generation holds in an old form."""
    copy = {
        "generation": "g5", "index": "shop-20260105030000", "state": "live", "origin": "own", "index_missing": False,
        "present": True, "version": 1767582000123, "embed_model_alias": "wordllama", "has_vector": True,
        "equals_source": False, "differs": ["price"],
    }  # fmt: skip
    source = {"index": "magento", "found": True, "content": {}, "document": {}, "reject": None, "trouble": None}
    return {
        "catalogue": "shop", "product_id": product, "why": {"code": code, "detail": detail}, "source": source,
        "generations": [copy], "last_change": change_view(product, "modified", "price"), "last_reject": None,
    }  # fmt: skip


def generation_view(number: int, state: str, **changes: Any) -> dict[str, Any]:
    """A generation as the API shows it."""
    day = f"2026-01-{number:02d}"
    view = {
        "id": f"g{number}", "index": f"shop-{day.replace('-', '')}030000", "state": state, "origin": "own",
        "documents": 2000 + number, "embedder": {"name": "local", "model": "wordllama", "dims": 256},
        "created_at": f"{day}T03:00:00.000Z",
        "live_since": f"{day}T03:01:00.000Z", "retired_at": None, "fed": state == "live", "stale_since": None,
    }  # fmt: skip
    return {**view, **changes}


def counts_line(read: int, of: int, **counts: int) -> dict[str, Any]:
    """The data of a `counts` line while a run is filling."""
    left_out = counts.get("excluded", 0) + counts.get("rejected", 0)
    known = {"source": of, "read": read, "embedded": read, "loaded": read - left_out, **counts}
    steps = {"read": figures(1.5, read, 900 * read), "embed": figures(4.25, read)}
    planning = {"stage": "planning", **figures(0.4), "steps": {}}
    filling = {"stage": "filling", **figures(6.5, read), "steps": steps}
    return {
        "counts": {name: known.get(name) for name in COUNTS}, "stages": [planning, filling], "tokens": 0,
        "rate": 1234.5, "remaining": 42.0, "documents": read, "of": of,
    }  # fmt: skip
