"""Two generations side by side over HTTP, and two models that serve side by side behind two aliases of one engine."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.config import EmbedderSettings, EngineSettings
from app.models import Catalogue, Generation
from tests.api.conftest import PRODUCTS, SHOP, Service, ended, is_problem, settings_for, started
from tests.stack import Shop, clear

pytestmark = pytest.mark.anyio

API = "/api/v1"
COMPARE = f"{API}/catalogues/shop/compare"
HASHED = {"recipe": {"embedder": {"provider": "hashing", "dims": 32}}}
TRIED = SHOP | {"target": {"alias": "tried-live"}}
EMBEDDERS = {"local": EmbedderSettings(), "hashing": EmbedderSettings()}


async def synced(service: Service, catalogue: str = "shop") -> str:
    """The generation that a full run made live."""
    asked = await service.client.post("/sync", json={"catalogue": catalogue, "strategy": "full"})
    assert asked.status_code == 202, asked.text
    run = await ended(service, asked.json()["id"], 120)
    assert run["state"] == "ready", run["error"]
    return str(run["generation"])


async def compared(service: Service, **wanted: Any) -> dict[str, Any]:
    answer = await service.client.post(COMPARE, json=wanted)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


# --- two models on a real engine -------------------------------------------------------------------------------------


@pytest.fixture(params=["elasticsearch9", "opensearch3"])
async def two(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Service]:
    """The catalogues `shop` (the local model) and `tried` (another one, of 32 dims) over one source, both live."""
    url, name = request.getfixturevalue(request.param), f"cmp{tmp_path.name.replace('_', '')}".lower()
    source = Shop(url, f"{name}-source")
    settings = settings_for(tmp_path, embedders=EMBEDDERS)
    settings = settings.model_copy(update={"engines": {"main": EngineSettings(url=url)}})
    try:
        source.fill(PRODUCTS.items(), {"settings": {"number_of_replicas": 0}})
        async with started(settings, works=True) as one:
            for catalogue, more in (("shop", {}), ("tried", HASHED)):
                spec = {"source": {"index": source.alias}, "target": {"alias": f"{name}-{catalogue}", "replicas": 0}}
                assert (await one.client.put(f"{API}/catalogues/{catalogue}", json=spec | more)).status_code == 201
                await synced(one, catalogue)
            yield one
    finally:
        clear(url, name)


async def test_two_models_serve_side_by_side_and_each_is_asked_in_its_own_terms(two: Service) -> None:
    for catalogue in ("shop", "tried"):
        search = f"{API}/catalogues/{catalogue}/search"
        found = (await two.client.post(search, json={"query": "blue jacket", "k": 2})).json()
        assert (found["degraded"], found["mode"], found["hits"][0]["id"]) == (False, "vector", "2"), catalogue
    body = await compared(two, **{"with": "tried", "k": 3})
    assert [body[side]["catalogue"] for side in ("left", "right")] == ["shop", "tried"]
    assert [body[side]["embedder"]["dims"] for side in ("left", "right")] != [32, 32]
    assert body["right"]["embedder"]["dims"] == 32
    assert [body[side]["degraded_by"] for side in ("left", "right")] == [None, None]
    assert body["queries_from"] == "names"
    assert {row["query"] for row in body["queries"]} == {product["name"] for product in PRODUCTS.values()}
    for row in body["queries"]:
        assert row["left"][0]["name"] == row["right"][0]["name"] == row["query"]
        ids = [{hit["id"] for hit in row[side]} for side in ("left", "right")]
        assert row["overlap"] == pytest.approx(len(ids[0] & ids[1]) / 3)
    assert body["overlap"] == pytest.approx(sum(row["overlap"] for row in body["queries"]) / len(body["queries"]))


# --- which two, by which queries -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["vector", "lexical", "hybrid"])
async def test_generations_of_the_same_products_answer_the_same(twin: Service, mode: str) -> None:
    before, now = await synced(twin), await synced(twin)
    body = await compared(twin, **{"with": before, "queries": [" oak table "], "mode": mode, "k": 2})
    assert (body["left"]["generation"], body["right"]["generation"], body["k"]) == (now, before, 2)
    assert (body["left"]["mode"], body["queries_from"], body["overlap"]) == (mode, "request", 1.0)
    row = body["queries"][0]
    assert (row["query"], row["moved"]) == ("oak table", [])
    assert row["left"] == row["right"]
    assert (row["left"][0]["id"], row["left"][0]["name"]) == ("5", "oak table")


async def test_the_queries_of_the_policy_come_before_names(twin: Service) -> None:
    before = await synced(twin)
    await synced(twin)
    async with twin.parts.db.writing() as session:
        catalogue = await session.get_one(Catalogue, "shop")
        declared = ["", " oak table ", "x" * 3000, *["lamp"] * 60]
        catalogue.spec = {**catalogue.spec, "policy": {"queries": declared}}
    body = await compared(twin, **{"with": before, "mode": "lexical"})
    assert (body["queries_from"], len(body["queries"])) == ("policy", 50)
    assert [row["query"] for row in body["queries"][:3]] == ["oak table", "x" * 2000, "lamp"]


async def test_what_moved_is_told_with_both_ranks(twin: Service) -> None:
    before = await synced(twin)
    other = {**PRODUCTS["5"], "name": "pine bench", "description": "To sit on."}
    twin.parts.connections.twin.seed("shop_products", {**PRODUCTS, "5": other})
    await synced(twin)
    body = await compared(twin, **{"with": before, "queries": ["oak table"], "mode": "lexical"})
    assert body["queries"][0]["moved"] == [{"id": "5", "left": None, "right": 1}]
    assert body["queries"][0]["overlap"] == body["overlap"] == 0.0


async def test_a_side_without_its_model_says_so(twin: Service) -> None:
    before = await synced(twin)
    await synced(twin)
    async with twin.parts.db.writing() as session:
        old = await session.get(Generation, before)
        assert old is not None
        old.embedder = {**(old.embedder or {}), "version": "weights of last year"}
    body = await compared(twin, **{"with": before, "queries": ["oak table"]})
    assert (body["left"]["mode"], body["left"]["degraded_by"]) == ("vector", None)
    assert (body["right"]["mode"], body["right"]["degraded_by"]["code"]) == ("lexical", "other_model")


async def test_what_cannot_be_compared_is_said(twin: Service) -> None:
    is_problem(await twin.client.post(COMPARE, json={"with": "tried"}), 409, "no_live_generation")
    before = await synced(twin)
    await synced(twin)
    is_problem(await twin.client.post(COMPARE, json={"with": "nothing"}), 404)
    is_problem(await twin.client.post(COMPARE, json={"with": "shop"}), 404)
    is_problem(await twin.client.post(f"{API}/catalogues/none/compare", json={"with": "shop"}), 404)
    assert (await twin.client.put(f"{API}/catalogues/tried", json=TRIED)).status_code == 201
    is_problem(await twin.client.post(COMPARE, json={"with": "tried"}), 409, "no_live_generation")
    async with twin.parts.db.writing() as session:
        old = await session.get(Generation, before)
        assert old is not None
        old.state = "dropped"
    is_problem(await twin.client.post(COMPARE, json={"with": before}), 409, "not_searchable")


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"with": ""},
        {"with": "x", "queries": []},
        {"with": "x", "queries": ["  "]},
        {"with": "x", "queries": ["y"] * 51},
        {"with": "x", "k": 0},
        {"with": "x", "mode": "magic"},
        {"with": "x", "other": "y"},
    ],
)
async def test_a_comparison_has_bounds(shop: Service, wanted: dict[str, Any]) -> None:
    is_problem(await shop.client.post(COMPARE, json=wanted), 422, "invalid")
