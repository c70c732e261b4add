"""Events over HTTP: told, listed, replayed, dropped; what is refused and how."""

import json
from pathlib import Path
from typing import Any

import pytest

from app import claims
from app.sync.apply import Done, Failed
from tests.api.conftest import SHOP, TOKEN, Service, is_problem, settings_for, started

pytestmark = pytest.mark.anyio

API = "/api/v1"
EVENTS = f"{API}/catalogues/shop/events"
FIELDS = {
    "seq", "product_id", "action", "lane", "status", "attempts", "reason_code", "detail", "received_at",
    "next_retry_at", "done_at", "replay_count",
}  # fmt: skip


async def tell(service: Service, *told: Any) -> Any:
    events = [one if isinstance(one, dict) else {"product_id": one} for one in told]
    return await service.client.post(EVENTS, json={"events": events})


async def settled(service: Service, **outcomes: str) -> None:
    """What waits, claimed and settled: done, but those that fail for a reason."""
    async with service.parts.db.writing() as session:
        claim = await claims.claim(session, "shop", "w1", 60)
        assert claim is not None
        said = {one: Failed(code, "It cannot be.") for one, code in outcomes.items()}
        every = {one.product_id: said.get(one.product_id, Done()) for one in claim.entries}
        assert await claims.settle(session, claim, every) is None


async def listed(service: Service, query: str = "") -> list[dict[str, Any]]:
    answer = await service.client.get(f"{EVENTS}{query}")
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


# --- tell ------------------------------------------------------------------------------------------------------------


async def test_events_are_accepted_and_wait(shop: Service) -> None:
    answer = await tell(shop, "1", "2", {"product_id": "2", "action": "delete"}, {"product_id": "3", "id": "m"})
    assert answer.status_code == 202
    assert answer.json() == {"accepted": 4, "coalesced": 1, "duplicates": 0}
    assert (await tell(shop, {"product_id": "3", "id": "m"})).json()["duplicates"] == 1
    shown = await listed(shop)
    assert [(one["product_id"], one["action"], one["lane"], one["status"]) for one in shown] == [
        ("3", "upsert", "normal", "pending"),
        ("2", "delete", "priority", "pending"),
        ("1", "upsert", "normal", "pending"),
    ]
    assert all(one.keys() >= FIELDS for one in shown)
    assert all(one["received_at"].endswith("Z") for one in shown)


async def test_a_moment_is_taken_with_any_offset(shop: Service) -> None:
    for moment in ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00+02:00"):
        assert (await tell(shop, {"product_id": "1", "not_before": moment})).status_code == 202


async def test_a_thousand_at_once_are_accepted(shop: Service) -> None:
    answer = await tell(shop, *[{"product_id": str(n), "id": f"m{n}"} for n in range(1000)])
    assert answer.json() == {"accepted": 1000, "coalesced": 0, "duplicates": 0}
    is_problem(await tell(shop, *[str(n) for n in range(1001)]), 422, "invalid")


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "body.events"),
        ({"events": []}, "body.events"),
        ({"events": "1"}, "body.events"),
        ({"events": [{}]}, "body.events.0.product_id"),
        ({"events": [{"product_id": ""}]}, "body.events.0.product_id"),
        ({"events": [{"product_id": 1}]}, "body.events.0.product_id"),
        ({"events": [{"product_id": "x" * 513}]}, "body.events.0.product_id"),
        ({"events": [{"product_id": "1"}, {"product_id": "a\x00"}]}, "body.events.1.product_id"),
        ({"events": [{"product_id": "1", "id": "\x00"}]}, "body.events.0.id"),
        ({"events": [{"product_id": "1", "action": "remove"}]}, "body.events.0.action"),
        ({"events": [{"product_id": "1", "priority": "perhaps"}]}, "body.events.0.priority"),
        ({"events": [{"product_id": "1", "not_before": "2024-01-01T00:00:00"}]}, "body.events.0.not_before"),
        ({"events": [{"product_id": "1", "not_before": "9999-12-31T23:59:59-23:59"}]}, "body.events.0.not_before"),
        ({"events": [{"product_id": "1", "not_before": 1e300}]}, "body.events.0.not_before"),
        ({"events": [{"product_id": "1", "reason": "x"}]}, "body.events.0.reason"),
        ({"events": [{"product_id": "1"}], "more": 1}, "body.more"),
        ([], "body"),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
