"""What only Elasticsearch has: its client, its way of points in time, vectors and nearest neighbours.

The client is used at its transport, with ready bytes: its own layer would send `compatible-with=9`, which an 8.x
server refuses, decode with the slow serialiser, and turn statuses into exceptions of its own. Plain JSON is understood
by 8.x and 9.x alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from elastic_transport import (
    AiohttpHttpNode,
    BaseNode,
    ConnectionTimeout,
    HttpHeaders,
    NodePool,
    Serializer,
    TlsError,
    TransportError,
)
from elastic_transport.client_utils import DEFAULT
from elasticsearch import AsyncElasticsearch

from app.sync.engines.shapes import VECTOR
from app.sync.engines.wire import Address, Ask, Request, part, unreachable, untrusted
from app.sync.words import Shape, Slice

CONNECTIONS = 32
"""Per engine; what is in flight at once is bounded elsewhere, by the limits that all runs share."""


class Raw(Serializer):
    """Bytes in, bytes out: encoding and decoding are not the client's business here."""

    mimetype = "application/json"

    def loads(self, data: bytes) -> Any:
        """Leave the answer as it came."""
        return data

    def dumps(self, data: Any) -> Any:
        """Leave the body as it is."""
        return data


class Node(AiohttpHttpNode):
    """The client's own node without its wire log, which formats each body before it asks whether anybody listens."""

    def _log_request(self, *_args: Any, **_kwargs: Any) -> None:
        return


class Pool(NodePool):
    """A pool of one node, which is never put aside: whether another try makes sense is decided by those who try."""

    def mark_dead(self, _node: BaseNode, _now: float | None = None) -> None:
        """Leave it where it is."""
        return


class Carrier:
    """The Elasticsearch client as a carrier of ready requests: no retry, every call bounded in time."""

    def __init__(self, address: Address, name: str) -> None:
        self._name = name
        self._headers = dict(address.headers)
        tls = address.ca_certs is not None and address.url.startswith("https")
        raw = Raw()
        self._client = AsyncElasticsearch(
            address.url,
            serializers={"application/json": raw, "application/x-ndjson": raw, "text/*": raw},
            node_class=Node,
            node_pool_class=Pool,
            connections_per_node=CONNECTIONS,
            max_retries=0,
            retry_on_timeout=False,
            meta_header=False,
            ca_certs=str(address.ca_certs) if tls else DEFAULT,
        )

    async def send(self, request: Request) -> tuple[int, bytes]:
        """Send one request; status and bytes of the answer."""
        try:
            meta, raw = await self._client.transport.perform_request(
                request.method,
                request.target,
                headers=HttpHeaders({**request.headers, **self._headers}),
                body=request.body,
                max_retries=0,
                request_timeout=request.seconds,
            )
        except ConnectionTimeout:
            raise unreachable(self._name, f"no answer within {request.seconds:g} s") from None
        except TlsError as error:
            raise untrusted(self._name, error.message) from None
        except TransportError as error:
            raise unreachable(self._name, str(error.message)[:300]) from None
        return meta.status, raw or b""

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


FLAT = {"hnsw": "flat", "int8_hnsw": "int8_flat", "int4_hnsw": "int4_flat", "bbq_hnsw": "bbq_flat"}
"""Index types with a graph, and the same without."""

PLAIN_DIMS = 384
"""From here on the default type depends on the engine's version: it is left to the engine."""


def _type(shape: Shape) -> str:
    return shape.vector_index or ("int8_hnsw" if shape.dims < PLAIN_DIMS else "")


def _vector(shape: Shape, kind: str | None) -> Mapping[str, Any]:
    field = {"type": "dense_vector", "dims": shape.dims, "index": True, "similarity": shape.similarity}
    return field | ({"index_options": {"type": kind}} if kind else {})


class Elasticsearch:
    """The dialect of Elasticsearch 8 and 9."""

    kind: Literal["elasticsearch"] = "elasticsearch"
    packs = True

    def open_pit(self, index: str, keep_alive: int) -> Ask:
        """A shard that is missing makes this fail: partial points in time must be asked for here."""
        return Ask(f"open a point in time on {index}", "POST", f"/{part(index)}/_pit", {"keep_alive": f"{keep_alive}s"})

    def pit_id(self, body: Mapping[str, Any]) -> str:
        """Its id."""
        return str(body["id"])

    def close_pit(self, own: str) -> Ask:
        """Close it."""
        return Ask("close a point in time", "DELETE", "/_pit", body={"id": own})

    def slices(self, part: Slice, _primaries: int, /) -> Sequence[Slice]:
        """Any number of slices is complete and disjoint here."""
        return [part]

    def sort(self) -> str:
        """The order of shards and documents."""
        return "_shard_doc"

    def unsorted(self, _reason: str, /) -> bool:
        """Every supported version knows it."""
        return False

    def vector(self, shape: Shape) -> Mapping[str, Any]:
        """A dense vector; without a declared index type the engine's default graph."""
        flat = FLAT.get(_type(shape)) if shape.graph_later else None
        return _vector(shape, flat or shape.vector_index)

    def graphed(self, shape: Shape, /) -> Mapping[str, Any] | None:
        """The type that the flat one may be changed to; what is merged from then on has the graph."""
        return _vector(shape, _type(shape)) if shape.graph_later and _type(shape) in FLAT else None

    def settings(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def unset(self, _reason: str, /) -> bool:
        """There is none that could be unknown."""
        return False

    def knn(
        self, vector: Sequence[float], k: int, candidates: int, where: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """The `knn` section of a search."""
        knn = {"field": VECTOR, "query_vector": vector, "k": k, "num_candidates": min(max(candidates, k), 10_000)}
        return {"knn": knn | ({"filter": list(where)} if where else {})}
