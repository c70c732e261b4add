"""The embedding endpoint on its bad days: it heals and the run is ready, or it does not and the run says why.

Whatever it answers, no index ever holds a vector that is not that of the document's own text.
"""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from app.config import EmbedderSettings
from app.demo.catalogue import tolerant
from app.errors import Refused
from app.models import Run
from app.sync import drafting
from app.sync.embedders.hashing import hashed
from app.sync.limits import Limits, Patience
from tests.embedding_server import Call, EmbeddingServer
from tests.gates import documents
from tests.stack import WAIT, Stack, stack, stock

pytestmark = pytest.mark.anyio

RECIPE = {"embedder": {"provider": "openai", "model": "some-model"}}
SECRET = "sk-very-secret"
PRODUCTS = 260


@dataclass
class Timed(EmbeddingServer):
    """Notes when each request arrived, and what it met."""

    met_at: list[tuple[float, str]] = field(default_factory=list)

    def met(self, call: Call) -> str:
        """As ever."""
        fault = super().met(call)
        self.met_at.append((time.monotonic(), fault))
        return fault


@pytest.fixture
def server() -> Iterator[Timed]:
    with Timed() as here:
        yield here


@pytest.fixture(autouse=True)
def time_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A draft on its way out is read before it goes, also by a slow machine."""
    monkeypatch.setattr(drafting, "DROP_SECONDS", WAIT)


@asynccontextmanager
async def shop(url: str, folder: Path, server: EmbeddingServer, **how: Any) -> AsyncIterator[Stack]:
    """A catalogue that is embedded by *server*, one request at a time, with little patience; nobody works yet."""
    endpoint = EmbedderSettings(url=server.url, api_key=SECRET, timeout=how.pop("timeout", 10))
    settings = {"embedders": {"openai": endpoint}, "embedding_concurrency": 1, "slices": 1, **how}
    async with stack(url, folder, works=False, **settings) as here:
        here.connections.limits = Limits.of(here.settings, Patience(first=0.02, longest=0.2))
        here.shop.fill(stock(PRODUCTS), tolerant())
        await here.declare(recipe=RECIPE)
        yield here


async def worked(here: Stack) -> Run:
    """A run whose model answered when it was planned, and what became of it."""
    run = await here.queued()
    await here.work()
    return await here.ended(run.id)


async def assert_vectors(here: Stack, index: str) -> int:
    """Every vector in an index is the one of its document's text; how many there are."""
    found = documents(here, index)
    engine = await here.connections.engine("main")
    stored = await engine.vectors(index, sorted(found))
    assert stored.keys() == found.keys()
    for name, vector in stored.items():
        assert np.array_equal(vector, hashed([found[name]["text"]], 64)[0]), name
    return len(found)


# --- it heals --------------------------------------------------------------------------------------------------------

HEALS = {
    "it wants less": ["429"] * 6,
    "it is out of order for a while": ["500", "503", "500", "drop", "500"],
    "it hangs once": ["hang"],
    "it answers with something else": ["garbage", "not_json"],
    "it answers something to other texts": ["few", "twice"],
    "it answers with what is no vector": ["nan", "zero"],
}


@pytest.mark.parametrize("faults", HEALS.values(), ids=HEALS)
async def test_when_it_heals_the_run_is_ready(
    any_engine_url: str, tmp_path: Path, server: Timed, faults: list[str]
) -> None:
    server.retry_after = "0.3"
    server.plan("ok", *faults)
    async with shop(any_engine_url, tmp_path, server, timeout=5 if "hang" in faults else 30) as here:
        run = await worked(here)
        assert (run.state, run.error) == ("ready", None)
        assert await assert_vectors(here, here.alias) == run.counts["loaded"] == run.counts["embedded"]
        bad = len(faults) - faults.count("ok")
        assert sum(fault in faults and fault != "ok" for _, fault in server.met_at) == bad
        assert sum(stage["retries"] for stage in run.stages) == bad
        assert sum(stage["errors"]["embedder"] for stage in run.stages) == bad
        for (asked, fault), (again, _) in zip(server.met_at, server.met_at[1:], strict=False):
            assert again - asked >= (0.3 if fault in ("429", "503") else 0), "it asked to be left alone"


# --- it does not heal ------------------------------------------------------------------------------------------------

STAYS = {
    "429": "embedder_busy",
    "500": "embedder_unavailable",
    "drop": "embedder_unavailable",
    "hang": "embedder_timeout",
    "garbage": "embedder_garbage",
    "not_json": "embedder_garbage",
    "few": "embedder_garbage",
    "few_plain": "embedder_garbage",
    "many": "embedder_garbage",
    "twice": "embedder_garbage",
    "nan": "embedder_garbage",
    "zero": "embedder_garbage",
    "400": "embedder_refused",
    "dims": "wrong_dims",
    "quota": "insufficient_quota",
    "401": "embedder_unauthorized",
    "404": "unknown_model",
    "redirect": "embedder_moved",
}
"""What is answered from the second batch on, and the code by which the run ends."""

COMMON = ("429", "500", "hang", "garbage", "nan", "dims", "quota")
"""Tried on each engine; the others never get as far as an engine."""

AT_ONCE = frozenset({"dims", "quota", "401", "404", "redirect"})
"""Nobody asks again after these."""


