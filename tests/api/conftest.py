"""A service over a fresh SQLite file, without a worker: orders stay queued, and nothing but the test moves."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI

from app.config import AuthSettings, Settings
from app.connections import Connections
from app.db import heard
from app.deps import Parts
from app.main import create_app
from app.sync.engine_port import Engine
from app.sync.engines.memory import MemoryEngine

TOKEN = "a-token-for-tests"
TOKENS = {"tester": hashlib.sha256(TOKEN.encode()).hexdigest()}

SHOP: dict[str, Any] = {"source": {"kind": "index", "index": "shop_products"}, "target": {"alias": "shop-live"}}


class Service:
    """One running service and a client of it."""

    def __init__(self, app: FastAPI, client: httpx.AsyncClient) -> None:
        self.app, self.client = app, client

    @property
    def parts(self) -> Parts:
        parts: Parts = self.app.state.parts
        return parts


def settings_for(folder: Path, **more: Any) -> Settings:
    return Settings(
        database_url=f"sqlite+aiosqlite:///{folder / 'reshelve.db'}",  # type: ignore[arg-type]
        engines={"main": {"url": "http://127.0.0.1:9"}},  # type: ignore[dict-item]
        **more,
    )


@asynccontextmanager
async def started(settings: Settings, *, works: bool = False, **options: Any) -> AsyncIterator[Service]:
    app = create_app(settings, works=works, **options)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
            yield Service(app, client)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with started(settings_for(tmp_path)) as one:
        yield one


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Service]:
    """A service that asks for tokens."""
    async with started(settings_for(tmp_path, auth=AuthSettings(mode="token", tokens=TOKENS))) as one:
        yield one


@pytest.fixture
async def shop(service: Service) -> Service:
    """A service with one catalogue, `shop`."""
    answer = await service.client.put("/api/v1/catalogues/shop", json=SHOP)
    assert answer.status_code == 201, answer.text
    return service


def is_problem(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """Assert that *answer* is a problem document of *status*; its body."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "code", "request_id"} <= body.keys()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["type"].startswith("urn:")
    assert body["request_id"] == answer.headers["x-request-id"]
    assert code is None or body["code"] == code, body
    return body


# --- a shop in memory ------------------------------------------------------------------------------------------------

PRODUCTS: dict[str, dict[str, Any]] = {
    str(number): {
        "sku": f"SKU-{number}",
        "name": f"{colour} {thing}",
        "description": f"<p>A {colour} {thing} &amp; more</p>",
        "status": 1,
        "visibility": 4,
        "price_0_1": f"{number}.500000",
        "is_out_of_stock": number % 2,
        "category_ids": ["2", str(number)],
    }
    for number, (colour, thing) in enumerate(
        [("red", "jacket"), ("blue", "jacket"), ("green", "bottle"), ("steel", "bottle"), ("oak", "table")], start=1
    )
}
PROPERTIES = {name: {"type": "text"} for name in ("sku", "name", "description", "price_0_1")} | {
    "status": {"type": "integer"},
    "visibility": {"type": "integer"},
    "is_out_of_stock": {"type": "integer"},
    "category_ids": {"type": "keyword"},
}


class TwinConnections(Connections):
    """One engine, in memory, under every name; the shop's index in it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.twin = MemoryEngine()
        self.twin.seed("shop_products", PRODUCTS, properties=PROPERTIES)

    async def engine(self, name: str) -> Engine:
        return self.twin


async def ended(service: Service, run_id: str, seconds: float = 30) -> dict[str, Any]:
    """The run, once it has ended."""
    with anyio.fail_after(seconds):
        while True:
            rung = service.parts.db.bell.listen(run_id)
            run: dict[str, Any] = (await service.client.get(f"/api/v1/runs/{run_id}")).json()
            if run["state"] not in ("queued", "running"):
                return run
            await heard(rung, 1)


@pytest.fixture
async def twin(tmp_path: Path) -> AsyncIterator[Service]:
    """A service with a worker, the catalogue `shop`, and its engine in memory."""
    settings = settings_for(tmp_path)
    async with started(settings, works=True, connections=TwinConnections(settings)) as one:
        answer = await one.client.put("/api/v1/catalogues/shop", json=SHOP)
        assert answer.status_code == 201, answer.text
        yield one
