"""A shop that changes and tells, and a reader who searches for what was told: both from outside, over HTTP."""

import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
import orjson

LOOK_SECONDS = 0.02
"""The reader's pause between two searches."""

FOUND_SECONDS = 60.0
"""What is told last is found within that."""

PAGE = 10_000


def quantiles(seconds: Iterable[float]) -> dict[str, float]:
    """`p50, p95, p99, max` in milliseconds, and how many."""
    ordered = sorted(seconds)
    if not ordered:
        return {"count": 0}
    shown = {f"p{share}_ms": ordered[min(len(ordered) * share // 100, len(ordered) - 1)] for share in (50, 95, 99)}
    shown["max_ms"] = ordered[-1]
    return {"count": len(ordered), **{name: round(1000 * value, 1) for name, value in shown.items()}}


@dataclass
class Shop:
    """The source index and the service that is told of it."""

    engine: httpx.AsyncClient
    service: httpx.AsyncClient
    index: str
    name: str
    answers: list[float] = field(default_factory=list)
    turn: int = 0

    async def change(self, ids: Sequence[str]) -> dict[str, float]:
        """New prices, and one new name in ten; the prices."""
        wanted, lines = {}, []
        for one in ids:
            self.turn += 1
            wanted[one] = self.turn + 0.25
            new: dict[str, Any] = {"price_0_1": f"{wanted[one]:.6f}"}
            new |= {"name": f"lamp number {self.turn}"} if self.turn % 10 == 0 else {}
            lines += [{"update": {"_id": one}}, {"doc": new}]
        await self._bulk(lines)
        return wanted

    async def reprice(self, ids: Sequence[str], chunk: int = 1000) -> None:
        """New prices for all of these, and nothing is told yet."""
        self.turn += 1
        new = {"doc": {"price_0_1": f"{self.turn}.500000"}}
        for start in range(0, len(ids), chunk):
            await self._bulk([part for one in ids[start : start + chunk] for part in ({"update": {"_id": one}}, new)])

    async def delete(self, ids: Sequence[str]) -> None:
        """These go."""
        await self._bulk([{"delete": {"_id": one}} for one in ids])

    async def tell(self, ids: Sequence[str], action: str = "upsert") -> float:
        """Events of these in one request; the moment just before it. Its answer must be 202."""
        body = orjson.dumps({"events": [{"product_id": one, "action": action} for one in ids]})
        since = time.perf_counter()
        answer = await self.service.post(f"/api/v1/catalogues/{self.name}/events", content=body, headers=JSON)
        self.answers.append(time.perf_counter() - since)
        assert answer.status_code == 202, answer.text
        return since

    async def processed(self) -> float:
        """Events applied so far, as the service counts them."""
        lines = (await self.service.get("/metrics")).text.splitlines()
        mine = f'reshelve_events_processed_total{{catalogue="{self.name}"}}'
        return next((float(line.split()[-1]) for line in lines if line.startswith(mine)), 0.0)

    async def lag(self) -> dict[str, Any]:
        """How far events are behind."""
        answer = await self.service.get(f"/api/v1/catalogues/{self.name}")
        lag: dict[str, Any] = answer.raise_for_status().json()["lag"]
        return lag

    async def emptied(self, seconds: float = 300) -> float:
        """Wait until nothing waits; how many seconds that took."""
        since = time.perf_counter()
        with anyio.fail_after(seconds):
            while True:
                lag = await self.lag()
                if not lag["pending"] and not lag["processing"]:
                    return time.perf_counter() - since
                await anyio.sleep(0.2)

    async def ids(self, alias: str, most: int) -> list[str]:
        """Products that readers have, in no order that matters."""
        found: list[str] = []
        after: Any = None
        while len(found) < most:
            body = {"size": PAGE, "_source": False, "sort": [{"source_id": "asc"}]}
            body |= {"search_after": after} if after else {}
            hits = (await self.engine.post(f"/{alias}/_search", json=body)).raise_for_status().json()["hits"]["hits"]
            if not hits:
                break
            found += [hit["_id"] for hit in hits]
            after = hits[-1]["sort"]
        random.Random(1).shuffle(found)
        return found[:most]

    async def _bulk(self, lines: Sequence[Any]) -> None:
        body = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        answer = await self.engine.post(f"/{self.index}/_bulk", content=body, headers=JSON)
        assert not answer.raise_for_status().json()["errors"], answer.text[:300]


JSON = {"Content-Type": "application/json"}


@asynccontextmanager
async def shop(engine: str, service: str, index: str, name: str) -> AsyncIterator[Shop]:
    """The shop *index* and the catalogue *name* that is made of it."""
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
    async with (
        httpx.AsyncClient(base_url=engine, timeout=120, limits=limits) as one,
        httpx.AsyncClient(base_url=service, timeout=120, limits=limits) as other,
    ):
        yield Shop(one, other, index, name)


@dataclass
class Reader:
    """Searches by id for what was told, all of it in one search, until each is found as it should be."""

    engine: httpx.AsyncClient
    alias: str
    seconds: list[float] = field(default_factory=list)
    _sought: dict[str, tuple[float, float | None]] = field(default_factory=dict)

    def seek(self, wanted: dict[str, float | None], since: float) -> None:
        """Look for these prices (None: that it is gone) from now on."""
        self._sought.update({one: (since, price) for one, price in wanted.items()})

    @property
    def left(self) -> int:
        """How many are not found yet."""
        return len(self._sought)

    async def run(self, stopped: anyio.Event) -> None:
        """Until it is stopped and all is found; what is not found in time stays in `left`."""
        while not stopped.is_set():
            await self._look_once()
        with anyio.move_on_after(FOUND_SECONDS):
            while self._sought:
                await self._look_once()

    async def _look_once(self) -> None:
        if self._sought:
            await self._look(dict(self._sought))
        await anyio.sleep(LOOK_SECONDS)

    async def _look(self, sought: dict[str, tuple[float, float | None]]) -> None:
        some = list(sought)[:PAGE]
        query = {"size": len(some), "_source": ["price"], "query": {"terms": {"source_id": some}}}
        answer = await self.engine.post(f"/{self.alias}/_search", json=query)
        now = time.perf_counter()
        there = {hit["_id"]: hit["_source"].get("price") for hit in answer.raise_for_status().json()["hits"]["hits"]}
        for one in some:
            since, price = sought[one]
            if there.get(one) == price:
                self.seconds.append(now - since)
                del self._sought[one]


async def paced(rate: float, seconds: float, act: Callable[[], Any], stop: Callable[[], bool] = lambda: False) -> None:
    """Begin *act* so many times a second, whether or not the ones before have ended; return when all have."""
    async with anyio.create_task_group() as group:
        begun, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds and not stop():
            group.start_soon(act)
            begun += 1
            await anyio.sleep(max(start + begun / rate - time.perf_counter(), 0))
