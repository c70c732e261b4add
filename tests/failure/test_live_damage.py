"""What is wrong with the live index itself is mended by a fresh one, or said; and no guard is passed by a detour."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.contract.planted import checked
from tests.contract.test_incremental import change, remove, shop, sold, source
from tests.gates import QUICK, documents
from tests.stack import Stack, ask

pytestmark = pytest.mark.anyio


def put(here: Stack, name: str, document: dict[str, Any]) -> None:
    """A document in the live index, as somebody else writes it."""
    (live,) = here.behind_alias()
    ask(here.url, "PUT", f"/{live}/_doc/{name}?refresh=true", orjson.dumps(document))


def live_document(here: Stack) -> tuple[str, dict[str, Any]]:
    (live,) = here.behind_alias()
    return next(iter(documents(here, live).items()))


@pytest.mark.parametrize("strategy", ["full", "incremental"])
async def test_a_live_index_that_cannot_be_read_is_replaced(any_engine_url: str, tmp_path: Path, strategy: str) -> None:
    async with shop(any_engine_url, tmp_path) as here:
        product, document = live_document(here)
        for strange in ({**document, "input_hash": "no hash"}, {"name": "nobody's"}):
            put(here, product, strange)
            run = await here.sync(strategy=strategy)
            assert (run.state, run.error) == ("ready", None)
            assert documents(here, here.alias)[product]["input_hash"] == document["input_hash"]


@pytest.mark.parametrize("other_id", [False, True])
async def test_what_no_deletion_reaches_means_a_fresh_index(
    any_engine_url: str, tmp_path: Path, other_id: bool
) -> None:
    async with shop(any_engine_url, tmp_path) as here:
        before = sold(here)
        _, document = live_document(here)
        put(here, "stray", {**document, "source_id": "nobody"} if other_id else document)
        repair = await here.sync(strategy="repair")
        assert repair.error is not None
        assert (repair.state, repair.error["code"]) == ("failed", "outgrown")
        run = await here.sync(strategy="incremental")
        assert (run.state, run.error, run.strategy) == ("ready", None, "full")
        assert sold(here) == before


async def test_a_repair_that_is_refused_says_why_and_takes_nothing(any_engine_url: str, tmp_path: Path) -> None:
    async with shop(any_engine_url, tmp_path) as here:
        product, document = live_document(here)
        change(here, product, price_0_1=0.5)
        run, gate = await here.stopped_at("green", strategy="repair")
        put(here, product, {**document, "embed_model_alias": "another"})
        gate.open()
        run = await here.ended(run.id)
        assert run.error is not None
        assert (run.state, run.error["code"]) == ("failed", "verdict_refused")
        assert not checked(run, "stamps")["passed"]
        (live,) = await here.generations()
        assert (live.state, here.behind_alias()) == ("live", [live.index])


async def test_products_that_are_replaced_by_others_are_gone_all_the_same(any_engine_url: str, tmp_path: Path) -> None:
    async with shop(any_engine_url, tmp_path, {"shrink": {"documents": 3, "percent": 1}}) as here:
        gone = sold(here)[:6]
        others = [(f"new-{one}", source(here, one)) for one in gone]
        remove(here, *gone)
        here.shop.put(here.shop.indices[-1], others)
        run = await here.sync()
        assert run.error is not None
        assert (run.state, run.error["code"]) == ("failed", "verdict_refused")
        assert checked(run, "shrink")["found"] == 6
        assert (await here.approve(run.id, 6)).state == "ready"


async def test_another_tenant_or_another_setting_means_a_fresh_index(any_engine_url: str, tmp_path: Path) -> None:
    async with shop(any_engine_url, tmp_path) as here:
        (live,) = here.behind_alias()
        settings = {"codec": "best_compression"}
        await here.declare(recipe=QUICK, policy={"settle_seconds": 0}, target={"settings": settings})
        run = await here.sync(strategy="auto")
        assert (run.state, run.error, run.strategy) == ("ready", None, "full")
        assert here.behind_alias() != [live]


async def test_a_source_of_rejects_is_not_called_unchanged(any_engine_url: str, tmp_path: Path) -> None:
    async with shop(any_engine_url, tmp_path) as here:
        wordless = {"name": " ", "status": 1, "visibility": 4}
        here.shop.put(here.shop.indices[-1], [(f"bad-{number}", wordless) for number in range(40)])
        run = await here.sync(strategy="incremental")
        assert run.error is not None
        assert (run.state, run.error["code"]) == ("failed", "verdict_refused")
        assert not checked(run, "rejects")["passed"]
