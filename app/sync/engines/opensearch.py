"""What only OpenSearch has: its client, its way of points in time, vectors and nearest neighbours.

The client is used at its connection: its transport throws the status of an answer away. Three of its habits are put
aside: warnings raised for deprecation headers, a traceback in the log for each refused connection (the problem that
is raised says it), and answers decoded to text before they are decoded to JSON.

Vectors are kept by the `lucene` engine, the only one whose graphs need no native library, and without derived source:
with it (the default of 3.x), 3.4 and 3.5 leave an index unreadable after a scroll on it is cleared.
"""

import asyncio
import math
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

import aiohttp
from opensearchpy import AIOHttpConnection
from opensearchpy.exceptions import ConnectionError as NoConnection
from opensearchpy.exceptions import ConnectionTimeout, SSLError, TransportError

from app.errors import EngineError
from app.sync.engines.shapes import VECTOR
from app.sync.engines.wire import Address, Ask, Request, part, unreachable, untrusted
from app.sync.words import Shape, Slice

CONNECTIONS = 32
"""Per engine; what is in flight at once is bounded elsewhere, by the limits that all runs share."""

ALL = range(100, 600)
"""Statuses that are an answer and no exception."""

SPACES = {"cosine": "cosinesimil", "dot_product": "innerproduct", "l2_norm": "l2"}
ENCODERS: Mapping[str, Mapping[str, Any]] = {"hnsw": {}, "int8_hnsw": {"encoder": {"name": "sq"}}}
DERIVED = "index.knn.derived_source.enabled"


class RawResponse(aiohttp.ClientResponse):
    """An answer whose text is its bytes."""

    async def text(self, *_args: Any, **_kwargs: Any) -> Any:
        """Leave the answer as it came."""
        return await self.read()


class Connection(AIOHttpConnection):
    """The client's own connection pool, quiet."""

    def log_request_fail(self, *_args: Any, **_kwargs: Any) -> None:
        """Said by the problem that is raised."""

    def _raise_warnings(self, _warning_headers: Any) -> None:
        return

    async def _create_aiohttp_session(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.session = aiohttp.ClientSession(
            headers=self.headers,
            skip_auto_headers=("accept", "accept-encoding"),
            cookie_jar=aiohttp.DummyCookieJar(),
            response_class=RawResponse,
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=self._ssl_context or True),
        )


class Carrier:
    """The OpenSearch client as a carrier of ready requests: no retry, every call bounded in time."""

    def __init__(self, address: Address, name: str) -> None:
        self._name = name
        url = urlsplit(address.url)
        self._connection = Connection(
            host=url.hostname or "",
            port=url.port,
            url_prefix=url.path.strip("/"),
            use_ssl=url.scheme == "https",
            headers=dict(address.headers),
            ca_certs=str(address.ca_certs) if address.ca_certs else None,
        )

    async def send(self, request: Request) -> tuple[int, bytes]:
        """Send one request; status and bytes of the answer."""
        try:
            status, _, raw = await self._connection.perform_request(
                request.method,
                request.path,
                request.params,
                request.body,
                timeout=request.seconds,
                ignore=ALL,
                headers=request.headers,
            )
        except ConnectionTimeout:
            raise unreachable(self._name, f"no answer within {request.seconds:g} s") from None
        except (NoConnection, TransportError) as error:
            raise self._broken(error) from None
        return status, raw

    def _broken(self, error: Any) -> EngineError:
        cause = error.info
        if isinstance(error, SSLError) or isinstance(cause, ssl.SSLError | aiohttp.ClientSSLError):
            return untrusted(self._name, str(cause))
        return unreachable(self._name, str(error.error)[:300])

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()


class OpenSearch:
    """The dialect of OpenSearch 2 and 3. What a version does not know is learnt from its refusal, once."""

    kind: Literal["opensearch"] = "opensearch"
    packs = False

    def __init__(self) -> None:
        self._shard_doc = True
        self._derived = True

    def open_pit(self, index: str, keep_alive: int) -> Ask:
        """Partial points in time are the default here, so they are refused in so many words."""
        params = {"keep_alive": f"{keep_alive}s", "allow_partial_pit_creation": "false"}
        return Ask(f"open a point in time on {index}", "POST", f"/{part(index)}/_search/point_in_time", params)

    def pit_id(self, body: Mapping[str, Any]) -> str:
        """Its id."""
        return str(body["pit_id"])

    def close_pit(self, own: str) -> Ask:
        """Close it."""
        return Ask("close a point in time", "DELETE", "/_search/point_in_time", body={"pit_id": [own]})

    def slices(self, part: Slice, primaries: int, /) -> Sequence[Slice]:
        """Each slice within one shard: `_doc` over several shards silently loses documents.

        The engine cuts a multiple of the primaries along the shards; a part takes every `part.of`-th of them.
        """
        whole = math.lcm(part.of, primaries)
        return [Slice(number, whole) for number in range(part.number, whole, part.of)]

    def sort(self) -> str:
        """Known from 3.3 on; before, the order within a shard."""
        return "_shard_doc" if self._shard_doc else "_doc"

    def unsorted(self, reason: str, /) -> bool:
        """Learn that this version does not know it; requests of other slices may have asked by it already."""
        if "_shard_doc" not in reason:
            return False
        self._shard_doc = False
        return True

    def vector(self, shape: Shape) -> Mapping[str, Any]:
        """A vector with a graph by Lucene."""
        encoder = ENCODERS.get(shape.vector_index or "hnsw")
        if encoder is None:
            known = ", ".join(sorted(ENCODERS))
            detail = f"OpenSearch's lucene engine has no vector index {shape.vector_index!r}: use {known} or null."
            raise EngineError(detail, code="vector_index_unknown")
        method: dict[str, Any] = {"name": "hnsw", "engine": "lucene", "space_type": SPACES[shape.similarity]}
        if encoder:
            method["parameters"] = encoder
        return {"type": "knn_vector", "dimension": shape.dims, "method": method}

    def graphed(self, _shape: Shape, /) -> None:
        """Lucene's engine cannot do without a graph."""

    def settings(self) -> Mapping[str, Any]:
        """k-NN, with vectors kept in `_source`."""
        return {"index.knn": True} | ({DERIVED: False} if self._derived else {})

    def unset(self, reason: str, /) -> bool:
        """Learn that this version has no derived source yet."""
        if DERIVED not in reason:
            return False
        self._derived = False
        return True

    def knn(
        self, vector: Sequence[float], k: int, candidates: int, where: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """The `knn` query; its k is per shard, so it stands for the candidates."""
        knn: dict[str, Any] = {"vector": vector, "k": min(max(candidates, k), 10_000)}
        if where:
            knn["filter"] = {"bool": {"filter": list(where)}}
        return {"query": {"knn": {VECTOR: knn}}}
