"""Catalogues, runs and the rest of the routes, as clients see them."""

from pathlib import Path
from typing import Any

import pytest

from app import generations, progress, runs
from app.db import WriteSession
from app.errors import Problem
from app.models import Catalogue, Generation, RejectRow
from app.paging import encode
from tests.api.conftest import SHOP, Service, is_problem, settings_for, started

pytestmark = pytest.mark.anyio

API = "/api/v1"


async def ordered(service: Service, catalogue: str = "shop") -> str:
    """A queued run, asked for as the worker's database sees it."""
    async with service.parts.db.writing() as session:
        return (await runs.request(session, runs.Order(catalogue=catalogue), "tester", request_id="req-1")).id


async def test_declare_show_list_change_and_forget(service: Service) -> None:
    made = await service.client.put(f"{API}/catalogues/shop", json=SHOP)
    assert made.status_code == 201
    body = made.json()
    assert body["name"] == "shop"
    assert body["target"]["alias"] == "shop-live"
    assert (body["live"], body["last_run"], body["held"], body["lag"]["oldest_seconds"]) == (None, None, False, None)
    again = await service.client.put(f"{API}/catalogues/shop", json=body | SHOP | {"policy": {"keep": 5}})
    is_problem(again, 422)
    changed = await service.client.put(f"{API}/catalogues/shop", json=SHOP | {"policy": {"keep": 5}})
    assert (changed.status_code, changed.json()["policy"]["keep"]) == (200, 5)
    listed = (await service.client.get(f"{API}/catalogues")).json()
    assert [one["name"] for one in listed["items"]] == ["shop"]
    assert listed["next_cursor"] is None
    assert (await service.client.get(f"{API}/catalogues/shop")).json()["policy"]["keep"] == 5
    assert (await service.client.delete(f"{API}/catalogues/shop")).status_code == 204
    is_problem(await service.client.get(f"{API}/catalogues/shop"), 404)
    audit = (await service.client.get(f"{API}/audit")).json()["items"]
    assert audit[0]["act"] == "forget"
    assert audit[0]["who"] == "local"


async def test_all_findings_of_a_declaration_come_at_once(service: Service) -> None:
    source = {"kind": "index", "engine": "nowhere", "index": "x"}
    bad = {"source": source, "target": {"alias": "a-live"}, "recipe": {"template": "{{ x"}}
    problem = is_problem(await service.client.put(f"{API}/catalogues/Shop", json=bad), 422)
    assert len(problem["errors"]) >= 3


@pytest.mark.parametrize("index", ["a,b", "shop_*", "_all", "../_all", "there:shop", "<shop-{now/d}>", "a b", "-a"])
async def test_a_source_is_one_name(service: Service, index: str) -> None:
    spec = SHOP | {"source": {"kind": "index", "index": index}}
    is_problem(await service.client.put(f"{API}/catalogues/shop", json=spec), 422, "invalid")


async def test_a_source_alias_may_have_upper_case(service: Service) -> None:
    spec = SHOP | {"source": {"kind": "index", "index": "Magento2_product_1"}}
    made = await service.client.put(f"{API}/catalogues/shop", json=spec)
    assert (made.status_code, made.json()["source"]["index"]) == (201, "Magento2_product_1")


async def test_an_alias_belongs_to_one_catalogue(shop: Service) -> None:
    is_problem(await shop.client.put(f"{API}/catalogues/other", json=SHOP), 409, "alias_taken")


async def test_lists_are_pages_with_a_link_to_the_next(service: Service) -> None:
    for number in range(5):
        spec = SHOP | {"target": {"alias": f"a{number}-live"}}
        assert (await service.client.put(f"{API}/catalogues/a{number}", json=spec)).status_code == 201
    seen, path = [], f"{API}/catalogues?limit=2"
    while path:
        answer = await service.client.get(path)
        seen += [one["name"] for one in answer.json()["items"]]
        path = answer.links["next"]["url"] if "next" in answer.links else ""
        assert bool(answer.json()["next_cursor"]) == bool(path)
        assert path == "" or "limit=2" in path
    assert seen == ["a0", "a1", "a2", "a3", "a4"]
    is_problem(await service.client.get(f"{API}/catalogues?cursor=nonsense"), 422, "cursor")
    outside = encode(["0001-01-01T00:00:00+23:59", "x"])
    is_problem(await service.client.get(f"{API}/runs?cursor={outside}"), 422, "cursor")
    is_problem(await service.client.get(f"{API}/catalogues?limit=0"), 422, "invalid")


