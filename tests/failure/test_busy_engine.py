"""An engine that wants less: small queues, little memory, others who keep it busy; a whole run, and a sender alone."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx
import orjson
import pytest

import engines
from app import runs
from app.config import EngineSettings
from app.demo.catalogue import tolerant
from app.errors import EngineBusy, Problem, TooLargeForEngine
from app.models import Run
from app.sync.engine_port import Engine
from app.sync.engines import open_engine
from app.sync.limits import Budget, Limits, Patience
from app.sync.load import send
from app.sync.words import Line, Reject
from tests.contract.engine_kit import MARK, ids, shape, unit
from tests.gates import QUICK, Watched, documents
from tests.gateway import gateway
from tests.stack import WAIT, Stack, ask, stack, stock

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

TIGHT = {"thread_pool.write.size": "1", "thread_pool.write.queue_size": "2", "indexing_pressure.memory.limit": "1mb"}
NOISE = (200, 200, 30, 30, 30, 30)
"""Documents that each hand of somebody else sends at once: large ones fill the memory, many ones the queue."""

LARGE = {"embedder": {"provider": "hashing", "dims": 512}}
"""Two requests of such documents are more than the engine's memory takes."""

BREAKER = {"type": "circuit_breaking_exception", "reason": "[parent] Data too large, would be larger than the limit"}
FULL = {"type": "es_rejected_execution_exception", "reason": "rejected execution of coordinating operation"}


def refusal(why: dict[str, str]) -> bytes:
    """How an engine words a 429."""
    return orjson.dumps({"error": {**why, "root_cause": [why]}, "status": 429})


@pytest.fixture(scope="module", params=["elasticsearch-9", "opensearch-3"])
def tight_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with engines.private(request.param, TIGHT) as server:
        yield server.url


class Bulks(Watched):
    """All bulk requests of a run, as the port answered them."""

    @property
    def met_both(self) -> bool:
        """Whether a whole request was refused for its bytes, and single lines for a full queue."""
        lines = any(item.status == 429 for _, items in self.answers for item in items)
        return lines and any(isinstance(one, EngineBusy) for one in self.problems)

    @property
    def taken(self) -> Counter[str]:
        """How often each document was taken."""
        pairs = [pair for (_, lines), items in self.answers for pair in zip(lines, items, strict=True)]
        return Counter(line.id for line, item in pairs if not item.error)


def hurried(here: Stack) -> Bulks:
    """A stack that waits less long between its tries; its bulk requests."""
    quick = Limits.of(here.settings, Patience(first=0.05, longest=0.5))
    here.connections.limits = replace(quick, bulk_budget=Budget(floor=100))
    bulks = Bulks()
    here.gate("bulk", bulks)
    return bulks


@asynccontextmanager
async def noise(here: Stack) -> AsyncIterator[None]:
    """Somebody else writes to the engine, as fast as it lets him."""
    index = f"{here.name}-noise"
    ask(here.url, "PUT", f"/{index}", orjson.dumps({"settings": {"number_of_shards": 3, "number_of_replicas": 0}}))
    document = b'{"index":{}}\n' + orjson.dumps({"text": "noise " * 200}) + b"\n"

    async def hand(client: httpx.AsyncClient, count: int) -> None:
        while True:
            headers = {"Content-Type": "application/x-ndjson"}
            await client.post(f"/{index}/_bulk", content=document * count, headers=headers)

    async with httpx.AsyncClient(base_url=here.url, timeout=60) as client, anyio.create_task_group() as group:
        for count in NOISE:
            group.start_soon(hand, client, count)
        yield
        group.cancel_scope.cancel()


def retries(run: Run, stage: str = "filling") -> int:
    return int(next(one["retries"] for one in run.stages if one["stage"] == stage))


