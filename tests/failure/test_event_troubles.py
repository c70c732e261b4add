"""Bad days of events: dependencies that are out for a while, poison among good ones, deletions that wait."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from app import backlog, refusing
from app.applier import LEASE_SECONDS
from app.config import EmbedderSettings, EngineSettings
from app.demo.catalogue import tolerant
from app.errors import IndexMissing
from app.models import Event
from app.sync import apply
from app.sync.limits import Limits, Patience
from app.sync.words import Hit
from tests.embedding_server import EmbeddingServer
from tests.failure.scene import until
from tests.gates import QUICK, Watched
from tests.gateway import gateway, passage
from tests.stack import Gate, Stack, ask, stack, stock
from tests.telling import (
    Trace,
    assert_equal,
    entries,
    entries_when,
    ready,
    rename,
    settled,
    stands,
    tell,
    text_of,
    to,
    versions,
)

pytestmark = pytest.mark.anyio

FIELDS = {
    "sku": "keyword", "name": "text", "price": {"type": "double", "from": "price_0_1"}, "status": "keyword",
    "ean": "keyword",
}  # fmt: skip
RECIPE = {**QUICK, "fields": FIELDS, "exclude_when": {"status": [2]}}


TRIED, GRACE = 0.2, 2.0
"""Seconds for which an applier tries what may pass, and in which that is over on a busy machine too."""


def impatient(here: Stack) -> None:
    """Events give up soon, so that tests are short."""
    limits = Limits.of(here.settings, Patience(first=0.02, longest=0.1))
    here.connections.event_limits = replace(limits.for_events(), stall_deadline=TRIED)


@asynccontextmanager
async def quick(url: str, folder: Path, **how: Any) -> AsyncIterator[tuple[Stack, dict[str, dict[str, Any]]]]:
    """A catalogue of forty products; the policy is in *how*."""
    async with stack(url, folder) as here:
        impatient(here)
        here.shop.fill(stock(40), tolerant())
        yield here, await ready(here, recipe=RECIPE, fill=False, **how)


# --- the engine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, pytest.param(503, marks=pytest.mark.long)])
async def test_while_the_engine_is_out_nothing_is_lost_and_one_at_a_time_tries(
    any_engine_url: str, tmp_path: Path, status: int
) -> None:
    async with gateway(any_engine_url) as way:
        engines = {"main": EngineSettings(url=way.url)}
        async with stack(any_engine_url, tmp_path, engines=engines) as here:
            impatient(here)
            products = await ready(here)
            breaker = here.connections.breaker("engine:main")
            traced = Trace(breaker, lambda args: len(args[1]) * args[0].endswith(".feed"), GRACE)
            here.gate("bulk", traced)
            way.say(status, "POST", r"\.feed/_bulk", times=100_000)
            for number, one in enumerate(sorted(products)[:20]):
                rename(here, products, one, f"Lamp {number} of a bad day")
            await tell(here, *sorted(products)[:10])
            await until(lambda: len(traced.probes) > 3, 30)
            await tell(here, *sorted(products)[10:20])
            assert set(traced.probes) == {(1, 1)}, "single probes"
            assert {row.status for row in await entries(here)} <= {"pending", "processing"}
            way.lies.clear()
            rows = await settled(here)
            assert {row.status for row in rows} == {"done"}
            assert max(row.attempts for row in rows) <= (0 if status == 429 else 3)
            assert {row.lives for row in rows} == {0}
            assert not breaker.is_open
            await assert_equal(here)


async def test_an_engine_that_does_not_answer_is_out_too(
    any_engine_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "WRITE_SECONDS", 0.2)
    async with stack(any_engine_url, tmp_path) as here:
        products, breaker = await ready(here), here.connections.breaker("engine:main")
        hanging = here.gate("bulk", to(".feed"))
        ids = sorted(products)[:10]
        for one in ids:
            rename(here, products, one, "Lamp of a silent day")
            await tell(here, one)
        await until(lambda: breaker.is_open, 30)
        monkeypatch.setattr(apply, "WRITE_SECONDS", 15.0)
        hanging.open()
        rows = await settled(here)
        assert {(row.status, row.lives) for row in rows} == {("done", 0)}
        assert not breaker.is_open
        await assert_equal(here)


async def test_a_database_that_was_away_while_events_were_written_costs_nothing(
    any_engine_url: str, tmp_path: Path, postgres_url: str
) -> None:
    async with passage(postgres_url) as way, stack(any_engine_url, tmp_path, database_url=way.url) as here:
        products = await ready(here)
        one = sorted(products)[0]
        rename(here, products, one, "Lamp without a database")
        writing = here.gate("bulk", to(".feed"))
        await tell(here, one)
        await stands(writing)
        way.cut()
        writing.open()
        knocks = way.refused
        await until(lambda: way.refused > knocks + 3)
        way.mend()
        (row,) = await settled(here, one)
        assert (row.status, row.attempts, row.lives) == ("done", 0, 0)
        await assert_equal(here)


async def test_one_index_that_is_red_is_no_trouble_of_its_engine(
    any_engine_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusing, "PATIENCE", 0.5)
    async with gateway(any_engine_url) as way:
        engines = {"main": EngineSettings(url=way.url)}
        async with stack(any_engine_url, tmp_path, engines=engines) as here:
            impatient(here)
            products, (retired,) = await ready(here), here.behind_alias()
            assert (await here.sync()).state == "ready"
            way.say(503, "POST", rf"{retired}\.feed/_bulk", times=100_000)
            one = sorted(products)[0]
            rename(here, products, one, "Lamp beside a red index")
            await tell(here, one)
            (row,) = await settled(here, one)
            assert (row.status, row.attempts) == ("done", 0)
            assert here.connections.breaker("engine:main").opened == 0
            assert [row.index for row in await here.generations() if row.fed] == here.behind_alias()
            await assert_equal(here)


# --- the embedder ----------------------------------------------------------------------------------------------------


async def test_a_live_index_that_is_gone_is_no_trouble_of_its_engine(elasticsearch9: str, tmp_path: Path) -> None:
    async with quick(elasticsearch9, tmp_path) as (here, products):
        asked = Watched()
        here.gate("get", asked)
        ask(here.url, "DELETE", f"/{here.behind_alias()[0]}")
        await tell(here, sorted(products)[0])
        await until(lambda: sum(isinstance(one, IndexMissing) for one in asked.problems) > 3)
        assert not here.connections.breaker("engine:main").is_open


async def test_while_the_model_is_out_prices_go_on_and_texts_wait(any_engine_url: str, tmp_path: Path) -> None:
    with EmbeddingServer() as server:
        endpoint = EmbedderSettings(url=server.url, api_key="sk-secret", timeout=10)
        async with stack(any_engine_url, tmp_path, embedders={"openai": endpoint}) as here:
            impatient(here)
            model = {**RECIPE, "embedder": {"provider": "openai", "model": "some-model"}}
            here.shop.fill(stock(40), tolerant())
            products = await ready(here, recipe=model, fill=False)
            dear, dearer, other = sorted(products)[:3]
            asked = len(server.calls)
            priced(here, products, dear)
            await tell(here, dear)
            await settled(here, dear)
            assert len(server.calls) == asked, "a price is nothing to a model"
            server.always("429")
            rename(here, products, other, "Lamp without a vector")
            await tell(here, other)
            breaker = here.connections.breaker("embedder:openai/some-model")
            await until(lambda: breaker.is_open, 30)
            priced(here, products, dearer)
            await tell(here, dearer, other)
            await settled(here, dearer)
            assert price_of(here, dearer) == 99.0
            (row,) = await entries_when(here, waits_for_a_reason, other)
            assert (row.attempts, row.lives) == (0, 0)
            assert str(row.reason_code).startswith("embedder_")
            before, since, opened = len(server.calls), time.monotonic(), breaker.opened
            await until(lambda: len(server.calls) >= before + 2, 30)
            assert time.monotonic() - since > 0.4, "not asked in a loop"
            assert breaker.opened == opened, "it stays open from probe to probe"
            server.always("ok")
            (row,) = await settled(here, other)
            assert (row.status, row.attempts) == ("done", 0)
            await assert_equal(here)


def waits_for_a_reason(rows: Sequence[Event]) -> bool:
    """One entry, which was tried and waits."""
    return len(rows) == 1 and rows[0].status == "pending" and bool(rows[0].reason_code)


def priced(here: Stack, products: dict[str, dict[str, Any]], one: str) -> None:
    products[one] = {**products[one], "price_0_1": "99.000000"}
    here.shop.put(here.shop.alias, [(one, products[one])])


def price_of(here: Stack, one: str) -> float:
    return float(ask(here.url, "GET", f"/{here.alias}/_doc/{one}")["_source"]["price"])


# --- poison ----------------------------------------------------------------------------------------------------------


class Rotten(Gate):
    """Gives back some products as nobody expects them; counts the calls for the shop's index."""

    def __init__(self, rotten: set[str], index: str) -> None:
        super().__init__()
        self.rotten, self.index, self.calls = rotten, index, 0

    async def call(self, method: Callable[..., Awaitable[Any]], *args: Any, **named: Any) -> Any:
        """The call as it comes, its answer with rotten spots."""
        hits = await method(*args, **named)
        if args[0] != self.index:
            return hits
        self.calls += 1
        return [Hit(hit.id, cast(Any, None), hit.version) if hit.id in self.rotten else hit for hit in hits]