async def test_what_is_no_event_is_refused_with_its_place(shop: Service, body: Any, where: str) -> None:
    problem = is_problem(await shop.client.post(EVENTS, json=body), 422, "invalid")
    assert where in {found["where"] for found in problem["errors"]}
    assert await listed(shop) == []


async def test_an_unpaired_surrogate_is_no_json(shop: Service) -> None:
    body = b'{"events": [{"product_id": "\\ud800"}]}'
    answer = await shop.client.post(EVENTS, content=body, headers={"content-type": "application/json"})
    is_problem(answer, 400, "bad_json")


async def test_a_catalogue_that_is_not_there_has_no_events(shop: Service) -> None:
    body = {"events": [{"product_id": "1"}]}
    for name in ("none", "%00"):
        for method, path, json_body in (
            ("POST", "events", body),
            ("GET", "events", None),
            ("POST", "events/replay", {"reason": "x"}),
            ("POST", "events/drop", {"reason": "x"}),
        ):
            answer = await shop.client.request(method, f"{API}/catalogues/{name}/{path}", json=json_body)
            is_problem(answer, 404 if name == "none" else 422)


async def test_a_full_outbox_is_429_and_says_when(tmp_path: Path) -> None:
    async with started(settings_for(tmp_path, events_most=3)) as service:
        assert (await service.client.put(f"{API}/catalogues/shop", json=SHOP)).status_code == 201
        assert (await tell(service, "1", "2")).status_code == 202
        full = await tell(service, "3", "4")
        problem = is_problem(full, 429, "outbox_full")
        assert "EVENTS_MOST" in problem["detail"]
        assert full.headers["retry-after"] == "5"
        assert (await tell(service, "3")).status_code == 202


async def test_events_need_a_token_where_tokens_are_asked_for(guarded: Service) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert (await guarded.client.put(f"{API}/catalogues/shop", json=SHOP, headers=bearer)).status_code == 201
    is_problem(await tell(guarded, "1"), 401, "unauthorized")
    is_problem(await guarded.client.get(EVENTS), 401, "unauthorized")
    answer = await guarded.client.post(EVENTS, json={"events": [{"product_id": "1"}]}, headers=bearer)
    assert answer.status_code == 202


# --- look ------------------------------------------------------------------------------------------------------------


async def test_the_outbox_is_listed_by_status_and_product_page_by_page(shop: Service) -> None:
    await tell(shop, "1", "2", "3")
    await settled(shop, **{"2": "no_name"})
    await tell(shop, "1")
    assert [one["product_id"] for one in await listed(shop, "?status=failed")] == ["2"]
    assert [one["status"] for one in await listed(shop, "?product_id=1")] == ["pending", "done"]
    seen, path = [], f"{EVENTS}?limit=2&status=done"
    while path:
        answer = await shop.client.get(path)
        seen += [one["product_id"] for one in answer.json()["items"]]
        path = answer.links["next"]["url"] if "next" in answer.links else ""
    assert seen == ["3", "1"]
    (failed,) = await listed(shop, "?status=failed")
    assert (failed["reason_code"], failed["detail"], failed["attempts"]) == ("no_name", "It cannot be.", 0)
    assert failed["next_retry_at"] is None
    assert failed["done_at"].endswith("Z")


