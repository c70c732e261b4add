"""What proofs and searches ask of an index of ours: health, merges, neighbours, words, vectors bit by bit."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from anyio import current_time

from app.errors import EngineError, EngineUnavailable
from app.sync.engines.reading import WHOLE, Reading
from app.sync.engines.shapes import VECTOR
from app.sync.engines.wire import Ask, Reply, one_name
from app.sync.words import Scored, Vectors

POLL = 5.0
"""Seconds that one question for a merge's end may wait."""

WORDS = 200
"""Words of a query that are searched for: engines refuse queries with over 1,024 clauses."""

WITH_VECTORS = {"_source_exclude_vectors": "false"}
"""Known from Elasticsearch 9.2 on, where vectors are no part of `_source` unless asked for."""

VECTORS_APART = "vectors_apart"

Where = Sequence[Mapping[str, Any]]


class Proving(Reading):
    """The part of `ports.Target` that looks at what was written."""

    async def green(self, index: str, seconds: float) -> str:
        """Wait for green, at most *seconds*; the health it has then."""
        return await self._health(index, "green", seconds)

    async def _health(self, index: str, wanted: str, seconds: float) -> str:
        params = {"wait_for_status": wanted, "timeout": f"{max(seconds, 0):.0f}s"}
        what = f"tell the health of {index}"
        ask = Ask(what, "GET", f"/_cluster/health/{one_name(index)}", params, seconds=seconds + 30)
        return str((await self._wire.ask(ask, allow={408})).body["status"])

    async def merge(self, index: str, seconds: float) -> bool:
        """Force merge to one segment; False when it took longer than *seconds* (it goes on by itself)."""
        end = current_time() + seconds
        params = {"max_num_segments": "1", "wait_for_completion": "false"}
        reply = await self._wire.ask(Ask(f"merge {index}", "POST", f"/{one_name(index)}/_forcemerge", params))
        path = f"/_tasks/{reply.body['task']}"
        while (left := end - current_time()) > 0:
            if await self._merged(index, path, min(left, POLL)):
                return True
        return False

    async def _merged(self, index: str, path: str, seconds: float) -> bool:
        """Whether the merge has ended. Raises when it ended badly."""
        params = {"wait_for_completion": "true", "timeout": f"{seconds * 1000:.0f}ms"}
        what = f"merge {index}"
        try:
            body = (await self._wire.ask(Ask(what, "GET", path, params, seconds=seconds + 30))).body
        except EngineUnavailable as error:
            if error.extra.get("engine_error") in ("timeout_exception", "receive_timeout_transport_exception"):
                return False
            raise
        except EngineError as error:
            if error.extra.get("engine_error") in ("timeout_exception", "opensearch_timeout_exception"):
                return False
            raise
        if "error" in body or body.get("response", {}).get("_shards", {}).get("failed"):
            why = str(body.get("error") or body["response"])[:400]
            raise EngineError(f"{self._wire.name} failed to {what}: {why}.")
        return bool(body["completed"])

    async def nearest(
        self, index: str, vector: Sequence[float], k: int, candidates: int, where: Where
    ) -> Sequence[Scored]:
        """The *k* nearest documents among *candidates* a shard, filtered by query clauses; vectors left out."""
        body = {"size": k, **self._dialect.knn(vector, k, candidates, where)}
        return await self._scored(f"find neighbours in {index}", index, body)

    async def lexical(self, index: str, query: str, k: int, where: Where) -> Sequence[Scored]:
        """The *k* best documents by words over the text fields; vectors left out."""
        fields = [name for name, how in (await self.properties(index)).items() if how.get("type") == "text"]
        words = " ".join(query.split()[:WORDS])
        match = {"multi_match": {"query": words, "fields": fields, "type": "most_fields"}}
        body = {"size": k, "query": {"bool": {"must": [match], "filter": list(where)}}}
        return await self._scored(f"find words in {index}", index, body)

    async def _scored(self, what: str, index: str, body: Mapping[str, Any]) -> Sequence[Scored]:
        whole = {**body, "track_total_hits": False, "_source": {"excludes": [VECTOR]}}
        reply = await self._wire.ask(Ask(what, "POST", f"/{one_name(index)}/_search", WHOLE, whole))
        self._complete(reply, what)
        return [Scored(hit["_id"], hit["_score"], hit.get("_source") or {}) for hit in reply.body["hits"]["hits"]]

    async def vectors(self, index: str, ids: Sequence[str]) -> Mapping[str, Vectors]:
        """The stored vectors of *ids*, each of shape `(dims,)`, exactly as the engine keeps them."""
        found = await self._get(index, ids, [VECTOR], await self._apart(index)) if ids else []
        return {hit.id: _vector(hit.source[VECTOR]) for hit in found if VECTOR in hit.source}

    async def _apart(self, index: str) -> Mapping[str, str]:
        """The parameter that brings vectors back, where the engine knows it; asked once."""
        if VECTORS_APART not in self._abilities:
            ask = Ask(f"read vectors of {index}", "POST", f"/{one_name(index)}/_mget", WITH_VECTORS, {"ids": ["-"]})
            reply: Reply = await self._wire.ask(ask, allow={400})
            self._abilities[VECTORS_APART] = reply.status == 200
        return WITH_VECTORS if self._abilities[VECTORS_APART] else {}


def _vector(stored: Any) -> Vectors:
    if isinstance(stored, str):
        return np.frombuffer(base64.b64decode(stored), dtype=">f4").astype(np.float32)
    return np.asarray(stored, dtype=np.float32)