async def test_a_run_is_shown_listed_canceled_and_retried(shop: Service) -> None:
    run_id = await ordered(shop)
    run = (await shop.client.get(f"{API}/runs/{run_id}")).json()
    assert (run["state"], run["requested_by"], run["request_id"]) == ("queued", "tester", "req-1")
    assert set(run["counts"]) >= {"source", "read", "loaded", "excluded", "rejected"}
    for query, count in (("catalogue=shop", 1), ("catalogue=other", 0), ("state=queued", 1), ("state=ready", 0)):
        assert len((await shop.client.get(f"{API}/runs?{query}")).json()["items"]) == count
    is_problem(await shop.client.get(f"{API}/runs?state=started"), 422)
    is_problem(await shop.client.post(f"{API}/runs/{run_id}/retry"), 409)
    canceled = await shop.client.post(f"{API}/runs/{run_id}/cancel")
    assert (canceled.status_code, canceled.json()["state"]) == (202, "canceled")
    is_problem(await shop.client.post(f"{API}/runs/{run_id}/cancel"), 409, "over")
    again = await shop.client.post(f"{API}/runs/{run_id}/retry", headers={"X-Request-ID": "again-1"})
    assert again.status_code == 202
    assert again.headers["location"] == f"{API}/runs/{again.json()['id']}"
    assert (again.json()["attempt"], again.json()["request_id"]) == (2, "again-1")
    is_problem(await shop.client.get(f"{API}/runs/none"), 404)
    is_problem(await shop.client.post(f"{API}/runs/none/cancel"), 404)


async def test_the_lines_of_a_run_as_json(shop: Service) -> None:
    run_id = await ordered(shop)
    async with shop.parts.db.writing() as session:
        for number in range(3):
            await progress.say(session, "shop", "note", {"number": number}, run_id)
    first = (await shop.client.get(f"{API}/runs/{run_id}/progress?limit=2")).json()
    assert [line["seq"] for line in first["items"]] == [1, 2]
    for further in ("after", "cursor"):
        rest = (await shop.client.get(f"{API}/runs/{run_id}/progress?{further}={first['next_cursor']}")).json()
        assert [line["seq"] for line in rest["items"]] == [3, 4]
        assert rest["next_cursor"] is None
    linked = (await shop.client.get(f"{API}/runs/{run_id}/progress?limit=2")).links["next"]["url"]
    assert (await shop.client.get(linked)).json()["items"] == rest["items"]
    assert {"seq", "at", "kind", "data"} <= rest["items"][0].keys()
    is_problem(await shop.client.get(f"{API}/runs/none/progress"), 404)
    is_problem(await shop.client.get(f"{API}/runs/{run_id}/progress?after=-1"), 422)


async def test_rejects_are_listed(shop: Service) -> None:
    run_id = await ordered(shop)
    async with shop.parts.db.writing() as session:
        session.add(RejectRow(run=run_id, product_id="7", by="data", code="no_name", detail="It has no name."))
    listed = (await shop.client.get(f"{API}/runs/{run_id}/rejects")).json()["items"]
    assert listed == [{"product_id": "7", "by": "data", "code": "no_name", "detail": "It has no name."}]
    is_problem(await shop.client.get(f"{API}/runs/none/rejects"), 404)


async def a_generation(session: WriteSession, **more: Any) -> Generation:
    generation = Generation(id="g1", catalogue="shop", engine="main", index="shop-20240101000000", **more)
    session.add(generation)
    await session.flush()
    return generation


async def test_generations_are_listed_and_rollback_says_when_there_is_none(shop: Service) -> None:
    assert (await shop.client.get(f"{API}/catalogues/shop/generations")).json() == {"items": [], "next_cursor": None}
    async with shop.parts.db.writing() as session:
        shown = generations.view(await a_generation(session, state="live", documents=3))
    assert (await shop.client.get(f"{API}/catalogues/shop/generations")).json()["items"] == [shown]
    assert (await shop.client.get(f"{API}/catalogues/shop")).json()["live"] == shown
    is_problem(await shop.client.get(f"{API}/catalogues/none/generations"), 404)
    is_problem(await shop.client.post(f"{API}/catalogues/none/rollback"), 404)
    is_problem(await shop.client.post(f"{API}/catalogues/shop/rollback", json={"too": "x"}), 422)


async def test_release_takes_the_hold_away(shop: Service) -> None:
    async with shop.parts.db.writing() as session:
        held = await session.get(Catalogue, "shop")
        assert held is not None
        held.held, held.held_reason = True, "rolled back"
    is_problem(await shop.client.post("/sync", json={"catalogue": "shop"}), 409, "held")
    released = await shop.client.post(f"{API}/catalogues/shop/release", json={"reason": "looked at it"})
    assert (released.status_code, released.json()["held"]) == (200, False)
    audit = (await shop.client.get(f"{API}/audit?catalogue=shop")).json()["items"]
    assert (audit[0]["act"], audit[0]["reason"]) == ("release", "looked at it")
    assert (await shop.client.post(f"{API}/catalogues/shop/release")).status_code == 200


