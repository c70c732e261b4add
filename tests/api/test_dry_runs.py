"""A dry run over HTTP: answered with its plan, with what ended it, or with the run that goes on. And what it leaves."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from app import catalogues, orders, runs
from app.db import heard
from app.errors import EngineUnavailable, Problem, Refused, RunCanceled, SourceGone
from app.ledger import RunLedger
from tests.api.conftest import SHOP, Service, TwinConnections, is_problem, settings_for, started

pytestmark = pytest.mark.anyio

API = "/api/v1"
PLAN = {"strategy": "incremental", "why": "changes only", "counts": {"added": 2}, "withheld": [], "findings": []}
FOUND = [{"code": "no_vector", "detail": "The model answers with 3 dims."}, {"code": "shards", "detail": "No room."}]


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[Service]:
    """Without a worker: the test is one."""
    settings = settings_for(tmp_path)
    async with started(settings, connections=TwinConnections(settings)) as one:
        assert (await one.client.put(f"{API}/catalogues/shop", json=SHOP)).status_code == 201
        yield one


async def claimed(service: Service) -> RunLedger:
    """The next queued run, once there is one."""
    with anyio.fail_after(20):
        while True:
            rung = service.parts.db.bell.listen(runs.ORDERS)
            async with service.parts.db.writing() as session:
                run = await runs.claim(session, "w1", 60)
            if run is not None:
                return RunLedger(service.parts.db, await service.parts.connections.engine("main"), run)
            await heard(rung, 1)


async def finish(service: Service, ledger: RunLedger, state: str, error: Problem | None = None) -> None:
    async with service.parts.db.writing() as session:
        await runs.finish(session, ledger.run, ledger.fence, state, error)


async def answer(service: Service, work: Callable[[RunLedger], Awaitable[None]], **order: Any) -> httpx.Response:
    """What the order of a dry run is answered while *work* does it."""

    async def worker() -> None:
        await work(await claimed(service))

    async with anyio.create_task_group() as group:
        group.start_soon(worker)
        with anyio.fail_after(20):
            return await service.client.post("/sync", json={"dry_run": True, **order})


async def plans(service: Service, ledger: RunLedger) -> None:
    await ledger.decide("incremental", PLAN)
    await finish(service, ledger, "ready")


async def last(service: Service) -> dict[str, Any]:
    run: dict[str, Any] = (await service.client.get(f"{API}/runs")).json()["items"][0]
    return run


async def test_a_dry_run_is_answered_with_its_plan(idle: Service) -> None:
    planned = await answer(idle, lambda ledger: plans(idle, ledger))
    assert (planned.status_code, planned.json()) == (200, PLAN)
    run = await last(idle)
    assert planned.headers["location"] == f"{API}/runs/{run['id']}"
    assert (run["dry_run"], run["state"], run["plan"], run["generation"]) == (True, "ready", PLAN, None)


async def test_the_same_key_is_the_same_plan(idle: Service) -> None:
    key = {"Idempotency-Key": "plan-1"}
    async with anyio.create_task_group() as group:

        async def worker() -> None:
            await plans(idle, await claimed(idle))

        group.start_soon(worker)
        first = await idle.client.post("/sync", json={"dry_run": True}, headers=key)
    again = await idle.client.post("/sync", json={"dry_run": True}, headers=key)
    assert (first.json(), again.status_code, again.json()) == (PLAN, 200, PLAN)
    is_problem(await idle.client.post("/sync", json={}, headers=key), 422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Refused("Two things.", findings=FOUND), 422),
        (SourceGone("The source was deleted."), 409),
        (EngineUnavailable("Out of reach."), 503),
    ],
)
async def test_what_ends_a_dry_run_is_its_answer(idle: Service, error: Problem, status: int) -> None:
    failed = await answer(idle, lambda ledger: finish(idle, ledger, "failed", error))
    problem = is_problem(failed, status, error.code)
    assert problem["detail"] == error.detail
    assert problem["run_id"] == (await last(idle))["id"]
    assert problem.get("findings") == error.extra.get("findings")


async def test_a_dry_run_that_somebody_cancels_says_so(idle: Service) -> None:
    async def cancels(ledger: RunLedger) -> None:
        assert (await idle.client.post(f"{API}/runs/{ledger.run}/cancel")).status_code == 202
        await finish(idle, ledger, "canceled", RunCanceled("Canceled by local."))

    is_problem(await answer(idle, cancels), 409, "canceled")


async def test_one_that_takes_longer_is_answered_with_the_run(idle: Service) -> None:
    async with idle.parts.db.writing() as session:
        run = await runs.request(session, runs.Order(catalogue="shop", dry_run=True), "a")
    still = await orders.planned(idle.parts.db, run, anyio.Event(), seconds=0.05)
    assert (still.id, still.state) == (run.id, "queued")


async def test_a_service_that_stops_lets_nobody_wait(idle: Service) -> None:
    idle.parts.draining.set()
    with anyio.fail_after(orders.PLAN_SECONDS / 2):
        asked = await idle.client.post("/sync", json={"dry_run": True})
    assert (asked.status_code, asked.json()["state"], asked.json()["dry_run"]) == (202, "queued", True)
    assert asked.headers["location"] == f"{API}/runs/{asked.json()['id']}"


async def test_a_plan_takes_the_turn_of_a_run(idle: Service) -> None:
    async with idle.parts.db.writing() as session:
        run = await runs.request(session, runs.Order(catalogue="shop", dry_run=True), "a")
    problem = is_problem(await idle.client.post("/sync", json={"catalogue": "shop"}), 409, "active")
    assert problem["run_id"] == run.id


async def test_a_held_catalogue_may_be_planned_and_stays_held(idle: Service) -> None:
    async with idle.parts.db.writing() as session:
        await catalogues.hold(session, "shop", "rolled back")
    planned = await answer(idle, lambda ledger: plans(idle, ledger), release=True)
    assert planned.status_code == 200
    assert (await idle.client.get(f"{API}/catalogues/shop")).json()["held"]
    is_problem(await idle.client.post("/sync"), 409, "held")