async def test_every_document_arrives_once_while_others_keep_the_engine_busy(tight_url: str, tmp_path: Path) -> None:
    async with stack(tight_url, tmp_path, bulk_bytes=400_000, bulk_concurrency=4) as here:
        here.shop.fill(stock(300), tolerant())
        await here.declare(recipe=LARGE, target={"shards": 3})
        bulks = hurried(here)
        async with noise(here):
            run = await until_both(here, bulks)
        run = await here.ended(run.id)
        assert (run.state, run.error) == ("ready", None)
        assert len(documents(here, here.alias)) == run.counts["loaded"] == here.count()
        assert run.counts["rejected"] == 0
        assert retries(run) > 0
        assert set(bulks.taken.values()) == {1}, "a document was sent again after it had been taken"


async def until_both(here: Stack, bulks: Bulks) -> Run:
    """The run that has met both kinds of refusal, or was there when they had been met; the ones before are ready."""
    with anyio.fail_after(WAIT):
        while True:
            bulks.answers.clear()
            run = await here.queued()
            run = await here.until(run.id, lambda run: bulks.met_both or run.state in runs.OVER)
            if bulks.met_both:
                return run
            assert run.state == "ready"


async def test_a_bulk_body_over_the_limit_is_halved(tight_url: str, tmp_path: Path) -> None:
    async with stack(tight_url, tmp_path, slices=1) as here:
        here.shop.fill(stock(300), tolerant())
        await here.declare(recipe={"embedder": {"provider": "hashing", "dims": 2048}})
        bulks = hurried(here)
        run = await here.sync()
        assert (run.state, run.error) == ("ready", None)
        assert here.count() == run.counts["loaded"] == len(bulks.taken)
        assert set(bulks.taken.values()) == {1}
        assert any(isinstance(one, TooLargeForEngine | EngineBusy) for one in bulks.problems)
        assert len(bulks.answers) + len(bulks.problems) < 100


# --- refusals at one's own choice ------------------------------------------------------------------------------------

PASSING = {
    "a draft is made": ("PUT", r"-2\d+$"),
    "a vector is tried": ("PUT", r"-2\d+/_doc/"),
    "the source is refreshed": ("POST", r"-shop-v1/_refresh"),
    "the source is described": ("GET", r"-shop$|-shop\?"),
    "a point in time is opened": ("POST", r"/_pit|/point_in_time"),
    "a page is read": ("POST", r"^/_search\?"),
    "documents are written": ("POST", r"-2\d+\.fill-\d+/_bulk"),
    "the draft is blocked": ("PUT", r"/_block/write"),
    "an alias is put in the place of another": ("POST", r"/_aliases"),
    "settings are changed": ("PUT", r"-2\d+/_settings"),
    "the draft is refreshed": ("POST", r"-2\d+/_refresh"),
    "its health is asked for": ("GET", r"/_cluster/health/"),
    "its segments are merged": ("POST", r"/_forcemerge"),
    "its documents are counted": ("GET", r"-2\d+/_stats"),
    "its documents are read": ("POST", r"-2\d+/_mget"),
    "its neighbours are searched": ("POST", r"-2\d+/_search"),
}


async def test_what_passes_is_waited_for_wherever_it_comes(any_engine_url: str, tmp_path: Path) -> None:
    """After heavy writing an engine's breaker refuses whatever comes, for a moment."""
    async with gateway(any_engine_url) as way, stack(any_engine_url, tmp_path, works=False, **behind(way.url)) as here:
        held = here.shop.fill(stock(60), tolerant())
        await here.declare(recipe=QUICK)
        hurried(here)
        run = await here.queued()
        await here.connections.engine("main")
        for method, path in PASSING.values():
            way.say(429, method, path, body=refusal(BREAKER))
        refusals = len(way.lies)
        await here.work()
        run = await here.ended(run.id)
        assert (run.state, run.error) == ("ready", None)
        assert here.count() == held - run.counts["excluded"]
        assert refusals - len(way.lies) >= refusals - 1, "Elasticsearch alone tries a packed vector"
        assert sum(stage["retries"] for stage in run.stages) > 0
        assert here.open_contexts() == 0


