"""Catalogues of odd shapes, and targets of odd shapes: what is proven of them, and what is refused."""

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from app.demo.catalogue import tolerant
from app.models import Run
from tests.gates import QUICK, documents
from tests.stack import ask, stack, stock

pytestmark = pytest.mark.anyio

WORDS = ("lamp", "amber", "brass", "desk", "quiet")
LOCAL = {"embedder": {"provider": "local"}}


def named(names: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """Products of which nothing is known but their names."""
    return [(f"p{number}", {"name": name}) for number, name in enumerate(names)]


def check(run: Run, name: str) -> dict[str, Any]:
    """One check of the verdict."""
    assert run.verdict is not None
    return next(one for one in run.verdict["checks"] if one["check"] == name)


# --- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 3])
async def test_one_document_is_a_catalogue(any_engine_url: str, tmp_path: Path, shards: int) -> None:
    async with stack(any_engine_url, tmp_path) as here:
        here.shop.fill(named(["a single lamp"]), tolerant())
        await here.declare(recipe=QUICK, target={"shards": shards})
        run = await here.sync()
        assert (run.state, run.error) == ("ready", None)
        assert documents(here, here.alias)["p0"]["name"] == "a single lamp"


async def test_several_shards_and_a_graph_for_each(any_engine_url: str, tmp_path: Path) -> None:
    async with stack(any_engine_url, tmp_path) as here:
        held = here.shop.fill(stock(400), tolerant())
        await here.declare(recipe=QUICK, target={"shards": 3})
        run = await here.sync()
        assert (run.state, run.error) == ("ready", None)
        assert here.count() == held - run.counts["excluded"]
        settings = ask(here.url, "GET", f"/{here.alias}/_settings")[here.behind_alias()[0]]["settings"]["index"]
        assert settings["number_of_shards"] == "3"


async def test_a_target_that_never_gets_green_is_ready_and_says_so(any_engine_url: str, tmp_path: Path) -> None:
    """One node cannot hold a replica: nobody waits two minutes for that."""
    async with stack(any_engine_url, tmp_path) as here:
        here.shop.fill(stock(40), tolerant())
        await here.declare(recipe=QUICK, target={"replicas": 1})
        run = await here.sync()
        assert (run.state, run.error) == ("ready", None)
        health = check(run, "health")
        assert (health["passed"], health["expected"], health["found"]) == (True, "green", "yellow")
        assert health["detail"] == "1 data node(s) cannot hold 1 replica(s)."
        assert seconds(run) < 110
        settings = ask(here.url, "GET", f"/{here.alias}/_settings")[here.behind_alias()[0]]["settings"]["index"]
        assert settings["number_of_replicas"] == "1", "where a node joins, it gets its replica"


def seconds(run: Run) -> float:
    """How long it took."""
    assert run.started_at is not None
    assert run.finished_at is not None
    return (run.finished_at - run.started_at).total_seconds()


# --- ties ------------------------------------------------------------------------------------------------------------

ANOTHER_ORDER = named([" ".join(words) for words in permutations(WORDS)])

TIES = {
    "all the same": (named(["a lamp like every other"] * 250), QUICK),
    "two of a kind, often": (named(["a lamp of amber", "a desk of brass"] * 60), QUICK),
    "the same in capitals": (named(["quiet lamp", "Quiet Lamp", "QUIET LAMP"] * 10), QUICK),
    "the same words in another order, counted": (ANOTHER_ORDER, QUICK),
    "the same words in another order, for a model": (ANOTHER_ORDER, LOCAL),
}


@pytest.mark.parametrize(("products", "recipe"), TIES.values(), ids=TIES)
async def test_products_that_nobody_can_tell_apart_pass_the_proof(
    any_engine_url: str, tmp_path: Path, products: list[tuple[str, dict[str, Any]]], recipe: dict[str, Any]
) -> None:
    async with stack(any_engine_url, tmp_path) as here:
        here.shop.fill(products, tolerant())
        await here.declare(recipe=recipe)
        run = await here.sync()
        assert (run.state, run.error) == ("ready", None)
        assert here.count() == len(products)
        assert check(run, "self_test")["expected"] == f"{min(32, len(products))} found"


# --- shrinking -------------------------------------------------------------------------------------------------------

AT_ONCE = {"settle_seconds": 0}


async def test_a_suspicious_shrink_is_refused_until_somebody_says_that_it_is_right(
    any_engine_url: str, tmp_path: Path
) -> None:
    async with stack(any_engine_url, tmp_path) as here:
        here.shop.fill(named([f"lamp number {n}" for n in range(200)]), tolerant())
        await here.declare(recipe=QUICK, policy=AT_ONCE)
        assert (await here.sync()).state == "ready"
        live = here.behind_alias()
        here.shop.fill(named([f"lamp number {n}" for n in range(140)]), tolerant())
        run = await here.sync()
        why = (
            "shrink: 60 of 200 products are gone (30.0 %), more than policy.shrink allows (50 and 10 %): "
            "look at the source; approve 60 deletions if this is right."
        )
        assert (run.state, run.error) == ("failed", {"code": "verdict_refused", "detail": why})
        assert (here.behind_alias(), here.count()) == (live, 200)
        run = await here.approve(run.id, 60)
        assert (run.state, run.error, run.ceiling, here.count()) == ("ready", None, 60, 140)
        here.shop.fill(named([f"lamp number {n}" for n in range(80)]), tolerant())
        run = await here.sync()
        assert (run.state, here.count()) == ("failed", 140), "what was approved of was that run alone"
        await here.declare(recipe=QUICK, policy={**AT_ONCE, "shrink": {"documents": 60}})
        run = await here.sync()
        assert (run.state, run.error, here.count()) == ("ready", None, 80)


async def test_a_small_catalogue_may_lose_much_and_a_large_one_a_little(any_engine_url: str, tmp_path: Path) -> None:
    async with stack(any_engine_url, tmp_path) as here:
        await here.declare(recipe=QUICK, policy=AT_ONCE)
        for count in (45, 1, 700, 640):
            here.shop.fill(named([f"lamp number {n}" for n in range(count)]), tolerant())
            run = await here.sync()
            assert (run.state, run.error, here.count()) == ("ready", None, count)
