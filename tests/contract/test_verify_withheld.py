"""Deletions that a guard holds back are no fault of a draft, also where one of the products was left out for cause."""

from pathlib import Path

import pytest

from app.demo.catalogue import tolerant
from tests.contract.planted import PRODUCTS, checked, everything, failed, planted, product, refused
from tests.gates import QUICK
from tests.stack import ask, stack

pytestmark = pytest.mark.anyio

POLICY = {"settle_seconds": 0, "shrink": {"documents": 3, "percent": 1}}


async def test_what_is_withheld_may_stay_and_nothing_else(any_engine_url: str, tmp_path: Path) -> None:
    async with stack(any_engine_url, tmp_path, slices=1) as here:
        here.shop.fill(map(product, range(PRODUCTS)), tolerant())
        await here.declare(recipe=QUICK, policy=POLICY)
        assert (await here.sync()).error is None
        for number in range(6):
            ask(here.url, "DELETE", f"/{here.shop.indices[-1]}/_doc/p{number}?refresh=true")
        changed = [("p20", {**product(20)[1], "price": "much"}), ("p21", {**product(21)[1], "price": 1.5})]
        here.shop.put(here.shop.indices[-1], changed)
        bad = await refused(
            here, "green", planted(lambda found: {"ghost": {**found["p9"], "source_id": "ghost"}}), None, "incremental"
        )
        assert "1 should not be there (ghost)" in checked(bad, "ids")["detail"]
        lost = await refused(here, "green", planted(lambda _: {"p9": None}), None, "incremental")
        assert "1 documents are missing, 0 should" in checked(lost, "ids")["detail"]
        run = await here.sync(strategy="incremental")
        assert (run.state, run.error, failed(run)) == ("ready", None, set())
        assert (run.counts["rejected"], run.withheld) == (1, [{"guard": "shrink", "limit": 3, "found": 7}])
        found = await everything(here, here.alias)
        assert len(found) == PRODUCTS
        assert (found["p20"]["price"], found["p21"]["price"]) == (20.5, 1.5)