@pytest.mark.parametrize("fault", COMMON)
async def test_when_it_stays_bad_the_run_ends_and_no_bad_vector_was_stored(
    any_engine_url: str, tmp_path: Path, server: Timed, fault: str
) -> None:
    await assert_ends(any_engine_url, tmp_path, server, fault)


@pytest.mark.parametrize("fault", [fault for fault in STAYS if fault not in COMMON])
async def test_so_it_is_with_every_other_bad_answer(
    elasticsearch9: str, tmp_path: Path, server: Timed, fault: str
) -> None:
    await assert_ends(elasticsearch9, tmp_path, server, fault)


async def assert_ends(url: str, folder: Path, server: Timed, fault: str) -> None:
    """From the second batch on it is bad: the run fails, clearly, and no index holds a bad vector."""
    server.plan("ok", "ok")
    server.always(fault)
    async with shop(url, folder, server, timeout=2 if fault == "hang" else 30) as here:
        here.connections.limits = replace(here.connections.limits, stall_deadline=10)
        dropping = here.gate("drop")
        queued = await here.queued()
        await here.work()
        with anyio.fail_after(WAIT):
            await dropping.reached.wait()
        (draft,) = here.indices()
        assert await assert_vectors(here, draft) <= PRODUCTS
        dropping.open()
        run = await here.ended(queued.id)
        assert run.error is not None
        assert (run.state, run.error["code"]) == ("failed", STAYS[fault])
        assert SECRET not in run.error["detail"]
        assert here.indices() == here.behind_alias() == []
        assert here.open_contexts() == 0
        assert (len(server.calls) == 3) == (fault in AT_ONCE)
        assert len(server.calls) < 60, "it was asked in a loop"


async def test_leaving_is_no_stall_however_long_it_takes(elasticsearch9: str, tmp_path: Path, server: Timed) -> None:
    server.plan("ok", "ok")
    server.always("401")
    async with shop(elasticsearch9, tmp_path, server) as here:
        dropping = here.gate("drop")
        queued = await here.queued()
        await here.work()
        with anyio.fail_after(WAIT):
            await dropping.reached.wait()
        here.settings.stall_deadline = 0.5
        await anyio.sleep(3.5)
        dropping.open()
        run = await here.ended(queued.id)
        assert run.error is not None
        assert (run.state, run.error["code"]) == ("failed", "embedder_unauthorized")


@pytest.mark.parametrize(
    ("fault", "code", "hint"),
    [
        ("quota", "insufficient_quota", "check plan and billing"),
        ("401", "embedder_unauthorized", "RESHELVE_EMBEDDERS__OPENAI__API_KEY"),
        ("404", "unknown_model", "check recipe.embedder.model"),
        ("garbage", "embedder_garbage", "The embedder openai at http://127.0.0.1"),
        ("500", "embedder_unavailable", "The embedder openai at http://127.0.0.1"),
    ],
)
async def test_an_order_is_refused_while_nothing_is_built(
    elasticsearch9: str, tmp_path: Path, server: Timed, fault: str, code: str, hint: str
) -> None:
    server.always(fault)
    async with shop(elasticsearch9, tmp_path, server) as here:
        with pytest.raises(Refused) as refused:
            await here.order()
        assert refused.value.code == code
        assert hint in refused.value.detail
        assert SECRET not in refused.value.detail
        assert (len(server.calls) == 1) == (fault in AT_ONCE), "who may be better in a moment is asked again"
        assert here.indices() == []


async def test_a_model_that_is_busy_for_a_moment_refuses_no_order(
    elasticsearch9: str, tmp_path: Path, server: Timed
) -> None:
    server.plan("429", "500")
    async with shop(elasticsearch9, tmp_path, server) as here:
        assert (await here.order()).state == "queued"
        assert len(server.calls) == 3


async def test_other_dims_than_declared_are_refused(elasticsearch9: str, tmp_path: Path, server: Timed) -> None:
    server.fixed_dims = True
    async with shop(elasticsearch9, tmp_path, server) as here:
        await here.declare(recipe={"embedder": {**RECIPE["embedder"], "dims": 32}})
        with pytest.raises(Refused, match=r"set recipe\.embedder\.dims to 64") as refused:
            await here.order()
        assert refused.value.code == "wrong_dims"


# --- one text --------------------------------------------------------------------------------------------------------


async def test_one_text_that_it_will_not_take_is_left_out_alone(
    any_engine_url: str, tmp_path: Path, server: Timed
) -> None:
    server.poison = "cursed"
    async with shop(any_engine_url, tmp_path, server) as here:
        await here.work()
        sound = await here.sync()
        here.shop.put(here.shop.indices[-1], [("cursed-1", {"name": "a cursed lamp"})])
        before = len(server.calls)
        run = await here.sync()
        assert (run.state, run.error) == ("ready", None)
        assert {name: why for name, why in (await here.rejects(run)).items() if why[0] != "rule"} == {
            "cursed-1": ("data", "no_vector")
        }
        assert await assert_vectors(here, here.alias) == sound.counts["loaded"] == run.counts["loaded"]
        assert run.counts["rejected"] == 1
        assert len(server.calls) - before < 25, "the culprit is found by halving"
