"""A whole Reshelve in the test's own process, on a real engine: database, connections, worker; and a shop to read from.

`async with stack(url, folder) as here:` starts it; everything it made on the engine is gone afterwards. Ports can be
gated: a `Gate` stops the first call of one method until the test lets it go on, so that a test stands at a named point
of a run without sleeping or patching.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import anyio
import httpx
import orjson

from app import approvals, catalogues, changes, generations, orders, runs, switches
from app.config import EmbedderSettings, EngineSettings, Settings
from app.connections import Connections
from app.db import Database, heard, open_database
from app.demo.catalogue import mapping, products
from app.models import ChangeRow, Generation, Run
from app.spec import CatalogueSpec
from app.worker import Worker

WAIT = 120.0
"""Seconds after which a run that did not end is a failure of the test."""


class Gate:
    """Stops the first call that comes by: wait for `reached`, then `open` it."""

    def __init__(self) -> None:
        self.reached, self._opened = anyio.Event(), anyio.Event()

    def open(self) -> None:
        """Let the call go on, and all that come later."""
        self._opened.set()

    async def passed(self) -> None:
        """Called by the gated port."""
        self.reached.set()
        await self._opened.wait()

    async def call(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """The gated port's *method*, once the gate is open; gates of another kind may look at what it says."""
        await self.passed()
        return await method(*args, **named)


class Gated:
    """A port whose methods named in *gates* wait at their gates."""

    def __init__(self, inner: Any, gates: Mapping[str, Gate]) -> None:
        self._inner, self._gates = inner, gates

    def __getattr__(self, name: str) -> Any:
        method, gate = getattr(self._inner, name), self._gates.get(name)
        if gate is None:
            return method

        async def stopped(*args: Any, **named: Any) -> Any:
            return await gate.call(method, *args, **named)

        return stopped

    async def store(self) -> Any:
        """The kept vectors of an engine, gated too."""
        return Gated(await self._inner.store(), self._gates)