@pytest.mark.parametrize(
    ("told", "poison"), [(60, 3), pytest.param(10_000, 10, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
async def test_poison_among_good_ones_fails_alone_and_says_why(
    any_engine_url: str, tmp_path: Path, told: int, poison: int
) -> None:
    async with stack(any_engine_url, tmp_path) as here:
        impatient(here)
        here.shop.fill([(str(one), made(one)) for one in range(told)], tolerant())
        products = await ready(here, recipe=RECIPE, fill=False)
        ids = sorted(products)
        bad = ids[7 :: len(ids) // poison][:poison]
        data, conflict, rotten = set(bad[::3]), set(bad[1::3]), set(bad[2::3])
        (live,) = here.behind_alias()
        number = {"type": "keyword", "ignore_above": 8191, "fields": {"number": {"type": "long"}}}
        ask(here.url, "PUT", f"/{live}/_mapping", orjson.dumps({"properties": {"ean": number}}))
        for one in ids:
            products[one] = {**products[one], "name": f"Lamp {one} of a poisoned day"}
            products[one] |= {"price_0_1": "a fortune"} if one in data else {}
            products[one] |= {"ean": "N-1"} if one in conflict else {}
        here.shop.put(here.shop.alias, products.items())
        spoilt = Rotten(rotten, here.shop.indices[-1])
        here.gate("get", spoilt)
        for start in range(0, len(ids), 1000):
            await tell(here, *ids[start : start + 1000])
        rows = await settled(here, seconds=600)
        failed = {row.product_id: row.reason_code for row in rows if row.status == "failed"}
        assert failed.keys() == data | conflict | rotten
        assert {row.status for row in rows if row.product_id not in failed} == {"done"}
        assert {failed[one] for one in data} == {"wrong_type"}
        assert {failed[one] for one in conflict} <= {"document_parsing_exception", "mapper_parsing_exception"}
        assert {failed[one] for one in rotten} == {"internal"}
        assert {(row.attempts, row.lives) for row in rows} == {(0, 0)}
        claims = {row.number for row in rows}
        assert spoilt.calls < len(claims) + 30 * len(rotten), "found by halving"
        assert longest_pause([row.done_at for row in rows if row.done_at]) < LEASE_SECONDS
        held = versions(here, here.alias)
        texts = {one: text_of(here, here.alias, one) for one in ids[:: max(1, told // 100)]}
        assert all(f"Lamp {one} of" in text for one, text in texts.items() if one not in failed)
        assert held.keys() == products.keys()


def made(number: int) -> dict[str, Any]:
    """A product as Magento writes it, which no rule leaves out."""
    return {
        "sku": f"L-{number}", "name": f"Lamp number {number}", "price_0_1": "5.500000", "status": 1,
        "visibility": 4, "is_out_of_stock": 0,
    }  # fmt: skip


def longest_pause(moments: list[int]) -> float:
    """Seconds in which nothing was done, at most."""
    ordered = sorted(moments)
    return max((after - before) / 1000 for before, after in pairwise(ordered))


async def test_what_the_recipe_of_a_draft_refuses_reaches_readers_all_the_same(
    any_engine_url: str, tmp_path: Path
) -> None:
    async with quick(any_engine_url, tmp_path) as (here, products):
        one, other = sorted(products)[:2]
        await here.declare(recipe={**RECIPE, "fields": {**FIELDS, "ean": "long"}, "exclude_when": {"status": [2, 3]}})
        run, filling = await here.stopped_at("bulk", to(".fill-"))
        draft = (await here.generations())[0].index
        products[one] = {**products[one], "name": "Lamp of two recipes", "ean": "N-1"}
        products[other] = {**products[other], "status": 3}
        here.shop.put(here.shop.alias, [(each, products[each]) for each in (one, other)])
        await tell(here, one, other)
        rows = {row.product_id: row for row in await settled(here)}
        assert (rows[one].status, rows[one].reason_code) == ("failed", "wrong_type")
        assert "Lamp of two recipes" in text_of(here, here.alias, one)
        assert (rows[other].status, rows[other].deleted, rows[other].reason_code) == ("done", True, "absent")
        assert ask(here.url, "GET", f"/{here.alias}/_doc/{other}")["_source"]["status"] == "3"
        filling.open()
        assert (await here.ended(run.id)).state == "ready"
        assert other not in versions(here, here.alias)
        assert draft in here.behind_alias()


# --- deletions -------------------------------------------------------------------------------------------------------


async def test_too_many_deletions_are_withheld_until_a_run_is_approved(
    any_engine_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "WITHHELD_SECONDS", 5.0)
    async with quick(any_engine_url, tmp_path, shrink={"documents": 3, "percent": 0}) as (here, products):
        gone = sorted(products)[:8]
        here.shop.delete(*gone)
        await tell(here, *gone, action="delete")
        rows = await entries_when(here, lambda rows: all(row.reason_code == "withheld" or row.deleted for row in rows))
        withheld = {row.product_id for row in rows if row.status != "done"}
        assert len(withheld) == 5
        async with here.db.reading() as session:
            assert (await backlog.of(session, here.name))["withheld"] == 5
        assert versions(here, here.alias).keys() == products.keys() - set(gone) | withheld
        run = await here.sync(strategy="incremental")
        assert run.withheld == [{"guard": "shrink", "limit": 3, "found": 5}]
        approved = await here.approve(run.id, 5)
        assert (approved.state, approved.error) == ("ready", None)
        rows = await settled(here)
        assert {(row.status, row.attempts) for row in rows} == {("done", 0)}
        assert versions(here, here.alias).keys() == products.keys() - set(gone)
        await assert_equal(here)


async def test_a_missing_product_goes_after_the_settle_time_and_one_that_is_back_stays(
    any_engine_url: str, tmp_path: Path
) -> None:
    async with quick(any_engine_url, tmp_path, settle_seconds=1.5) as (here, products):
        gone, back, hidden = sorted(products)[:3]
        here.shop.delete(gone, back)
        products[hidden] = {**products[hidden], "status": 2}
        here.shop.put(here.shop.alias, [(hidden, products[hidden])])
        await tell(here, gone, back, hidden)
        (row,) = await settled(here, hidden)
        assert (row.status, row.deleted, row.missing_since) == ("done", True, None)
        rows = await entries_when(here, lambda rows: all(row.reason_code == "missing" for row in rows), gone, back)
        assert {row.status for row in rows} == {"pending"}
        assert versions(here, here.alias).keys() >= {gone, back}
        rename(here, products, back, "Lamp that is back")
        rows = {row.product_id: row for row in await settled(here, gone, back)}
        assert {one: row.deleted for one, row in rows.items()} == {gone: True, back: False}
        assert rows[gone].done_at - rows[gone].missing_since >= 1500
        assert "Lamp that is back" in text_of(here, here.alias, back)
        assert versions(here, here.alias).keys() == products.keys() - {gone, hidden}
        await assert_equal(here)


async def test_an_event_that_came_too_early_is_looked_at_once_more(any_engine_url: str, tmp_path: Path) -> None:
    async with quick(any_engine_url, tmp_path, settle_seconds=1.5) as (here, products):
        early, still, hidden = *sorted(products)[:2], "hidden-1"
        source = {**products[early], "status": 2}
        here.shop.put(here.shop.alias, [(hidden, source)])
        await tell(here, early, still, hidden)
        rows = await entries_when(here, lambda rows: all(row.looks == 1 for row in rows))
        assert {(row.status, row.reason_code) for row in rows} == {("pending", "unchanged")}
        rename(here, products, early, "Lamp that was slow")
        here.shop.put(here.shop.alias, [(hidden, {**source, "status": 1})])
        rows = await settled(here)
        assert {(row.status, row.looks, row.attempts) for row in rows} == {("done", 1, 0)}
        assert "Lamp that was slow" in text_of(here, here.alias, early)
        assert hidden in versions(here, here.alias)
        await assert_equal(here)
