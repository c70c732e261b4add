"""The trace of one product over HTTP: what each side holds, the one answer, ids of any spelling."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from app.config import EngineSettings
from app.errors import EngineUnavailable
from app.models import ChangeRow, RejectRow
from app.sync.engines.memory import MemoryEngine
from app.trace import shown
from tests.api.conftest import (
    PRODUCTS,
    PROPERTIES,
    SHOP,
    Service,
    TwinConnections,
    ended,
    is_problem,
    settings_for,
    started,
)
from tests.api.test_compare import synced
from tests.stack import Shop, ask, clear

pytestmark = pytest.mark.anyio

API = "/api/v1"
ODD = ["a/b", "a b?c=1", "50%", "ä#1", "..", "/x/", "a+b&c", "%2F"]
"""Ids as shops have them, and worse."""


async def asked(service: Service, product: str, catalogue: str = "shop") -> Any:
    path = quote(product, safe="").replace(".", "%2E")
    return await service.client.get(f"{API}/catalogues/{catalogue}/products/{path}")


async def traced(service: Service, product: str) -> dict[str, Any]:
    answer = await asked(service, product)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body["product_id"] == product
    return body


async def code_of(service: Service, product: str) -> str:
    return str((await traced(service, product))["why"]["code"])


def engine_of(service: Service) -> MemoryEngine:
    assert isinstance(service.parts.connections, TwinConnections)
    return service.parts.connections.twin


def shelve(service: Service, **changed: Any) -> None:
    """The shop's index anew: products by id, None for one that is gone."""
    stock = {key: product for key, product in {**PRODUCTS, **changed}.items() if product is not None}
    engine_of(service).seed("shop_products", stock, properties=PROPERTIES)


async def live_index(service: Service) -> Any:
    live = (await service.client.get(f"{API}/catalogues/shop")).json()["live"]
    return engine_of(service).indices[live["index"]]


# --- what is told ----------------------------------------------------------------------------------------------------


async def test_a_product_is_followed_from_the_source_to_every_generation(twin: Service) -> None:
    before, now = await synced(twin), await synced(twin)
    shelve(twin, **{"2": {**PRODUCTS["2"], "price_0_1": "99.000000"}})
    body = await traced(twin, "2")
    assert body["why"]["code"] == "stale"
    assert "in: price." in body["why"]["detail"]
    source = body["source"]
    assert (source["index"], source["found"], source["reject"]) == ("shop_products", True, None)
    assert source["content"]["price_0_1"] == "99.000000"
    assert source["document"]["fields"]["price"] == 99.0
    assert "blue jacket" in source["document"]["text"]
    assert [one["generation"] for one in body["generations"]] == [now, before]
    for one in body["generations"]:
        assert (one["present"], one["has_vector"], one["equals_source"], one["differs"]) == (
            True,
            True,
            False,
            ["price"],
        )
        assert one["version"] > 0
        assert one["text_hash"] == source["document"]["text_hash"]
        assert one["content_hash"] != source["document"]["content_hash"]
        assert one["input_hash"] != source["document"]["input_hash"]
        assert one["embed_model_alias"]
        assert one["updated_at"].endswith("Z")
    assert body["last_event"] is None
    assert await code_of(twin, "1") == "current"


async def test_a_deletion_that_a_guard_kept_back_waits_for_somebody(twin: Service) -> None:
    await synced(twin)
    policy = {"shrink": {"documents": 0, "percent": 0}, "settle_seconds": 0}
    await twin.client.put(f"{API}/catalogues/shop", json=SHOP | {"policy": policy})
    shelve(twin, **{"1": None})
    assert "the next run removes it" in (await traced(twin, "1"))["why"]["detail"]
    run = (await twin.client.post("/sync")).json()["id"]
    await ended(twin, run)
    assert f"run {run} withheld deletions" in (await traced(twin, "1"))["why"]["detail"]


async def test_each_state_has_its_answer(twin: Service) -> None:
    assert await code_of(twin, "1") == "no_live_generation"
    await synced(twin)
    hidden, broken = {**PRODUCTS["3"], "status": 2}, {**PRODUCTS["4"], "price_0_1": "much"}
    shelve(twin, **{"1": None, "3": hidden, "4": broken, "9": PRODUCTS["5"]})
    index = await live_index(twin)
    index.documents["2"] = replace(index.documents["2"], vector=None)
    assert {product: await code_of(twin, product) for product in "123459"} == {
        "1": "orphaned",
        "2": "without_vector",
        "3": "left_out_by_rule",
        "4": "rejected",
        "5": "current",
        "9": "missing",
    }
    del index.documents["5"]
    assert await code_of(twin, "5") == "missing"
    engine_of(twin).indices.pop(index.name)
    body = await traced(twin, "2")
    assert body["why"]["code"] == "index_missing"
    assert [one["index_missing"] for one in body["generations"]] == [True]
    engine_of(twin).indices.pop("shop_products")
    body = await traced(twin, "2")
    assert (body["why"]["code"], body["source"]["found"]) == ("source_unresolved", None)
    assert body["source"]["trouble"]["code"] == "source_unresolved"