class GatedConnections(Connections):
    """Connections whose engines and embedders can be gated."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.gates: dict[str, Gate] = {}

    async def engine(self, name: str) -> Any:
        return Gated(await super().engine(name), self.gates)

    def embedder(self, spec: Any) -> Any:
        return Gated(super().embedder(spec), self.gates)


@dataclass
class Shop:
    """The source, as its owner treats it: an alias on an index that may go at any time."""

    url: str
    alias: str
    indices: list[str] = field(default_factory=list)

    def fill(self, stock: Iterable[tuple[str, Mapping[str, Any]]], body: Mapping[str, Any] | None = None) -> int:
        """A fresh index with *stock* under the alias; the one before is deleted, as Magento does."""
        index = f"{self.alias}-v{len(self.indices) + 1}"
        body = body or mapping("magento", "elasticsearch")
        self._ask("PUT", f"/{index}", content=orjson.dumps(body))
        count = self.put(index, stock)
        actions: list[dict[str, Any]] = [{"add": {"index": index, "alias": self.alias}}]
        if self.indices:
            actions.append({"remove_index": {"index": self.indices[-1]}})
        self._ask("POST", "/_aliases", content=orjson.dumps({"actions": actions}))
        self.indices.append(index)
        return count

    def put(self, index: str, stock: Iterable[tuple[str, Mapping[str, Any]]]) -> int:
        """Write products, visible when this returns."""
        lines, count = [], 0
        for product_id, source in stock:
            lines += [orjson.dumps({"index": {"_id": product_id}}), orjson.dumps(source)]
            count += 1
            if len(lines) >= 1000:
                self._bulk(index, lines)
                lines = []
        self._bulk(index, lines)
        self._ask("POST", f"/{index}/_refresh")
        return count

    def delete(self, *ids: str) -> None:
        """Delete products; searches see it when this returns."""
        lines = [orjson.dumps({"delete": {"_id": one}}) for one in ids]
        self._ask("POST", f"/{self.alias}/_bulk?refresh=true", content=b"\n".join(lines) + b"\n")

    def drop(self) -> None:
        """Delete the index behind the alias."""
        self._ask("DELETE", f"/{self.indices[-1]}")

    def _bulk(self, index: str, lines: list[bytes]) -> None:
        if lines:
            answer = self._ask("POST", f"/{index}/_bulk", content=b"\n".join(lines) + b"\n")
            assert not answer["errors"], [item for item in answer["items"] if item["index"].get("error")][:1]

    def _ask(self, method: str, path: str, content: bytes | None = None) -> Any:
        return ask(self.url, method, path, content)


def ask(url: str, method: str, path: str, content: bytes | None = None) -> Any:
    """One request to an engine by somebody who is not Reshelve. Raises for an error status."""
    answer = _request(method, url + path, content)
    answer.raise_for_status()
    return answer.json()


def _request(method: str, url: str, content: bytes | None = None) -> httpx.Response:
    """Over plain HTTP: a trust store, which takes longer to read than most answers, is not read."""
    headers = {"Content-Type": "application/json"}
    return httpx.request(method, url, content=content, headers=headers, timeout=60, verify=False)


@dataclass
class Stack:
    """What a test holds in its hands."""

    url: str
    name: str
    settings: Settings
    db: Database
    connections: GatedConnections
    shop: Shop
    folder: Path
    group: anyio.abc.TaskGroup

    @property
    def alias(self) -> str:
        """The alias that readers use."""
        return f"{self.name}-live"

    def gate(self, method: str, gate: Gate | None = None) -> Gate:
        """Stop the next call of a port's *method*, or do what another *gate* does."""
        self.connections.gates[method] = gate or Gate()
        return self.connections.gates[method]

    async def stopped_at(
        self, method: str, gate: Gate | None = None, strategy: Literal["full", "incremental", "repair"] = "full"
    ) -> tuple[Run, Gate]:
        """A run that stands before its first call of *method*, or where another *gate* stops it."""
        gate = self.gate(method, gate)
        run = await self.queued(strategy)
        with anyio.fail_after(WAIT):
            await gate.reached.wait()
        return run, gate

    async def declare(self, **parts: Any) -> None:
        """Declare the catalogue; *parts* are laid over the least that a declaration needs."""
        base: dict[str, Any] = {
            "source": {"kind": "index", "index": self.shop.alias},
            "target": {"alias": self.alias, "replicas": 0},
        }
        for name, part in parts.items():
            base[name] = {**base.get(name, {}), **part}
        async with self.db.writing() as session:
            await catalogues.declare(session, self.name, CatalogueSpec.model_validate(base), self.settings)

    async def order(self, **order: Any) -> Run:
        """Order a run, as `POST /sync` does; a full one, unless another *strategy* is named."""
        asked = orders.Asked(runs.Order(**{"catalogue": self.name, "strategy": "full", **order}), "tester")
        return await orders.place(self.db, self.connections, asked)

    async def sync(self, **order: Any) -> Run:
        """Order a run and wait for its end."""
        return await self.ended((await self.order(**order)).id)

    async def queued(self, strategy: Literal["full", "incremental", "repair"] = "full") -> Run:
        """A run that was admitted without asking the engine, so that gates are met by the run itself."""
        async with self.db.writing() as session:
            return await runs.request(session, runs.Order(catalogue=self.name, strategy=strategy), "tester")

    async def approve(self, run_id: str, deletions: int) -> Run:
        """Approve so many deletions, as the route does; the new run once it is over."""
        async with self.db.writing() as session:
            run = await approvals.approve(session, run_id, deletions, "tester")
        return await self.ended(run.id)

    async def cancel(self, run_id: str, who: str = "bob") -> Run:
        """Cancel a run, as the route does."""
        async with self.db.writing() as session:
            return await runs.cancel(session, run_id, who)

    async def ended(self, run_id: str, seconds: float = WAIT) -> Run:
        """The run once it is over."""
        return await self.until(run_id, lambda run: run.state in runs.OVER, seconds)

    async def until(self, run_id: str, fits: Callable[[Run], bool], seconds: float = WAIT) -> Run:
        """The run as soon as it *fits*."""
        with anyio.fail_after(seconds):
            while True:
                rung = self.db.bell.listen(run_id)
                async with self.db.reading() as session:
                    run = await runs.get(session, run_id)
                if fits(run):
                    return run
                await heard(rung, 0.1)

    async def rejects(self, run: Run) -> dict[str, tuple[str, str]]:
        """What a run left out: `{product: (by, code)}`."""
        async with self.db.reading() as session:
            rows, _ = await runs.rejects(session, run.id, limit=500)
        return {row.product_id: (row.by, row.code) for row in rows}

    async def generations(self) -> list[Generation]:
        """All generations, newest first."""
        async with self.db.reading() as session:
            return list((await generations.listed(session, self.name, limit=100))[0])

    async def changes(self) -> list[ChangeRow]:
        """The change log, newest first."""
        async with self.db.reading() as session:
            return list((await changes.listed(session, self.name, limit=500))[0])

    async def rollback(self, **how: Any) -> Mapping[str, Any]:
        """Roll back, as the route does."""
        return await switches.rollback(self.db, self.connections, self.name, who="tester", **how)

    def behind_alias(self) -> list[str]:
        """The indices that readers reach through the alias; empty when there is no alias."""
        answer = _request("GET", f"{self.url}/_alias/{self.alias}")
        return sorted(answer.json()) if answer.status_code == 200 else []

    def count(self) -> int:
        """Documents that readers see."""
        ask(self.url, "POST", f"/{self.alias}/_refresh")
        return int(ask(self.url, "GET", f"/{self.alias}/_count")["count"])

    def indices(self) -> list[str]:
        """All target indices of this catalogue that the engine has."""
        return sorted(ask(self.url, "GET", f"/{self.name}-2*/_settings"))

    def open_contexts(self) -> int:
        """Search contexts that are open on the source's index."""
        stats = ask(self.url, "GET", f"/{self.shop.alias}/_stats/search")
        return int(stats["_all"]["total"]["search"]["open_contexts"])

    async def work(self) -> Worker:
        """Start one more worker."""
        worker = Worker(self.db, self.connections, self.settings)
        await self.group.start(worker.run)
        return worker