async def test_probes_and_version(service: Service) -> None:
    for method in ("GET", "HEAD"):
        assert (await service.client.request(method, "/healthz")).status_code == 200
    ready = await service.client.get("/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    assert ready.json()["checks"]["database"]["ok"]
    assert not ready.json()["engines"]["main"]["ok"]
    version = (await service.client.get("/api/version")).json()
    assert version["version"]
    assert version["engines"].keys() == {"main"}
    assert len(version["models"]["local"]["digest"]) >= 32


async def test_a_service_that_needs_engines_is_not_ready_without_them(tmp_path: Path) -> None:
    async with started(settings_for(tmp_path, ready_needs_engines=True)) as service:
        answer = await service.client.get("/readyz")
        assert (answer.status_code, answer.json()["ready"]) == (503, False)


async def test_a_draining_service_is_alive_and_not_ready(service: Service) -> None:
    service.parts.draining.set()
    assert (await service.client.get("/healthz")).status_code == 200
    assert (await service.client.get("/readyz")).status_code == 503


async def test_catalogues_of_a_file_are_declared_at_start(tmp_path: Path) -> None:
    file = tmp_path / "catalogues.yaml"
    file.write_text("shop:\n  source: {kind: index, index: shop_products}\n  target: {alias: shop-live}\n")
    async with started(settings_for(tmp_path, catalogues_file=file)) as service:
        assert (await service.client.get(f"{API}/catalogues/shop")).status_code == 200
    file.write_text('{"catalogues": [{"name": "shop", "source": {"kind": "index", "index": "x"}, "target": {}}]}')
    with pytest.raises(Problem, match=r"shop\.target\.alias"):
        async with started(settings_for(tmp_path, catalogues_file=file)):
            raise AssertionError
    file.write_text("{")
    with pytest.raises(Problem, match="no valid YAML"):
        async with started(settings_for(tmp_path, catalogues_file=file)):
            raise AssertionError


async def test_the_page_and_its_assets_are_served(service: Service) -> None:
    page = await service.client.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    script = await service.client.get("/app.js")
    assert script.headers["content-type"].startswith("text/javascript")
    is_problem(await service.client.get("/../main.py"), 404)
    is_problem(await service.client.get("/%2e%2e/main.py"), 404)


async def test_generations_may_be_kept_by_the_day(service: Service) -> None:
    answer = await service.client.put(f"{API}/catalogues/shop", json=SHOP | {"policy": {"keep_daily": 7}})
    assert (answer.status_code, answer.json()["policy"]["keep_daily"]) == (201, 7)


async def test_queries_and_judgements_are_part_of_a_policy(service: Service) -> None:
    policy = {"queries": ["hat"], "qrels": "shop.qrels.tsv", "overlap_floor": 0.5}
    answer = await service.client.put(f"{API}/catalogues/shop", json=SHOP | {"policy": policy})
    assert answer.status_code == 201
    assert {name: answer.json()["policy"][name] for name in policy} == policy


@pytest.mark.parametrize(
    "policy",
    [
        {"window": "22:00-05:00"},
        {"schedule": "@daily"},
        {"changes_threshold": 7},
        {"minutes_threshold": 1},
        {"priority_fields": ["stock"]},
        {"runs_per_hour": 1},
        {"retries": 5, "retry_delay": 1},
    ],
)
async def test_a_policy_that_is_not_built_is_no_silence(service: Service, policy: dict[str, Any]) -> None:
    answer = await service.client.put(f"{API}/catalogues/shop", json=SHOP | {"policy": policy})
    problem = is_problem(answer, 422, "not_supported_yet")
    assert [found["where"] for found in problem["errors"]] == [f"policy.{name}" for name in policy]


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"refresh_interval": "5s"}, ["index.refresh_interval"]),
        ({"index": {"number_of_replicas": 2}}, ["index.number_of_replicas"]),
        ({"index.number_of_shards": 4, "codec": "default"}, ["index.number_of_shards"]),
        ({"codec": "default"}, []),
    ],
)
async def test_what_has_a_key_of_its_own_is_no_other_setting(
    service: Service, settings: dict[str, Any], wrong: list[str]
) -> None:
    spec = SHOP | {"target": {**SHOP["target"], "settings": settings}}
    answer = await service.client.put(f"{API}/catalogues/shop", json=spec)
    if not wrong:
        assert answer.status_code == 201
        return
    errors = is_problem(answer, 422, "invalid")["errors"]
    assert [found["where"] for found in errors] == [f"target.settings.{name}" for name in wrong]
    assert "say it as target." in errors[0]["why"]


@pytest.mark.parametrize("base_url", ["https://api.openai.com/v1", "https://api.openai.com/v1/"])
async def test_the_address_that_goes_without_saying_may_be_said(service: Service, base_url: str) -> None:
    spec = SHOP | {"recipe": {"embedder": {"provider": "openai", "base_url": base_url}}}
    assert (await service.client.put(f"{API}/catalogues/shop", json=spec)).status_code == 201