async def test_another_recipe_is_no_other_source(twin: Service) -> None:
    await synced(twin)
    spec = SHOP | {"recipe": {"template": "{{ sku }}"}}
    assert (await twin.client.put(f"{API}/catalogues/shop", json=spec)).status_code == 200
    body = await traced(twin, "2")
    assert (body["why"]["code"], body["generations"][0]["equals_source"]) == ("recipe_changed", True)
    assert body["source"]["document"]["text"] == "SKU-2"


async def test_the_last_change_and_the_last_reject_are_told(twin: Service) -> None:
    await synced(twin)
    run = (await twin.client.get(f"{API}/runs")).json()["items"][0]["id"]
    async with twin.parts.db.writing() as session:
        session.add(ChangeRow(catalogue="shop", run=run, product_id="gone", kind="deleted", fields=[]))
        session.add(RejectRow(run=run, product_id="bad", by="data", code="unfit", detail="price is no number"))
    body = await traced(twin, "gone")
    assert (body["why"]["code"], body["last_change"]["kind"], body["last_change"]["run"]) == (
        "not_in_source",
        "deleted",
        run,
    )
    body = await traced(twin, "bad")
    assert (body["last_reject"]["code"], body["last_reject"]["run"], body["last_change"]) == ("unfit", run, None)


# --- ids, and what cannot be told ------------------------------------------------------------------------------------


@pytest.mark.parametrize("product", ODD)
async def test_an_id_may_have_any_spelling(twin: Service, product: str) -> None:
    shelve(twin, **{product: PRODUCTS["1"]})
    body = await traced(twin, product)
    assert (body["source"]["found"], body["why"]["code"]) == (True, "no_live_generation")


async def test_what_nobody_knows_is_not_found(twin: Service) -> None:
    await synced(twin)
    problem = is_problem(await asked(twin, "a/none"), 404, "unknown_product")
    assert "'a/none'" in problem["detail"]
    is_problem(await asked(twin, ""), 404, "unknown_product")
    is_problem(await asked(twin, "x" * 600), 404, "unknown_product")
    is_problem(await asked(twin, "1", "none"), 404, "not_found")
    is_problem(await asked(twin, "a\x00b"), 422)


async def test_an_engine_that_is_away_is_no_absence(twin: Service) -> None:
    await synced(twin)

    async def away(method: str, _arguments: Any) -> None:
        if method == "get":
            raise EngineUnavailable("main does not answer.")

    engine_of(twin).before = away
    is_problem(await asked(twin, "1"), 503, "engine_unavailable")


async def test_an_engine_that_was_never_there_is_no_absence(shop: Service) -> None:
    is_problem(await asked(shop, "1"), 503, "engine_unavailable")


async def test_what_json_cannot_carry_is_shown_as_far_as_it_can() -> None:
    assert shown({"name": "a\ud800b", "many": 2**70, "n": [1, None, 2.5]}) == {
        "name": "a?b",
        "many": float(2**70),
        "n": [1, None, 2.5],
    }


# --- real engines ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["elasticsearch9", "opensearch3"])
async def real(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Service, Shop, str]]:
    url, name = request.getfixturevalue(request.param), f"trc{tmp_path.name.replace('_', '')}".lower()
    source = Shop(url, f"{name}-source")
    settings = settings_for(tmp_path).model_copy(update={"engines": {"main": EngineSettings(url=url)}})
    try:
        stock = [*PRODUCTS.items(), *((product, PRODUCTS["1"]) for product in ODD)]
        source.fill(stock, {"settings": {"number_of_replicas": 0}})
        async with started(settings, works=True) as one:
            spec = {"source": {"index": source.alias}, "target": {"alias": f"{name}-live", "replicas": 0}}
            assert (await one.client.put(f"{API}/catalogues/shop", json=spec)).status_code == 201
            await synced(one)
            yield one, source, url
    finally:
        clear(url, name)


async def test_real_engines_are_asked_in_real_time(real: tuple[Service, Shop, str]) -> None:
    service, source, url = real
    for product in ("2", *ODD):
        body = await traced(service, product)
        assert body["why"]["code"] == "current", (product, body["why"])
        one = body["generations"][0]
        assert (one["equals_source"], one["has_vector"], one["differs"]) == (True, True, [])
        assert one["content_hash"] == body["source"]["document"]["content_hash"]
    index = body["generations"][0]["index"]
    ask(url, "DELETE", f"/{index}/_doc/3")
    ask(url, "DELETE", f"/{source.indices[-1]}/_doc/4")
    assert {product: await code_of(service, product) for product in "234"} == {
        "2": "current",
        "3": "missing",
        "4": "orphaned",
    }
    is_problem(await asked(service, "not/there"), 404, "unknown_product")