@pytest.mark.parametrize("query", ["status=dead", "limit=0", "cursor=x", "cursor=WyJ4Il0", "product_id=%00"])
async def test_a_list_that_cannot_be_asked_for_is_422(shop: Service, query: str) -> None:
    is_problem(await shop.client.get(f"{EVENTS}?{query}"), 422)


async def test_how_far_events_are_behind_stands_on_the_catalogue(shop: Service) -> None:
    await tell(shop, "1", "2", "3")
    await settled(shop, **{"2": "no_name"})
    await tell(shop, "1")
    lag = (await shop.client.get(f"{API}/catalogues/shop")).json()["lag"]
    assert lag.pop("oldest_seconds") >= 0
    assert lag == {"pending": 1, "due": 1, "processing": 0, "stuck": 0, "failed": 1, "withheld": 0}


# --- replay, drop ----------------------------------------------------------------------------------------------------


async def test_failed_events_are_replayed_and_audited(shop: Service) -> None:
    await tell(shop, "1", "2", "3")
    await settled(shop, **{"1": "no_name", "2": "no_name", "3": "rejected"})
    wanted = {"reason": "names are back", "reason_code": "no_name", "limit": 1}
    dry = await shop.client.post(f"{EVENTS}/replay", json={**wanted, "dry_run": True})
    assert (dry.status_code, dry.json()["replayed"]) == (200, 1)
    assert len(await listed(shop, "?status=failed")) == 3
    assert (await shop.client.post(f"{EVENTS}/replay", json=wanted)).json()["replayed"] == 1
    (again,) = await listed(shop, "?status=pending")
    assert (again["product_id"], again["replay_count"], again["reason_code"]) == ("1", 1, None)
    (entry,) = (await shop.client.get(f"{API}/audit?catalogue=shop")).json()["items"]
    assert (entry["act"], entry["who"], entry["reason"]) == ("replay", "local", "names are back")
    assert (entry["detail"]["count"], entry["detail"]["code"]) == (1, "no_name")


async def test_failed_events_are_dropped_and_audited(shop: Service) -> None:
    await tell(shop, "1", "2")
    await settled(shop, **{"1": "no_name", "2": "no_name"})
    dropped = await shop.client.post(f"{EVENTS}/drop", json={"reason": "they are no products"})
    assert (dropped.status_code, dropped.json()["dropped"]) == (200, 2)
    assert await listed(shop) == []
    (entry,) = (await shop.client.get(f"{API}/audit?catalogue=shop")).json()["items"]
    assert (entry["act"], entry["detail"]["products"]) == ("drop_events", ["1", "2"])


@pytest.mark.parametrize("act", ["replay", "drop"])
@pytest.mark.parametrize(
    "body",
    [{}, {"reason": ""}, {"reason": "x", "limit": 0}, {"reason": "x", "limit": 10_001}, {"reason": "x", "all": True}],
)
async def test_replaying_and_dropping_need_a_reason_and_a_limit(shop: Service, act: str, body: Any) -> None:
    is_problem(await shop.client.post(f"{EVENTS}/{act}", json=body), 422, "invalid")


@pytest.mark.parametrize("act", ["replay", "drop"])
async def test_a_reason_that_no_database_holds_is_422(shop: Service, act: str) -> None:
    await tell(shop, "1")
    await settled(shop, **{"1": "no_name"})
    is_problem(await shop.client.post(f"{EVENTS}/{act}", json={"reason": "a\x00"}), 422, "invalid_text")
    assert len(await listed(shop, "?status=failed")) == 1


async def test_the_routes_describe_themselves(shop: Service) -> None:
    paths = (await shop.client.get(f"{API}/openapi.json")).json()["paths"]
    assert paths[f"{API}/catalogues/{{name}}/events"].keys() == {"get", "post"}
    for path in ("catalogues/{name}/events/replay", "catalogues/{name}/events/drop", "hooks/{name}"):
        assert paths[f"{API}/{path}"].keys() == {"post"}
    assert paths[f"{API}/maintenance"].keys() == {"get", "put"}
