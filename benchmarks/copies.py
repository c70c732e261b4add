"""A generation copied whole: by the engine's own `_reindex`, and by a client whose bulk bodies are ready (the floor).

Both write into an empty index of the same mapping and the same load settings (refresh off, no replicas), and end like a
run of ours: graph where the load had none, refresh, force merge. What was copied is counted, vectors included.
"""

import base64
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import httpx
import numpy as np
import orjson

VECTOR = "embedding"
FLAT = {"hnsw": "flat", "int8_hnsw": "int8_flat", "int4_hnsw": "int4_flat", "bbq_hnsw": "bbq_flat"}
"""Our drafts are loaded without a graph where the engine can add it later; copies are given the same."""

OF_ONE_INDEX = {"uuid", "creation_date", "provided_name", "version", "resize", "routing", "blocks", "replication"}
"""Settings that a copy cannot have."""

PAGE = 1000
"""Documents that are read or sent at once."""

Seconds = tuple[float, float]
"""From the first read to the last acknowledged write, and to the merged index."""


class Copies:
    """Copies of the generation behind an alias, each into the same index made anew."""

    def __init__(self, url: str, alias: str, target: str) -> None:
        self.alias, self.target = alias, target
        self.client = httpx.AsyncClient(base_url=url, timeout=None)

    async def can_reindex(self) -> bool:
        """Whether the server has `_reindex`: an empty request is then wrong, and else it is unknown."""
        answer = await self.client.post("/_reindex", json={})
        return answer.status_code == 400 and "validation" in answer.text

    async def reindexed(self) -> Seconds:
        """The engine reads and writes: documents as they are finished, vectors with them."""
        graph = await self._make()
        live = await self._live()
        body = {"source": {"index": live, "size": PAGE}, "dest": {"index": self.target}}
        start = time.perf_counter()
        answer = _good(await self.client.post("/_reindex", params={"wait_for_completion": "true"}, json=body)).json()
        loaded = time.perf_counter() - start
        assert not answer["failures"], answer
        return loaded, await self._finished(start, graph)

    async def sent(self, bodies: list[bytes]) -> Seconds:
        """Bulk bodies that are ready, two in flight: no reading, no work."""
        graph = await self._make()
        start = time.perf_counter()
        limit = anyio.Semaphore(2)
        async with anyio.create_task_group() as group:
            for body in bodies:
                await limit.acquire()
                group.start_soon(self._post, body, limit)
        loaded = time.perf_counter() - start
        return loaded, await self._finished(start, graph)

    async def bodies(self) -> list[bytes]:
        """The live documents with their vectors as bulk bodies, in the form that the engine takes fastest."""
        full: list[bytes] = []
        lines: list[bytes] = []
        kind = (await self._described())["mappings"]["properties"][VECTOR]["type"]
        async for hit in self._hits(await self._live(), opensearch=kind == "knn_vector"):
            source = hit["_source"]
            if kind == "dense_vector":
                source[VECTOR] = base64.b64encode(np.asarray(source[VECTOR], ">f4").tobytes()).decode()
            lines += orjson.dumps({"index": {"_id": hit["_id"]}}), orjson.dumps(source)
            if len(lines) == 2 * PAGE:
                full.append(b"\n".join(lines) + b"\n")
                lines = []
        return [*full, b"\n".join(lines) + b"\n"] if lines else full

    async def drop(self) -> None:
        """Remove the copy."""
        await self.client.delete(f"/{self.target}", params={"ignore_unavailable": "true"})

    async def _live(self) -> str:
        (live,) = _good(await self.client.get(f"/_alias/{self.alias}")).json()
        return str(live)

    async def _described(self) -> dict[str, Any]:
        (live,) = _good(await self.client.get(f"/{self.alias}")).json().values()
        return dict(live)

    async def _make(self) -> Mapping[str, Any] | None:
        """An empty index like the live one; the vector field it gets after loading, None when it has it already."""
        await self.drop()
        live = await self._described()
        fields = live["mappings"]["properties"]
        vector = fields[VECTOR]
        kind = vector.get("index_options", {}).get("type")
        if kind in FLAT:
            fields = {**fields, VECTOR: {**vector, "index_options": {"type": FLAT[kind]}}}
        own = {name: value for name, value in live["settings"]["index"].items() if name not in OF_ONE_INDEX}
        settings = {"index": {**own, "number_of_replicas": 0, "refresh_interval": "-1"}}
        body = {"settings": settings, "mappings": {"dynamic": False, "properties": fields}}
        _good(await self.client.put(f"/{self.target}", json=body))
        return vector if kind in FLAT else None

    async def _post(self, body: bytes, limit: anyio.Semaphore) -> None:
        headers = {"Content-Type": "application/x-ndjson"}
        path = f"/{self.target}/_bulk"
        try:
            answer = await self.client.post(path, params={"filter_path": "errors"}, content=body, headers=headers)
            assert _good(answer).json()["errors"] is False
        finally:
            limit.release()

    async def _finished(self, start: float, graph: Mapping[str, Any] | None) -> float:
        if graph:
            _good(await self.client.put(f"/{self.target}/_mapping", json={"properties": {VECTOR: graph}}))
        _good(await self.client.put(f"/{self.target}/_settings", json={"index": {"refresh_interval": "1s"}}))
        _good(await self.client.post(f"/{self.target}/_refresh"))
        _good(await self.client.post(f"/{self.target}/_forcemerge", params={"max_num_segments": "1"}))
        took = time.perf_counter() - start
        assert await self._count(self.target) == await self._count(self.alias)
        await self.drop()
        return took

    async def _count(self, index: str) -> int:
        """Documents that have a vector."""
        body = {"query": {"exists": {"field": VECTOR}}}
        return int(_good(await self.client.post(f"/{index}/_count", json=body)).json()["count"])

    async def _hits(self, index: str, opensearch: bool) -> AsyncIterator[dict[str, Any]]:
        path = f"/{index}/_search/point_in_time" if opensearch else f"/{index}/_pit"
        opened = _good(await self.client.post(path, params={"keep_alive": "5m"})).json()
        pit = opened["pit_id" if opensearch else "id"]
        query: dict[str, Any] = {"size": PAGE, "pit": {"id": pit}, "sort": ["_shard_doc"], "track_total_hits": False}
        params = {} if opensearch else {"_source_exclude_vectors": "false"}
        while hits := await self._page(params, query):
            for hit in hits:
                yield hit
            query["search_after"] = hits[-1]["sort"]
        close = ("/_search/point_in_time", {"pit_id": [pit]}) if opensearch else ("/_pit", {"id": pit})
        _good(await self.client.request("DELETE", close[0], json=close[1]))

    async def _page(self, params: Mapping[str, str], query: Mapping[str, Any]) -> list[dict[str, Any]]:
        answer = _good(await self.client.post("/_search", params=params, json=query))
        return list(orjson.loads(answer.content)["hits"]["hits"])


def _good(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise SystemExit(f"{answer.request.method} {answer.request.url.path}: {answer.text[:2000]}")
    return answer
