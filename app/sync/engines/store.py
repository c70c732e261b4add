"""Vectors by content, kept in an index of their own: in by bulk, out by id, as base64 of little-endian float32.

A `binary` field is kept in `_source` and nowhere else, which is the cheapest way in and out that engines have. What is
kept here saves money, and its loss costs nothing but that: an index that somebody deletes holds nothing, and is made
again by the next `keep`. That it is there, and ours, is believed for some seconds only: most engines make an index for
a document that comes for none, and such a one would not be ours. An index of this name that is not ours is refused.

Each key notes when it was last kept or used, so that what nobody has used for long can go
(`app.sync.evicting`).
"""

import base64
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from anyio import current_time, to_thread

from app.errors import EngineBusy, EngineError, EngineUnavailable, IndexMissing, TooLargeForEngine
from app.sync.engines.columns import Columns
from app.sync.engines.failures import INDEX_MISSING, Failure, failure, problem
from app.sync.engines.reading import WHOLE
from app.sync.engines.wire import Ask, Wire, one_name
from app.sync.words import Vectors

MARK = {"reshelve": {"store": 1}}

BODY = {
    "settings": {
        "index.number_of_shards": 1,
        "index.auto_expand_replicas": "0-1",
        "index.refresh_interval": "5s",
    },
    "mappings": {
        "dynamic": False,
        "_meta": MARK,
        "properties": {"vector": {"type": "binary"}, "used_at": {"type": "long"}},
    },
}

PORTION, MOST_KEYS, MOST_USED = 5 * 2**20, 1000, 5000
"""Bytes of vectors of one request, and keys of one that reads or keeps them, or notes that they are used or go."""

SMALL = 100_000
"""Bytes of a request that is not halved where an engine calls itself busy."""

BELIEVED = 5.0
"""Seconds for which the index is believed to be there since it was last seen."""

SECONDS = 120.0

NEVER = float("-inf")


