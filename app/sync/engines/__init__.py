"""Engines: one port, spoken to Elasticsearch and OpenSearch, and a twin in memory.

`wire` sends and decodes, `failures` judges refusals, `bulk` and `shapes` say what is sent; `reading`, `columns`,
`proving`, `asking`, `cloning` and `writing` are the port over them, the same for both products, and `store` keeps
vectors in an index of its own. `elasticsearch` and `opensearch` hold what differs and are the only places that import
their clients. `memory` is the twin.
"""

import ssl
from collections.abc import Mapping
from typing import Any

import httpx

from app.config import EngineSettings
from app.errors import EngineError
from app.sync.engine_port import Engine
from app.sync.engines import elasticsearch, opensearch
from app.sync.engines.dialect import Dialect
from app.sync.engines.failures import failure, problem
from app.sync.engines.wire import Address, Carrier, Wire, unreachable, untrusted
from app.sync.engines.writing import Writing

OLDEST = {"elasticsearch": 8, "opensearch": 2}
"""Major versions that are known to work; before, points in time or vectors are not what we need."""

SECONDS = 10.0


async def open_engine(settings: EngineSettings) -> Engine:
    """Ask the server at `settings.url` what it is and open it.

    Raises `EngineUnavailable` when it does not answer, `EngineError` when it refuses us or is none we support.
    """
    address = Address.of(settings)
    kind, version = await _introduced(address)
    if int(version.split(".")[0]) < OLDEST[kind]:
        detail = f"{address.url} is {kind} {version}: {kind} {OLDEST[kind]} or later is needed."
        raise EngineError(detail, code="engine_version")
    carrier: Carrier
    dialect: Dialect
    if kind == "elasticsearch":
        name = f"Elasticsearch at {address.url}"
        carrier, dialect = elasticsearch.Carrier(address, name), elasticsearch.Elasticsearch()
    else:
        name = f"OpenSearch at {address.url}"
        carrier, dialect = opensearch.Carrier(address, name), opensearch.OpenSearch()
    return Writing(Wire(carrier, name), dialect, version, settings.vectors)


async def _introduced(address: Address) -> tuple[str, str]:
    """Kind and version. Some builds do not answer `GET /`, so their nodes are asked."""
    trust = _trust(address)
    headers = dict(address.headers)
    async with httpx.AsyncClient(headers=headers, verify=trust, timeout=SECONDS, trust_env=False) as client:
        root = await _asked(client, address, "/")
        elastic = root.headers.get("x-elastic-product") == "Elasticsearch"
        version = _body(root).get("version")
        if elastic and not isinstance(version, dict):
            nodes = await _asked(client, address, "/_nodes/_local?filter_path=nodes.*.version")
            _permitted(nodes, address)
            version = {"number": next(iter(_body(nodes)["nodes"].values()))["version"]}
    if elastic and isinstance(version, dict):
        return "elasticsearch", str(version["number"])
    _permitted(root, address)
    if isinstance(version, dict) and version.get("distribution") == "opensearch":
        return "opensearch", str(version["number"])
    detail = f"{address.url} answers, but is neither Elasticsearch nor OpenSearch: check the engine's URL."
    raise EngineError(detail, code="engine_unknown")


def _trust(address: Address) -> ssl.SSLContext | bool:
    """What an engine's certificate is judged by. Over plain HTTP there is none, and a trust store takes 30 ms to read;
    CA_CERTS that are named are read in any case, so that a wrong path is told."""
    if address.ca_certs is None and not address.url.startswith("https:"):
        return False
    try:
        return ssl.create_default_context(cafile=str(address.ca_certs) if address.ca_certs else None)
    except (OSError, ssl.SSLError) as error:
        raise EngineError(f"CA_CERTS of {address.url} cannot be read: {error}.", code="engine_tls") from None


async def _asked(client: httpx.AsyncClient, address: Address, path: str) -> httpx.Response:
    try:
        return await client.get(address.url + path)
    except httpx.ConnectError as error:
        if "CERTIFICATE" in str(error).upper() or "SSL" in str(error):
            raise untrusted(address.url, str(error)) from None
        raise unreachable(address.url, str(error)) from None
    except httpx.HTTPError as error:
        raise unreachable(address.url, str(error) or type(error).__name__) from None


def _permitted(answer: httpx.Response, address: Address) -> None:
    """Raise what a refusal stands for."""
    if answer.status_code in (401, 403, 429, 502, 503, 504):
        raise problem(failure(answer.status_code, _body(answer)), address.url, "say what it is")


def _body(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {"error": answer.text[:300]}
