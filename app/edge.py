"""The outermost layer of HTTP, pure ASGI: what holds for every request and every answer, whatever the route.

    Edge:   request id, log line, security headers, last-resort 500       (outermost)
      |     metrics
    Gate:   origin, size, media type and JSON of the body                 (before routing)
      |     routes

*Edge* gives each request an id: the caller's `X-Request-ID` when it is a sane one, else a new one; logs and problem
documents carry it and every answer repeats it. What no handler expected ends here: logged with its stack, answered as
a problem document that holds the id only. After an answer has begun nothing can be said any more: it breaks off.

*Gate* refuses before anything is done: other hosts and sites (see `auth`), bodies that are too large (also chunked
ones), too slow, no JSON, or JSON that would hurt later: NaN, numbers beyond a double, unpaired surrogates, deep
nesting. It reads a body whole, within its bounds, and hands it on. Answers pass through both unbuffered, so streams do.
"""

import re
import time
from collections.abc import Container, Mapping
from typing import Any, Literal
from uuid import uuid4

import anyio
import orjson
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import logs
from app.auth import READING, check_origin
from app.errors import Malformed, Problem, TooLarge, TooSlow, WrongMedia
from app.routers import problems

BODY_BYTES = 1_000_000
"""No order, declaration or query needs more; catalogues come from the source, not through here."""

BODY_SECONDS = 30.0
"""How long a body may take to arrive."""

DEPTH = 64
"""Levels of arrays and objects in a body; the deepest shape of ours has seven."""

SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+/=-]{0,127}")

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""On every answer that does not set them itself. The page needs no more than its own scripts, styles and API."""

log = structlog.get_logger("reshelve.http")


# --- every request ---------------------------------------------------------------------------------------------------


class Edge:
    """Request id, log line, headers, last resort. Successes of *quiet* paths are logged at debug only."""

    def __init__(self, app: ASGIApp, quiet: Container[str] = ()) -> None:
        self.app, self.quiet = app, quiet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wrap one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(scope, send)
        with logs.bound(request_id=exchange.request_id):
            try:
                await self.app(scope, receive, exchange.send)
            except Exception:
                await self._last_resort(exchange, receive)
            finally:
                exchange.log(quiet=scope["path"] in self.quiet)

    async def _last_resort(self, exchange: "Exchange", receive: Receive) -> None:
        log.exception("unexpected", method=exchange.scope["method"], path=exchange.path)
        if exchange.status is None:
            await problems.unexpected(exchange.request_id)(exchange.scope, receive, exchange.send)


class Exchange:
    """One request and what has been answered to it so far."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope, self._send = scope, send
        self.request_id = request_id_for(Headers(scope=scope).get("x-request-id"))
        self.status: int | None = None
        self.bytes = 0
        self._began = time.monotonic()
        scope.setdefault("state", {})["request_id"] = self.request_id

    @property
    def path(self) -> str:
        """Without its query, which may hold what should not be logged."""
        return str(self.scope["path"])[:300]

    async def send(self, message: Message) -> None:
        """Add the headers, remember what goes out."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._add_headers(message)
        elif message["type"] == "http.response.body":
            self.bytes += len(message.get("body", b""))
        await self._send(message)

    def _add_headers(self, message: Message) -> None:
        headers = MutableHeaders(scope=message)
        headers["X-Request-ID"] = self.request_id
        for name, value in HEADERS.items():
            headers.setdefault(name, value)

    def log(self, *, quiet: bool) -> None:
        """One line, when it is over."""
        say = log.debug if quiet and (self.status or 500) < 400 else log.info
        say(
            "request",
            method=self.scope["method"],
            path=self.path,
            status=self.status,
            seconds=round(time.monotonic() - self._began, 4),
            bytes=self.bytes,
            client=(self.scope.get("client") or ("",))[0],
            who=self.scope["state"].get("who"),
        )


def request_id_for(given: str | None) -> str:
    """The caller's own id when it cannot do harm in a log, else a new one."""
    return given if given and SANE_ID.fullmatch(given) else uuid4().hex


# --- before routing --------------------------------------------------------------------------------------------------


class Gate:
    """Refuses what no route should see. *is_open* holds the paths that other sites' pages may ask for."""

    def __init__(
        self,
        app: ASGIApp,
        mode: Literal["loopback", "token", "jwt"],
        is_open: Container[str],
        seconds: float = BODY_SECONDS,
    ) -> None:
        self.app, self.mode, self.is_open, self.seconds = app, mode, is_open, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, with its body read and checked, or answer why not."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            check_origin(scope, self.mode, scope["path"] in self.is_open)
            body = await checked_body(scope, receive, self.seconds)
        except Problem as problem:
            await problems.answer(problem, scope["state"]["request_id"])(scope, receive, send)
            return
        except Gone:
            return
        await self.app(scope, receive if body is None else replayed(body, receive), send)


class Gone(Exception):
    """The caller hung up while sending: nobody waits for an answer. Never leaves this module."""


async def checked_body(scope: Scope, receive: Receive, seconds: float) -> bytes | None:
    """The body of a request that may have one, None for the others. Raises a `Problem`, or `Gone`."""
    if scope["method"] in READING:
        return None
    headers = Headers(scope=scope)
    if declared_size(headers) > BODY_BYTES:
        raise _too_large()
    try:
        with anyio.fail_after(seconds):
            body = await whole_body(receive)
    except TimeoutError:
        raise TooSlow(f"The body did not arrive within {seconds:g} seconds.") from None
    if body:
        check_json(headers.get("content-type", ""), body)
    return body


def declared_size(headers: Headers) -> int:
    """What `Content-Length` says; 0 without one."""
    size = headers.get("content-length", "0")
    if not (size.isascii() and size.isdigit() and len(size) < 20):
        raise Malformed("Content-Length must be a number.")
    return int(size)


async def whole_body(receive: Receive) -> bytes:
    """Everything that arrives, up to the limit: what a chunked body holds is known only now."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        body += message.get("body", b"")
        if len(body) > BODY_BYTES:
            raise _too_large()
        if not message.get("more_body", False):
            return bytes(body)


def _too_large() -> TooLarge:
    return TooLarge(f"The body is larger than {BODY_BYTES:,} bytes.")


def check_json(content_type: str, body: bytes) -> None:
    """Raise `WrongMedia` or `Malformed` unless *body* is JSON that every layer behind can hold."""
    media = content_type.partition(";")[0].strip().lower()
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        raise WrongMedia
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"The body is no valid JSON: {_why(error)}.", code="bad_json") from None
    if deeper_than(DEPTH, value):
        raise Malformed(f"The body nests deeper than {DEPTH} levels.", code="bad_json")


def _why(error: orjson.JSONDecodeError) -> str:
    """The reason without the input."""
    return str(error).partition(": line ")[0] + f" at line {error.lineno}, column {error.colno}"


def deeper_than(levels: int, value: Any) -> bool:
    """Whether arrays and objects of *value* nest deeper than *levels*. Level by level, so depth costs no stack."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [inner for outer in layer for inner in _inside(outer)]
        if not layer:
            return False
    return True


def _inside(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives *body* once, then what comes after it (the caller hanging up)."""
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return whole.pop() if whole else await receive()

    return again