@dataclass
class Store:
    """`ports.VectorStore` over one engine."""

    wire: Wire
    engine: Columns
    index: str
    seen: float = NEVER

    # --- the index ---

    async def _there(self) -> bool:
        """Whether the index is there. Raises `EngineError(code="vector_store")` when it is not ours."""
        now = current_time()
        if now - self.seen < BELIEVED:
            return True
        ask = Ask(f"show the index {self.index}", "GET", self._path("_mapping"), {"filter_path": "*.mappings._meta"})
        reply = await self.wire.ask(ask, allow={404})
        if reply.status == 404:
            return False
        if reply.body.get(self.index, {}).get("mappings", {}).get("_meta") != MARK:
            detail = (
                f"{self.wire.name} has an index {self.index} that is not ours: rename or delete it, so that vectors"
            )
            raise EngineError(f"{detail} can be kept.", code="vector_store")
        self.seen = now
        return True

    async def _make(self) -> None:
        """Make the index unless it is there; of two who do so at the same time, both are served."""
        if await self._there():
            return
        what = f"make the index {self.index}"
        reply = await self.wire.ask(Ask(what, "PUT", self._path(), body=BODY, seconds=90), allow={400})
        if reply.status == 400 and reply.failure.type != "resource_already_exists_exception":
            raise problem(reply.failure, self.wire.name, what)
        if not await self._there():
            raise self._lost()

    def _path(self, *parts: str) -> str:
        return "/".join(("", one_name(self.index), *parts))

    def _lost(self) -> EngineUnavailable:
        self.seen = NEVER
        return EngineUnavailable(f"{self.wire.name} lost the index {self.index}; it is made again.")

    # --- vectors ---

    async def known(self, keys: Sequence[str], dims: int) -> Mapping[str, Vectors]:
        """Those of *keys* that are kept, each of shape `(dims,)`."""
        found: dict[str, Vectors] = {}
        for some in _cut(keys, _fitting(dims)):
            if await self._there():
                found |= await self._read(some, dims)
        return found

    async def _read(self, keys: Sequence[str], dims: int) -> Mapping[str, Vectors]:
        now, what = current_time(), f"read vectors of {self.index}"
        params = {"_source_includes": "vector"}
        try:
            reply = await self.wire.ask(Ask(what, "POST", self._path("_mget"), params, {"ids": keys}, SECONDS))
            for answer in reply.body["docs"]:
                if "error" in answer:
                    raise problem(failure(404, answer), self.wire.name, what)
        except IndexMissing:
            self.seen = NEVER
            return {}
        self.seen = now
        return await to_thread.run_sync(decoded, reply.body["docs"], dims)

    async def keep(self, keys: Sequence[str], vectors: Vectors) -> None:
        """Keep these; returns when the engine has acknowledged each."""
        await self._make()
        for some in _cut(range(len(keys)), _fitting(vectors.shape[1])):
            chosen = slice(some[0], some[-1] + 1)
            await self._keep(keys[chosen], vectors[chosen])

    async def _keep(self, keys: Sequence[str], vectors: Vectors) -> None:
        """In one request, or in halves where an engine, or a proxy before it, takes no such large one.

        A busy engine may be one that never will (it counts the bytes of requests): halves are tried at once, and what
        is small and still refused leaves as `EngineBusy`.
        """
        body = await to_thread.run_sync(encoded, keys, vectors)
        try:
            for failed in await self._bulk(body):
                raise self._problem(failed)
        except (TooLargeForEngine, EngineBusy) as refused:
            if len(keys) == 1 or (isinstance(refused, EngineBusy) and len(body) <= SMALL):
                raise
            half = len(keys) // 2
            await self._keep(keys[:half], vectors[:half])
            await self._keep(keys[half:], vectors[half:])

    async def _bulk(self, body: bytes) -> Sequence[Failure]:
        """What became of the items that were not taken."""
        params = {"filter_path": "errors,items.*.status,items.*.error"}
        try:
            reply = await self.wire.ask(Ask(self._what, "POST", self._path("_bulk"), params, body, SECONDS))
        except IndexMissing:
            raise self._lost() from None
        answers = [next(iter(item.values())) for item in reply.body.get("items") or ()]
        return [failure(answer["status"], answer) for answer in answers if "error" in answer]

    @property
    def _what(self) -> str:
        return f"keep vectors in {self.index}"

    def _problem(self, failed: Failure) -> Exception:
        if failed.type == INDEX_MISSING:
            return self._lost()
        if failed.status >= 500:
            return EngineUnavailable(f"{self.wire.name} would not {self._what}: {failed}.")
        return problem(failed, self.wire.name, self._what)

    # --- what goes ---

    async def size(self) -> int:
        """How many keys are kept."""
        try:
            if await self._there():
                await self.engine.refresh(self.index)
                return await self.engine.counted(self.index, ())
        except IndexMissing:
            self.seen = NEVER
        return 0

    async def used(self, keys: Sequence[str], at: float) -> None:
        """Note that those of *keys* that are kept were in use at *at*."""
        change = orjson.dumps({"doc": {"used_at": int(at)}})
        for some in _cut(keys, MOST_USED):
            if await self._there():
                await self._change(line for key in some for line in (orjson.dumps({"update": {"_id": key}}), change))

    async def _change(self, lines: Iterable[bytes]) -> None:
        """Keys that are gone, and those that somebody else is changing, are left as they are."""
        for failed in await self._bulk(b"\n".join(lines) + b"\n"):
            if failed.status not in (404, 409):
                raise self._problem(failed)

    async def forget(self, keys: Sequence[str]) -> None:
        """Keep these no longer."""
        for some in _cut(keys, MOST_USED):
            if await self._there():
                await self._change(orjson.dumps({"delete": {"_id": key}}) for key in some)

    async def aged(self, before: float, count: int) -> Sequence[str]:
        """At most *count* keys that were last kept or used before *before*, the longest unused first."""
        body = {
            "size": count,
            "query": {"range": {"used_at": {"lt": int(before)}}},
            "sort": [{"used_at": "asc"}],
            "_source": False,
            "track_total_hits": False,
        }
        try:
            if not await self._there():
                return []
            await self.engine.refresh(self.index)
            reply = await self.wire.ask(Ask(f"read {self.index}", "POST", self._path("_search"), WHOLE, body, SECONDS))
        except IndexMissing:
            self.seen = NEVER
            return []
        return [hit["_id"] for hit in reply.body["hits"]["hits"]]


def _fitting(dims: int) -> int:
    """How many vectors make one request."""
    return max(1, min(MOST_KEYS, PORTION // (dims * 16 // 3 + 150)))


def _cut(values: Any, size: int) -> Iterator[Any]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def encoded(keys: Sequence[str], vectors: Vectors) -> bytes:
    """A bulk body that keeps *vectors* under *keys*. CPU only."""
    raw = np.ascontiguousarray(vectors, dtype="<f4")
    tail = b'","used_at":%d}' % int(time.time())
    lines: list[bytes] = []
    for key, row in zip(keys, raw, strict=True):
        lines.append(b'{"index":{"_id":' + orjson.dumps(key) + b"}}")
        lines.append(b'{"vector":"' + base64.b64encode(row) + tail)
    return b"\n".join(lines) + b"\n"


def decoded(answers: Sequence[Mapping[str, Any]], dims: int) -> Mapping[str, Vectors]:
    """Vectors by key, without those that are damaged. CPU only."""
    stored = {answer["_id"]: _raw(answer.get("_source", {}).get("vector")) for answer in answers}
    whole = {key: raw for key, raw in stored.items() if len(raw) == 4 * dims}
    rows = np.frombuffer(bytearray().join(whole.values()), "<f4").reshape(-1, dims).astype(np.float32, copy=False)
    names, sound = list(whole), np.flatnonzero(np.isfinite(rows).all(axis=1))
    return {names[at]: rows[at] for at in sound}


def _raw(stored: Any) -> bytes:
    try:
        return base64.b64decode(stored, validate=True)
    except (TypeError, ValueError):
        return b""
