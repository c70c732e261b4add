"""An order becomes a run, a run becomes a generation, a generation is searched and rolled back: over HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.models import Generation
from tests.api.conftest import PRODUCTS, SHOP, Service, TwinConnections, ended, is_problem, settings_for, started

pytestmark = pytest.mark.anyio

API = "/api/v1"
SEARCH = f"{API}/catalogues/shop/search"


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[Service]:
    """As `twin`, without a worker: orders stay queued."""
    settings = settings_for(tmp_path)
    async with started(settings, connections=TwinConnections(settings)) as one:
        assert (await one.client.put(f"{API}/catalogues/shop", json=SHOP)).status_code == 201
        yield one


async def synced(service: Service, **order: Any) -> dict[str, Any]:
    asked = await service.client.post("/sync", json=order or None)
    assert asked.status_code == 202, asked.text
    run = await ended(service, asked.json()["id"])
    assert run["state"] == "ready", run["error"]
    return run


# --- orders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/sync", f"{API}/sync"])
async def test_an_empty_body_will_do_with_one_catalogue(idle: Service, path: str) -> None:
    asked = await idle.client.post(path, headers={"X-Request-ID": "cron-1"})
    assert asked.status_code == 202
    run = asked.json()
    assert asked.headers["location"] == f"{API}/runs/{run['id']}"
    assert (run["state"], run["catalogue"], run["requested_by"]) == ("queued", "shop", "local")
    assert run["request_id"] == "cron-1"


async def test_a_second_order_is_told_who_won(idle: Service) -> None:
    first = (await idle.client.post("/sync")).json()
    second = is_problem(await idle.client.post("/sync", json={"catalogue": "shop"}), 409, "active")
    assert second["run_id"] == first["id"]


async def test_the_same_key_is_the_same_run_and_another_body_is_refused(idle: Service) -> None:
    key = {"Idempotency-Key": "nightly-17"}
    first = await idle.client.post("/sync", json={"catalogue": "shop"}, headers=key)
    again = await idle.client.post("/sync", json={"catalogue": "shop"}, headers=key)
    assert (first.status_code, again.status_code, again.json()["id"]) == (202, 202, first.json()["id"])
    other = await idle.client.post("/sync", json={"catalogue": "shop", "reason": "x"}, headers=key)
    is_problem(other, 422, "idempotency_key_reused")
    is_problem(await idle.client.post("/sync", headers={"Idempotency-Key": "x" * 300}), 422)


async def test_a_repeated_key_needs_no_engine(idle: Service) -> None:
    key = {"Idempotency-Key": "nightly-18"}
    first = await idle.client.post("/sync", headers=key)
    connections = idle.parts.connections
    assert isinstance(connections, TwinConnections)
    connections.twin.indices.clear()
    again = await idle.client.post("/sync", headers=key)
    assert again.json()["id"] == first.json()["id"]


async def test_an_embedder_that_cannot_be_opened_is_a_finding(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, offline=True)
    async with started(settings, connections=TwinConnections(settings)) as one:
        spec = SHOP | {"recipe": {"embedder": {"provider": "openai"}}}
        assert (await one.client.put(f"{API}/catalogues/shop", json=spec)).status_code == 201
        problem = is_problem(await one.client.post("/sync"), 422, "offline")
        assert [finding["code"] for finding in problem["findings"]] == ["offline"]


async def test_while_read_only_an_order_that_was_taken_is_known_and_nothing_is_retried(idle: Service) -> None:
    key = {"Idempotency-Key": "nightly"}
    first = (await idle.client.post("/sync", headers=key)).json()["id"]
    assert (await idle.client.post(f"{API}/runs/{first}/cancel")).json()["state"] == "canceled"
    await idle.client.put(f"{API}/maintenance", json={"read_only": True})
    again = await idle.client.post("/sync", headers=key)
    assert (again.status_code, again.json()["id"]) == (202, first)
    is_problem(await idle.client.post(f"{API}/runs/{first}/retry"), 503, "read_only")


async def test_an_order_that_makes_no_sense_is_refused(idle: Service) -> None:
    is_problem(await idle.client.post("/sync", json={"strategy": "fast"}), 422, "invalid")
    is_problem(await idle.client.post("/sync", json={"catalog": "shop"}), 422, "invalid")
    is_problem(await idle.client.post("/sync", json={"catalogue": "none"}), 404)


async def test_an_order_names_its_catalogue_unless_there_is_one(idle: Service) -> None:
    spec = SHOP | {"target": {"alias": "other-live"}}
    assert (await idle.client.put(f"{API}/catalogues/other", json=spec)).status_code == 201
    problem = is_problem(await idle.client.post("/sync"), 422, "invalid")
    assert problem["errors"] == [{"where": "catalogue", "why": "name the catalogue: there are several"}]


async def test_what_could_not_succeed_is_refused_with_every_finding(idle: Service) -> None:
    spec = SHOP | {"source": {"kind": "index", "index": "not_there"}}
    assert (await idle.client.put(f"{API}/catalogues/shop", json=spec)).status_code == 200
    problem = is_problem(await idle.client.post("/sync"), 422)
    assert problem["title"] == "Refused before anything was built"
    assert "source_unresolved" in {found["code"] for found in problem["findings"]}
    assert (await idle.client.get(f"{API}/runs")).json()["items"] == []


async def test_an_engine_out_of_reach_is_a_finding(shop: Service) -> None:
    problem = is_problem(await shop.client.post("/sync"), 422)
    assert problem["findings"][0]["code"] == "engine_unavailable"


# --- the whole way ---------------------------------------------------------------------------------------------------


async def test_a_run_goes_live_is_searched_and_rolled_back(twin: Service) -> None:
    first = await synced(twin, strategy="full")
    assert first["counts"]["loaded"] == len(PRODUCTS)
    assert first["verdict"]["passed"]
    second = await synced(twin, strategy="full", reason="again")
    generations = (await twin.client.get(f"{API}/catalogues/shop/generations")).json()["items"]
    assert [one["state"] for one in generations] == ["live", "retired"]
    assert (await twin.client.get(f"{API}/catalogues/shop")).json()["live"]["id"] == second["generation"]
    rolled = await twin.client.post(f"{API}/catalogues/shop/rollback")
    assert rolled.json() == {"from": second["generation"], "to": first["generation"], "stale_since": None}
    is_problem(await twin.client.post("/sync"), 409, "held")
    is_problem(await twin.client.post(f"{API}/catalogues/shop/rollback"), 409)
    third = await synced(twin, catalogue="shop", strategy="full", release=True)
    assert third["state"] == "ready"
    metrics = (await twin.client.get("/metrics")).text
    assert 'reshelve_runs_total{state="ready",strategy="full"}' in metrics
    assert 'reshelve_last_success_timestamp_seconds{catalogue="shop"}' in metrics


async def test_search_finds_by_meaning_by_words_and_by_both(twin: Service) -> None:
    live = (await synced(twin))["generation"]
    for mode in ("vector", "lexical", "hybrid"):
        found = (await twin.client.post(SEARCH, json={"query": "blue jacket", "mode": mode, "k": 2})).json()
        assert found["hits"][0]["id"] == "2", mode
        assert (found["mode"], found["generation"], found["degraded"]) == (mode, live, False)
        assert "embedding" not in found["hits"][0]["document"]
        assert found["hits"][0]["document"]["sku"] == "SKU-2"
        assert len(found["hits"]) <= 2


async def test_filters_are_checked_against_the_fields_of_the_generation(twin: Service) -> None:
    await synced(twin)
    for wanted, ids in (
        ({"is_out_of_stock": True}, {"1", "3", "5"}),
        ({"price": {"gte": 2, "lte": 4}}, {"2", "3"}),
        ({"sku": ["SKU-1", "SKU-4"]}, {"1", "4"}),
        ({"category_ids": 3, "tenant": "default"}, {"3"}),
    ):
        ask = {"query": "jacket bottle table", "filter": wanted, "k": 100}
        found = (await twin.client.post(SEARCH, json=ask)).json()
        assert {hit["id"] for hit in found["hits"]} == ids, wanted
    bad: dict[str, Any] = {"colour": "red", "name": "red", "price": {"gt": 1}, "sku": {"gte": "a"}}
    bad |= {"is_out_of_stock": "maybe", "category_ids": [], "updated_at": {"gte": "yesterday"}}
    bad |= {"visibility": [3_000_000_000]}
    problem = is_problem(await twin.client.post(SEARCH, json={"query": "x", "filter": bad}), 422)
    assert {found["where"] for found in problem["errors"]} == {f"body.filter.{name}" for name in bad}


async def test_any_generation_that_is_whole_can_be_searched(twin: Service) -> None:
    first = (await synced(twin))["generation"]
    await synced(twin, strategy="full")
    found = (await twin.client.post(SEARCH, json={"query": "table", "generation": first})).json()
    assert (found["generation"], found["hits"][0]["id"]) == (first, "5")
    is_problem(await twin.client.post(SEARCH, json={"query": "table", "generation": "none"}), 404)
    async with twin.parts.db.writing() as session:
        old = await session.get(Generation, first)
        assert old is not None
        old.state = "dropped"
    is_problem(await twin.client.post(SEARCH, json={"query": "table", "generation": first}), 409, "not_searchable")


async def test_without_the_model_words_are_searched_and_the_answer_says_so(twin: Service) -> None:
    live = (await synced(twin))["generation"]
    async with twin.parts.db.writing() as session:
        generation = await session.get(Generation, live)
        assert generation is not None
        generation.embedder = {**(generation.embedder or {}), "version": "weights of last year"}
    found = (await twin.client.post(SEARCH, json={"query": "oak table"})).json()
    assert (found["mode"], found["degraded"], found["degraded_by"]["code"]) == ("lexical", True, "other_model")
    assert found["hits"][0]["id"] == "5"


async def test_without_a_live_generation_there_are_no_hits(idle: Service) -> None:
    found = await idle.client.post(SEARCH, json={"query": "anything"})
    assert found.status_code == 200
    assert found.json()["hits"] == []
    assert found.json()["generation"] is None
    is_problem(await idle.client.post(f"{API}/catalogues/none/search", json={"query": "x"}), 404)


@pytest.mark.parametrize(
    "ask",
    [
        {},
        {"query": ""},
        {"query": "  "},
        {"query": "x" * 2001},
        {"query": "x", "k": 0},
        {"query": "x", "k": 101},
        {"query": "x", "mode": "magic"},
        {"query": "x", "filter": {str(number): 1 for number in range(21)}},
        {"query": "x", "filters": {}},
        {"query": ["x"]},
    ],
)
async def test_questions_have_bounds(idle: Service, ask: dict[str, Any]) -> None:
    is_problem(await idle.client.post(SEARCH, json=ask), 422, "invalid")


async def test_what_search_does_not_do_yet_is_said(idle: Service) -> None:
    for more in ({"mmr": 0.5}, {"explain": True}):
        is_problem(await idle.client.post(SEARCH, json={"query": "x", **more}), 422, "not_supported_yet")


async def test_a_worker_at_work_is_reported(twin: Service) -> None:
    answer = (await twin.client.get("/readyz")).json()
    assert answer["checks"]["worker"] == {"ok": True}
    assert answer["engines"]["main"] == {"ok": True, "kind": "memory", "version": "1"}
