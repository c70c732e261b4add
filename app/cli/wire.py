"""The one HTTP client of all verbs, and where it connects to (see the package's own words)."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from app import errors
from app.cli.files import require_folder
from app.config import LOOPBACK, Settings, load_settings
from app.errors import Invalid, Problem, Unavailable

API = "/api/v1"

ANSWER_SECONDS = 60.0
"""Longer than the longest answer of the service (a dry run's 30 s)."""

KNOCK = httpx.Timeout(10, connect=1)
"""How long the default address may take to say that it is there; it asks its engines before it answers."""

PAGE = 200

RETRY_AFTER = "retry-after"


class Api:
    """The API, wherever it runs. Every method raises `Problem`: what the service said, or `Unavailable`."""

    def __init__(self, client: httpx.AsyncClient, *, own: bool = False) -> None:
        self._client, self.own = client, own

    @property
    def where(self) -> str:
        """For people."""
        return "this process" if self.own else str(self._client.base_url).rstrip("/")

    async def get(self, path: str, **params: Any) -> Any:
        """One thing."""
        return await self._call("GET", path, params={key: value for key, value in params.items() if value is not None})

    async def post(self, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """An act."""
        return await self._call("POST", path, json={} if body is None else body, headers=headers)

    async def put(self, path: str, body: Any) -> Any:
        """A declaration."""
        return await self._call("PUT", path, json=body)

    async def patch(self, path: str, body: Any) -> Any:
        """A switch."""
        return await self._call("PATCH", path, json=body)

    async def delete(self, path: str, **params: Any) -> Any:
        """Forget something."""
        return await self._call("DELETE", path, params=params)

    async def listed(self, path: str, limit: int, **params: Any) -> list[dict[str, Any]]:
        """The first *limit* items of a list, over as many pages as that takes."""
        items: list[dict[str, Any]] = []
        cursor = None
        while len(items) < limit:
            page = await self.get(path, limit=min(PAGE, limit - len(items)), cursor=cursor, **params)
            items += page["items"]
            cursor = page.get("next_cursor")
            if cursor is None:
                break
        return items

    async def _call(self, method: str, path: str, **options: Any) -> Any:
        prefix = "" if path.startswith(("/api", "/healthz", "/readyz")) else API
        try:
            response = await self._client.request(method, prefix + path, **options)
        except httpx.TransportError as error:
            what = f"{self.where} does not answer ({_why(error)})"
            raise Unavailable(f"{what}: is `reshelve serve` running there?") from error
        if response.is_success:
            return _json(response)
        raise problem_of(response)


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__


def _json(response: httpx.Response) -> Any:
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError:
        raise Unavailable(f"{response.url.host} answered with something that is no JSON: is that a Reshelve?") from None


_CLASSES: Mapping[int, type[Problem]] = {
    400: errors.Malformed,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.TooLarge,
    422: errors.Invalid,
    429: errors.TooMuch,
    502: errors.EngineError,
    503: errors.Unavailable,
}

_MEMBERS = frozenset({"type", "title", "status", "detail", "code", "errors"})


def problem_of(response: httpx.Response) -> Problem:
    """The error that an answer is, as the class it left the service as; `Retry-After` stays with it."""
    try:
        body = response.json()
        members = {key: value for key, value in body.items() if key not in _MEMBERS}
    except (ValueError, AttributeError):
        return Unavailable(f"{response.url.host} answered {response.status_code} and no reason: is that a Reshelve?")
    made = _CLASSES.get(response.status_code, Problem)
    problem = made(str(body.get("detail", "")), code=body.get("code"), errors=body.get("errors") or (), **members)
    problem.headers = {name: value for name, value in response.headers.items() if name == RETRY_AFTER}
    return problem


# --- where to --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def connected(url: str | None, token: str | None) -> AsyncIterator[Api]:
    """The API at *url*; without one, at this machine's own port, else in this process."""
    if url:
        async with _client(url, token) as client:
            yield Api(client)
        return
    settings = load_settings()
    here = f"http://127.0.0.1:{settings.port}"
    if await _answers(here):
        async with _client(here, token) as client:
            yield Api(client)
        return
    async with _own(settings, token) as client:
        yield Api(client, own=True)


def _client(url: str, token: str | None, **options: Any) -> httpx.AsyncClient:
    """Proxies of the environment are not asked for an address on this machine. Raises `Invalid` for no address."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        there = httpx.URL(url)
    except httpx.InvalidURL:
        there = httpx.URL("")
    if there.scheme not in ("http", "https") or not there.host:
        raise Invalid(f"{url!r} is no address of a service: write it like http://127.0.0.1:8000.")
    trust = there.host not in LOOPBACK
    return httpx.AsyncClient(base_url=there, headers=headers, timeout=ANSWER_SECONDS, trust_env=trust, **options)


async def _answers(url: str) -> bool:
    """Whether a Reshelve listens there; something else on that port is none of ours."""
    try:
        async with _client(url, None) as client:
            answer = await client.get("/api/version", timeout=KNOCK)
            return answer.is_success and "version" in answer.json()
    except (httpx.TransportError, ValueError, TypeError):
        return False


@asynccontextmanager
async def _own(settings: Settings, token: str | None) -> AsyncIterator[httpx.AsyncClient]:
    """The app in this process, started and stopped around the block; loaded only when it is needed.

    What a verb raises is kept from the app's lifespan, which would take it for a failure of its own and not end well.
    """
    from app import logs
    from app.main import create_app

    require_folder(settings)
    logs.configure("CRITICAL")
    app = create_app(settings)
    transport = httpx.ASGITransport(app=app)
    trouble: Problem | None = None
    async with app.router.lifespan_context(app), _client("http://127.0.0.1", token, transport=transport) as client:
        try:
            yield client
        except Problem as problem:
            trouble = problem
    if trouble is not None:
        raise trouble
