"""Read-only, paused, projection off: what operators switch, what it does, and that it is audited."""

from typing import Any

import pytest

from tests.api.conftest import Service, ended, is_problem

pytestmark = pytest.mark.anyio

API = "/api/v1"
MODE = f"{API}/maintenance"
EVENTS = {"events": [{"product_id": "1"}]}


async def audited(service: Service) -> list[tuple[Any, ...]]:
    items = (await service.client.get(f"{API}/audit")).json()["items"]
    return [(one["act"], one["catalogue"], one["who"], one["reason"], one["detail"]) for one in items]


# --- read-only -------------------------------------------------------------------------------------------------------


async def test_the_mode_is_shown_switched_and_audited(service: Service) -> None:
    assert (await service.client.get(MODE)).json() == {"read_only": False, "message": None}
    on = await service.client.put(MODE, json={"read_only": True, "message": "moving house"})
    assert (on.status_code, on.json()) == (200, {"read_only": True, "message": "moving house"})
    assert (await service.client.get(MODE)).json() == on.json()
    assert (await service.client.put(MODE, json=on.json())).status_code == 200
    off = await service.client.put(MODE, json={"read_only": False})
    assert off.json() == {"read_only": False, "message": None}
    assert await audited(service) == [
        ("maintenance", None, "local", None, {"read_only": False}),
        ("maintenance", None, "local", "moving house", {"read_only": True}),
    ]


@pytest.mark.parametrize(
    "body",
    [{}, {"message": "x"}, {"read_only": "perhaps"}, {"read_only": True, "message": "x" * 1001}, {"more": 1}, []],
)
async def test_what_is_no_mode_is_422(service: Service, body: Any) -> None:
    is_problem(await service.client.put(MODE, json=body), 422, "invalid")


async def test_a_message_that_no_database_holds_is_422(service: Service) -> None:
    is_problem(await service.client.put(MODE, json={"read_only": True, "message": "\x00"}), 422, "invalid_text")
    assert (await service.client.get(MODE)).json()["read_only"] is False


async def test_while_read_only_events_are_accepted_and_no_run_is_ordered(shop: Service) -> None:
    await shop.client.put(MODE, json={"read_only": True, "message": "moving house"})
    assert (await shop.client.post(f"{API}/catalogues/shop/events", json=EVENTS)).status_code == 202
    for path, body in (("/sync", {}), (f"{API}/sync", {"dry_run": True}), (f"{API}/catalogues/shop/rollback", {})):
        refused = await shop.client.post(path, json=body)
        problem = is_problem(refused, 503, "read_only")
        assert "moving house" in problem["detail"]
        assert refused.headers["retry-after"] == "60"
    assert (await shop.client.get(f"{API}/runs")).json()["items"] == []


async def test_what_came_while_read_only_is_applied_afterwards(twin: Service) -> None:
    await ended(twin, (await twin.client.post("/sync", json={"strategy": "full"})).json()["id"])
    await twin.client.put(MODE, json={"read_only": True})
    await twin.client.post(f"{API}/catalogues/shop/events", json=EVENTS)
    lag = (await twin.client.get(f"{API}/catalogues/shop")).json()["lag"]
    assert (lag["pending"], lag["processing"]) == (1, 0)
    await twin.client.put(MODE, json={"read_only": False})
    answer = await twin.client.post("/sync", json={"strategy": "full"})
    assert answer.status_code == 202, answer.text
    assert (await ended(twin, answer.json()["id"]))["state"] == "ready"


# --- one catalogue ---------------------------------------------------------------------------------------------------


async def test_a_catalogue_is_paused_and_goes_on(shop: Service) -> None:
    for paused in (True, True, False):
        answer = await shop.client.patch(f"{API}/catalogues/shop", json={"paused": paused})
        assert (answer.status_code, answer.json()["paused"]) == (200, paused)
    assert (await shop.client.post(f"{API}/catalogues/shop/events", json=EVENTS)).status_code == 202
    assert await audited(shop) == [
        ("switch", "shop", "local", None, {"changed": {"paused": False}}),
        ("switch", "shop", "local", None, {"changed": {"paused": True}}),
    ]


async def test_with_its_projection_off_a_search_is_empty_and_says_so(twin: Service) -> None:
    await ended(twin, (await twin.client.post("/sync", json={"strategy": "full"})).json()["id"])

    async def search(mode: str) -> dict[str, Any]:
        answer = await twin.client.post(f"{API}/catalogues/shop/search", json={"query": "jacket", "mode": mode})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    for mode in ("lexical", "vector", "hybrid"):
        assert (await search(mode))["hits"]
    off = await twin.client.patch(f"{API}/catalogues/shop", json={"projection": "off"})
    assert (off.status_code, off.json()["projection"]) == (200, "off")
    for mode in ("lexical", "vector", "hybrid"):
        found = await search(mode)
        assert (found["hits"], found["projection"], found["mode"], found["degraded"]) == ([], "off", mode, False)
    assert (await twin.client.patch(f"{API}/catalogues/shop", json={"projection": "on"})).json()["projection"] == "on"
    found = await search("lexical")
    assert found["hits"]
    assert "projection" not in found
    assert [entry[4]["changed"] for entry in await audited(twin)] == [{"projection": True}, {"projection": False}]


@pytest.mark.parametrize(
    "body", [{"paused": "perhaps"}, {"projection": "dim"}, {"projection": True}, {"held": False}, {"pause": True}, []]
)
async def test_what_cannot_be_switched_is_422(shop: Service, body: Any) -> None:
    is_problem(await shop.client.patch(f"{API}/catalogues/shop", json=body), 422, "invalid")


async def test_an_unknown_catalogue_cannot_be_switched(shop: Service) -> None:
    is_problem(await shop.client.patch(f"{API}/catalogues/none", json={"paused": True}), 404, "not_found")
