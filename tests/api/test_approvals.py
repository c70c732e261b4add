"""Approving withheld deletions, and the change log, over HTTP."""

from typing import Any

import pytest

from app import runs
from app.ledger import RunLedger
from app.sync.engines.memory import MemoryEngine
from app.sync.words import Change, Withheld
from tests.api.conftest import TOKEN, Service, is_problem

pytestmark = pytest.mark.anyio

API = "/api/v1"
CHANGES = f"{API}/catalogues/shop/changes"


async def worked(service: Service, *withheld: Withheld) -> str:
    """A run that found changes and withheld some; its id."""
    db = service.parts.db
    async with db.writing() as session:
        await runs.request(session, runs.Order(catalogue="shop", reason="nightly"), "cron")
    async with db.writing() as session:
        run = await runs.claim(session, "w1", 60)
    assert run is not None
    ledger = RunLedger(db, MemoryEngine(), run)
    await ledger.withhold(withheld)
    await ledger.changes([Change("1", "added"), Change("2", "modified", ("price",)), Change("24-MB/01", "deleted")])
    async with db.writing() as session:
        await runs.finish(session, run.id, run.fence, "ready")
    return run.id


# --- approve ---------------------------------------------------------------------------------------------------------


async def test_an_approval_is_accepted_once(shop: Service) -> None:
    old = await worked(shop, Withheld("mass_delete", 50, 120))
    path = f"{API}/runs/{old}/approve"
    accepted = await shop.client.post(path, json={"deletions": 120}, headers={"X-Request-ID": "q-1"})
    run: dict[str, Any] = accepted.json()
    assert accepted.status_code == 202
    assert accepted.headers["location"] == f"{API}/runs/{run['id']}"
    assert (run["ceiling"], run["approves"], run["trigger"], run["reason"]) == (120, old, "approval", "nightly")
    assert (run["state"], run["request_id"], run["requested_by"]) == ("queued", "q-1", "local")
    problem = is_problem(await shop.client.post(path, json={"deletions": 120}), 409, "approved_already")
    assert problem["run_id"] == run["id"]
    (entry, *_) = (await shop.client.get(f"{API}/audit?catalogue=shop")).json()["items"]
    assert (entry["act"], entry["subject"], entry["detail"]) == ("approve", old, {"deletions": 120})


@pytest.mark.parametrize(
    "body",
    [{}, {"deletions": 0}, {"deletions": -1}, {"deletions": "3"}, {"deletions": True}, {"deletions": 2**40}, [], 3],
)
async def test_an_approval_names_a_number(shop: Service, body: Any) -> None:
    old = await worked(shop, Withheld("mass_delete", 50, 120))
    is_problem(await shop.client.post(f"{API}/runs/{old}/approve", json=body), 422, "invalid")


async def test_an_approval_that_makes_no_sense_is_a_conflict(shop: Service) -> None:
    nothing = await worked(shop)
    is_problem(await shop.client.post(f"{API}/runs/{nothing}/approve", json={"deletions": 1}), 409, "nothing_withheld")
    is_problem(await shop.client.post(f"{API}/runs/none/approve", json={"deletions": 1}), 404)


async def test_nobody_approves_without_a_token(guarded: Service) -> None:
    is_problem(await guarded.client.post(f"{API}/runs/x/approve", json={"deletions": 1}), 401)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    is_problem(await guarded.client.post(f"{API}/runs/x/approve", json={"deletions": 1}, headers=headers), 404)


# --- changes ---------------------------------------------------------------------------------------------------------


async def test_the_change_log_is_read_newest_first_in_pages(shop: Service) -> None:
    run = await worked(shop)
    page = await shop.client.get(f"{CHANGES}?limit=2")
    first = page.json()
    assert [(row["product_id"], row["kind"], row["fields"], row["run"]) for row in first["items"]] == [
        ("24-MB/01", "deleted", [], run),
        ("2", "modified", ["price"], run),
    ]
    assert 'rel="next"' in page.headers["link"]
    rest = (await shop.client.get(f"{CHANGES}?limit=2&cursor={first['next_cursor']}")).json()
    assert ([row["product_id"] for row in rest["items"]], rest["next_cursor"]) == (["1"], None)


async def test_the_change_log_is_asked_by_product_and_time(shop: Service) -> None:
    await worked(shop)
    at = (await shop.client.get(CHANGES)).json()["items"][0]["at"]

    async def found(**query: str) -> list[str]:
        return [row["product_id"] for row in (await shop.client.get(CHANGES, params=query)).json()["items"]]

    assert await found(product_id="24-MB/01") == ["24-MB/01"]
    assert await found(product_id="nope") == []
    assert len(await found(since=at)) == 3
    assert await found(since="2999-01-01T00:00:00Z") == []
    assert len(await found(since="2026-01-01T00:00:00+02:00", product_id="1")) == 1


@pytest.mark.parametrize(
    "query",
    [
        "since=yesterday",
        "since=2026-01-01T00:00:00",
        "since=",
        "since=0001-01-01T00:00:00%2B14:00",
        "limit=0",
        "cursor=x",
        "product_id=%00",
    ],
)
async def test_a_question_that_cannot_be_understood_is_refused(shop: Service, query: str) -> None:
    is_problem(await shop.client.get(f"{CHANGES}?{query}"), 422)


async def test_there_is_no_log_without_a_catalogue(shop: Service) -> None:
    is_problem(await shop.client.get(f"{API}/catalogues/none/changes"), 404)