async def test_an_engine_that_stays_busy_ends_the_run_by_time(any_engine_url: str, tmp_path: Path) -> None:
    async with gateway(any_engine_url) as way, stack(any_engine_url, tmp_path, **behind(way.url)) as here:
        here.shop.fill(stock(60), tolerant())
        await here.declare(recipe=QUICK)
        assert (await here.sync()).state == "ready"
        live = here.behind_alias()
        here.connections.limits = replace(here.connections.limits, stall_deadline=3)
        way.say(429, "POST", r"-2\d+\.fill-\d+/_bulk", body=refusal(FULL), times=1_000)
        run = await here.sync()
        assert run.state == "failed"
        assert run.error is not None
        assert run.error["code"] == "engine_busy"
        assert "rejected execution" in run.error["detail"]
        assert here.behind_alias() == here.indices() == live
        assert here.open_contexts() == 0
        assert 1_000 - len(way.lies) < 60, "it was asked in a loop"
        assert retries(run) > 0


def behind(way: str) -> dict[str, Any]:
    """Settings of a stack that reaches its engine at *way*."""
    return {"engines": {"main": EngineSettings(url=way)}}


# --- the senders alone, on the same engine ----------------------------------------------------------------------------

DOCUMENTS = 3_000
DIMS = 8


@pytest.fixture
async def engine(tight_url: str) -> AsyncIterator[Engine]:
    opened = await open_engine(EngineSettings(url=tight_url))
    yield opened
    await opened.close()


@pytest.fixture
async def fill(engine: Engine) -> AsyncIterator[str]:
    name = f"t{uuid4().hex[:12]}"
    await engine.create(name, shape(DIMS, shards=3), [f"{name}.fill-1"], MARK)
    yield f"{name}.fill-1"
    await engine.drop(name)


def limits(bulk_bytes: int, deadline: float = 60) -> Limits:
    patience = Patience(first=0.05, longest=1.0)
    return Limits(
        anyio.Semaphore(1), anyio.Semaphore(8), bulk_bytes=bulk_bytes, stall_deadline=deadline, patience=patience
    )


def lines(engine: Engine, count: int, text: str = "lamp " * 200) -> list[Line]:
    found = [(f"p{number}", {"text": text, "sku": str(number)}) for number in range(count)]
    return list(engine.lines(found, unit(count, DIMS), 10))


async def loaded(engine: Engine, fill: str) -> set[str]:
    index = fill.removesuffix(".fill-1")
    await engine.refresh(index)
    return await ids(engine, index)


async def test_every_document_arrives_once_however_often_the_engine_refuses(engine: Engine, fill: str) -> None:
    told: list[Problem] = []
    receipt = await send(engine, fill, lines(engine, DOCUMENTS), limits(200_000), told.append)
    assert (receipt.loaded, receipt.rejects) == (DOCUMENTS, ())
    assert await loaded(engine, fill) == {f"p{number}" for number in range(DOCUMENTS)}
    assert told
    assert {type(problem) for problem in told} == {EngineBusy}
    assert receipt.retries == len(told)


async def test_requests_larger_than_the_engine_ever_takes_are_halved(engine: Engine, fill: str) -> None:
    receipt = await send(engine, fill, lines(engine, DOCUMENTS), limits(3_000_000))
    assert (receipt.loaded, receipt.rejects) == (DOCUMENTS, ())
    assert len(await loaded(engine, fill)) == DOCUMENTS


async def test_vectors_in_requests_larger_than_the_engine_ever_takes_are_kept(engine: Engine) -> None:
    store, names, vectors = await engine.store(), [f"{number:064x}" for number in range(400)], unit(400, 2048)
    await store.keep(names, vectors)
    assert set(await store.known(names, 2048)) == set(names)


async def test_a_document_larger_than_the_engine_ever_takes_is_a_reject(engine: Engine, fill: str) -> None:
    (giant,) = engine.lines([("giant", {"text": "lamp " * 500_000})], unit(1, DIMS), 10)
    receipt = await send(engine, fill, [*lines(engine, 20), giant], limits(5_000_000))
    assert receipt.loaded == 20
    (reject,) = receipt.rejects
    assert isinstance(reject, Reject)
    assert (reject.product_id, reject.by) == ("giant", "engine")
    assert "bytes" in reject.detail
