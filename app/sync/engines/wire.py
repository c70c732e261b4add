"""One request to an engine: ready bytes out, decoded JSON in, errors as `app.errors`.

        engine ─▶ Wire.ask(Ask) ─▶ Carrier.send (a product's own client) ─▶ status, bytes ─▶ Reply

A carrier does one HTTP request with a bound in time and nothing else: no retry, no decoding, no judgement of the
status. Everything above it is the same for both products.
"""

import base64
import json
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlencode, urlsplit

import orjson
from anyio import to_thread

from app.config import EngineSettings
from app.errors import EngineError, EngineUnavailable
from app.sync.engines.failures import Failure, failure, problem

SECONDS = 30.0
"""How long an ordinary request may take."""

LARGE = 2**20
"""Bytes from which an answer is decoded in a thread, and a body is handed to the client in pieces."""

PIECE = 2**18
"""Bytes of one piece of a large body: the loop turns between two of them."""

JSON = "application/json"
NDJSON = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Address:
    """Where an engine is and how to ask it. `url` carries no credentials and may be shown; `headers` may not."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    ca_certs: Path | None = None

    @classmethod
    def of(cls, settings: EngineSettings) -> "Address":
        """Take the credentials of *settings*, or those written into its URL."""
        parts = urlsplit(settings.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EngineError("The engine's URL must look like https://host:9200.", code="engine_url")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = parts.port or (443 if parts.scheme == "https" else 80)
        url = f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"
        username = settings.username or unquote(parts.username or "")
        password = settings.password.get_secret_value() if settings.password else unquote(parts.password or "")
        key = settings.api_key.get_secret_value() if settings.api_key else ""
        return cls(url, _authorization(username, password, key), settings.ca_certs)


def _authorization(username: str, password: str, key: str) -> dict[str, str]:
    if key:
        return {"authorization": f"ApiKey {key}"}
    if username:
        pair = base64.b64encode(f"{username}:{password}".encode()).decode()
        return {"authorization": f"Basic {pair}"}
    return {}


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: *what* it is for, in words that fit "would not ..."; bytes in *body* go out as they are."""

    what: str
    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    seconds: float = SECONDS


@dataclass(frozen=True, slots=True)
class Reply:
    """A decoded answer; `size` is its bytes on the wire."""

    status: int
    body: Any
    size: int

    @property
    def failure(self) -> Failure:
        """What the engine says went wrong."""
        return failure(self.status, self.body)


@dataclass(frozen=True, slots=True)
class Request:
    """An `Ask` made ready: *body* is bytes, an iterator of bytes, or None."""

    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    seconds: float

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{urlencode(self.params)}" if self.params else self.path


class Carrier(Protocol):
    """What a product's client does for us. Raises `EngineUnavailable`, or `EngineError` when TLS is not trusted."""

    async def send(self, request: Request) -> tuple[int, bytes]:
        """Send one request; status and bytes of the answer."""

    async def close(self) -> None:
        """Close its connections."""


class Wire:
    """The way to one engine. `name` is how messages call it: product and address."""

    def __init__(self, carrier: Carrier, name: str) -> None:
        self.name = name
        self._carrier = carrier

    async def ask(self, ask: Ask, allow: Collection[int] = ()) -> Reply:
        """The answer, when its status is 2xx or one of *allow*; else the problem it stands for."""
        headers, body = _outgoing(ask.body)
        request = Request(ask.method, ask.path, ask.params, headers, body, ask.seconds)
        status, raw = await self._carrier.send(request)
        reply = Reply(status, await self._decoded(raw, ask), len(raw))
        if 200 <= status < 300 or status in allow:
            return reply
        raise problem(reply.failure, self.name, ask.what)

    async def _decoded(self, raw: bytes, ask: Ask) -> Any:
        try:
            if len(raw) > LARGE:
                return await to_thread.run_sync(decoded, raw)
            return decoded(raw) if raw else {}
        except ValueError:
            if raw[:1] in (b"{", b"["):
                raise EngineUnavailable(f"{self.name} was asked to {ask.what}; its answer broke off.") from None
            return {"error": raw[:300].decode(errors="replace")}

    async def close(self) -> None:
        """Close the connections."""
        await self._carrier.close()


def _outgoing(body: Any) -> tuple[dict[str, str], Any]:
    if body is None:
        return {"accept": JSON}, None
    kind = NDJSON if isinstance(body, bytes) else JSON
    ready = body if isinstance(body, bytes) else orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = {"accept": JSON, "content-type": kind}
    if len(ready) <= LARGE:
        return headers, ready
    return headers | {"content-length": str(len(ready))}, pieces(ready)


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    """*body* piece by piece, so that sending a large one never holds the loop."""
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]


def decoded(raw: bytes) -> Any:
    """What an answer says, also when a document in it holds what engines store and strict parsers refuse.

    Half a surrogate pair above all: whoever prepares that one document leaves it out, and its neighbours are read.
    Raises `ValueError` for what is no JSON, or not all of it.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return json.loads(raw.decode(errors="replace"))


def part(name: str) -> str:
    """One name as a part of a path."""
    return quote(name, safe="")


def one_name(name: str) -> str:
    """*name* as a part of a path, when it can mean one index or alias only. Raises `EngineError` for a pattern."""
    if not name or name[0] in "_-+<" or any(character in '*,?"<>|\\/ #:' for character in name):
        raise EngineError(f"{name[:80]!r} is a pattern or not an index name.", code="index_name")
    return part(name)


def unreachable(name: str, why: str) -> EngineUnavailable:
    """What a carrier raises when no answer came."""
    return EngineUnavailable(f"{name} did not answer: {why or 'the connection broke'}.")


def untrusted(name: str, why: str) -> EngineError:
    """What a carrier raises when TLS fails: another try is of no use."""
    detail = f"{name} presents a certificate that is not trusted ({why[:200]}): set CA_CERTS of this engine to its CA."
    return EngineError(detail, code="engine_tls")