@asynccontextmanager
async def stack(url: str, folder: Path, *, works: bool = True, **settings: Any) -> AsyncIterator[Stack]:
    """A stack on the engine at *url*; *settings* are laid over the defaults."""
    name = f"t{uuid4().hex[:10]}"
    made = Settings(
        **{
            "database_url": f"sqlite+aiosqlite:///{folder}/{name}.db",
            "engines": {"main": EngineSettings(url=url)},
            "embedders": {"local": EmbedderSettings(), "hashing": EmbedderSettings()},
            **settings,
        }
    )
    for engine in made.engines.values():
        if engine.vectors == EngineSettings().vectors:
            engine.vectors = f"{name}.vectors"  # what other tests embedded is not known here
    db, connections = await open_database(made.database_url.get_secret_value()), GatedConnections(made)
    await db.upgrade()
    try:
        async with anyio.create_task_group() as group:
            here = Stack(url, name, made, db, connections, Shop(url, f"{name}-shop"), folder, group)
            if works:
                await here.work()
            yield here
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await connections.close()
            await db.close()
        clear(url, name)


def clear(url: str, name: str) -> None:
    """Delete everything on the engine whose name begins with *name*."""
    for index in _request("GET", f"{url}/{name}*/_settings").json():
        _request("DELETE", f"{url}/{index}")  # a worker cut off may have got there first


def stock(count: int = 300, seed: int = 1, **how: Any) -> list[tuple[str, dict[str, Any]]]:
    """Some products."""
    return list(products(count, seed, **how))
