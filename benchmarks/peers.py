"""What a user would pick instead: the script people write today, the same tuned by hand, and a raw sender.

Each takes the documents of a source index to a target with the same mapping and the same embedder, end to end, from
the first read to a refreshed, merged index with its replicas restored, and returns how long it took in seconds.
"""

import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import httpx
import numpy as np
import orjson
from anyio import to_thread
from elasticsearch import AsyncElasticsearch
from elasticsearch.helpers import async_bulk, async_scan
from wordllama import WordLlama

FIELDS = ("sku", "name", "description", "price_0_1", "category_ids", "is_out_of_stock", "color_value", "brand_value")
"""What the tuned script asks the source for; the naive one takes whole documents, as scripts do."""


@dataclass(frozen=True)
class Setting:
    """What every contestant is given."""

    url: str
    source: str
    target: str
    dims: int
    model: WordLlama


def text_of(source: Mapping[str, Any]) -> str:
    """The text a script would embed: name and description."""
    parts = (source.get("name"), source.get("description"))
    return "\n".join(" ".join(map(str, part)) if isinstance(part, list) else str(part) for part in parts if part) or "-"


def mapping(dims: int) -> dict[str, Any]:
    """The mapping all contestants write into; also the one our drafts have for these fields."""
    vector = {"type": "dense_vector", "dims": dims, "index": True, "similarity": "cosine"}
    fields = {
        "sku": {"type": "keyword"},
        "name": {"type": "text"},
        "price": {"type": "double"},
        "text": {"type": "text"},
    }
    return {"dynamic": False, "properties": {**fields, "embedding": vector}}


async def fresh_target(client: httpx.AsyncClient, setting: Setting) -> None:
    """An empty target with load settings."""
    await client.delete(f"/{setting.target}", params={"ignore_unavailable": "true"})
    settings = {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1"}
    answer = await client.put(f"/{setting.target}", json={"settings": settings, "mappings": mapping(setting.dims)})
    answer.raise_for_status()


async def finish(client: httpx.AsyncClient, setting: Setting) -> int:
    """What comes after the last bulk in every contestant: refresh, force merge, count."""
    await client.put(f"/{setting.target}/_settings", json={"index": {"refresh_interval": "1s"}})
    await client.post(f"/{setting.target}/_refresh", timeout=600)
    await client.post(f"/{setting.target}/_forcemerge", params={"max_num_segments": "1"}, timeout=1800)
    return int((await client.get(f"/{setting.target}/_count")).json()["count"])


def document(source: Mapping[str, Any], text: str, vector: Any) -> dict[str, Any]:
    """The stored document of a script."""
    return {
        "sku": source.get("sku"),
        "name": source.get("name"),
        "price": source.get("price_0_1"),
        "text": text,
        "embedding": vector,
    }


async def naive(setting: Setting) -> tuple[float, float]:
    """`async_scan`, embed by 500, `async_bulk`: the script people write today. Seconds to loaded, to done."""
    client = AsyncElasticsearch(setting.url, request_timeout=120)
    start = time.perf_counter()

    async def actions() -> AsyncIterator[dict[str, Any]]:
        batch: list[dict[str, Any]] = []
        async for hit in async_scan(client, index=setting.source, size=1000):
            batch.append(hit)
            if len(batch) == 500:
                for action in embedded(setting, batch):
                    yield action
                batch = []
        for action in embedded(setting, batch):
            yield action

    await async_bulk(client, actions(), chunk_size=500)
    loaded = time.perf_counter() - start
    await client.close()
    return loaded, await _finished(setting, start)


def embedded(setting: Setting, batch: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Bulk actions of one batch, as the helpers take them."""
    if not batch:
        return
    texts = [text_of(hit["_source"]) for hit in batch]
    for hit, text, vector in zip(batch, texts, setting.model.embed(texts, norm=True), strict=True):
        yield {"_index": setting.target, "_id": hit["_id"], "_source": document(hit["_source"], text, vector.tolist())}


async def _finished(setting: Setting, start: float) -> float:
    async with httpx.AsyncClient(base_url=setting.url, timeout=120) as client:
        await finish(client, setting)
    return time.perf_counter() - start


async def tuned(setting: Setting) -> tuple[float, float]:
    """The same by hand: few fields, orjson, base64 vectors, two bulk requests in flight while the next page is read."""
    start = time.perf_counter()
    async with httpx.AsyncClient(base_url=setting.url, timeout=120) as client:
        limit = anyio.Semaphore(2)
        async with anyio.create_task_group() as group:
            async for hits in pages(client, setting.source):
                body = await to_thread.run_sync(packed, setting, hits)
                await limit.acquire()
                group.start_soon(post, client, setting, body, limit)
        loaded = time.perf_counter() - start
    return loaded, await _finished(setting, start)


async def pages(client: httpx.AsyncClient, source: str) -> AsyncIterator[list[dict[str, Any]]]:
    """A point in time, page by page."""
    pit = (await client.post(f"/{source}/_pit", params={"keep_alive": "5m"})).json()["id"]
    query: dict[str, Any] = {
        "size": 1000,
        "pit": {"id": pit},
        "sort": ["_shard_doc"],
        "_source": list(FIELDS),
        "track_total_hits": False,
    }
    while hits := orjson.loads((await client.post("/_search", json=query)).content)["hits"]["hits"]:
        yield hits
        query["search_after"] = hits[-1]["sort"]
    await client.request("DELETE", "/_pit", json={"id": pit})


def packed(setting: Setting, hits: list[dict[str, Any]]) -> bytes:
    """One bulk body with vectors as big-endian base64."""
    import base64

    texts = [text_of(hit["_source"]) for hit in hits]
    vectors = setting.model.embed(texts, norm=True).astype(">f4")
    lines = []
    for hit, text, vector in zip(hits, texts, vectors, strict=True):
        lines.append(orjson.dumps({"index": {"_id": hit["_id"]}}))
        lines.append(orjson.dumps(document(hit["_source"], text, base64.b64encode(vector.tobytes()).decode())))
    return b"\n".join(lines) + b"\n"


async def post(client: httpx.AsyncClient, setting: Setting, body: bytes, limit: anyio.Semaphore) -> None:
    """One bulk request."""
    headers = {"Content-Type": "application/x-ndjson"}
    try:
        answer = await client.post(
            f"/{setting.target}/_bulk", params={"filter_path": "errors"}, content=body, headers=headers
        )
        answer.raise_for_status()
        assert answer.json()["errors"] is False
    finally:
        limit.release()


async def raw(setting: Setting, bodies: list[bytes]) -> tuple[float, float]:
    """The floor: bulk bodies that are ready, two in flight, no reading, no embedding."""
    start = time.perf_counter()
    async with httpx.AsyncClient(base_url=setting.url, timeout=120) as client:
        limit = anyio.Semaphore(2)
        async with anyio.create_task_group() as group:
            for body in bodies:
                await limit.acquire()
                group.start_soon(post, client, setting, body, limit)
        loaded = time.perf_counter() - start
    return loaded, await _finished(setting, start)


async def ready_bodies(setting: Setting) -> list[bytes]:
    """The bodies of the floor, made before the clock starts."""
    async with httpx.AsyncClient(base_url=setting.url, timeout=120) as client:
        return [await to_thread.run_sync(packed, setting, hits) async for hits in pages(client, setting.source)]


def check_vectors(setting: Setting) -> None:
    """The model answers with the dims that the mapping declares."""
    assert np.asarray(setting.model.embed(["probe"])).shape == (1, setting.dims)
