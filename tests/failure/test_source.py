"""The shop's index does what shops do to it: it goes, comes back, changes its form, hides behind another name."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import orjson
import pytest

from app.config import EngineSettings
from app.demo.catalogue import mapping, tolerant
from app.errors import Refused
from tests.gates import QUICK, Later, documents
from tests.gateway import gateway
from tests.stack import Gate, Stack, ask, stack, stock

pytestmark = pytest.mark.anyio

PRODUCTS = 260
"""More than the first page holds: there is a moment between two pages."""


@pytest.fixture(scope="module")
async def here(bad_day_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A catalogue whose first generation is live."""
    async with stack(bad_day_url, tmp_path_factory.mktemp("source"), slices=1) as made:
        made.shop.fill(stock(PRODUCTS), tolerant())
        await made.declare(recipe=QUICK)
        assert (await made.sync()).state == "ready"
        yield made


@pytest.fixture(autouse=True)
def whole_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test the shop is there as it was, and readers never saw anything of it."""
    if "here" not in request.fixturenames:
        yield
        return
    stood: Stack = request.getfixturevalue("here")
    live, seen = stood.behind_alias(), stood.count()
    yield
    stood.connections.gates.clear()
    assert stood.behind_alias() == stood.indices() == live, "something was promoted or left behind"
    assert stood.count() == seen
    restore(stood)


def restore(here: Stack) -> None:
    """The source as a fresh shop has it, whatever became of it."""
    for index in ask(here.url, "GET", f"/{here.shop.alias}*/_settings"):
        ask(here.url, "DELETE", f"/{index}")
    here.shop.indices.clear()
    here.shop.fill(stock(PRODUCTS), tolerant())


# --- it goes away ----------------------------------------------------------------------------------------------------


def deleted(here: Stack) -> None:
    """The index is gone, and its alias with it."""
    here.shop.drop()


def replaced(here: Stack) -> None:
    """As Magento re-indexes: a fresh index under the alias, the old one deleted."""
    here.shop.fill(stock(PRODUCTS, seed=2), tolerant())


def moved(here: Stack) -> None:
    """The alias means another index; the one that is being read is still there."""
    other = f"{here.shop.alias}-other"
    ask(here.url, "PUT", f"/{other}", orjson.dumps(tolerant()))
    actions = [{"remove": {"index": here.shop.indices[-1], "alias": here.shop.alias}}]
    actions.append({"add": {"index": other, "alias": here.shop.alias}})
    ask(here.url, "POST", "/_aliases", orjson.dumps({"actions": actions}))


def remade(here: Stack) -> None:
    """Another index of the very same name, with the same products in it."""
    index = here.shop.indices[-1]
    here.shop.drop()
    ask(here.url, "PUT", f"/{index}", orjson.dumps(tolerant() | {"aliases": {here.shop.alias: {}}}))
    here.shop.put(index, stock(PRODUCTS))


BETWEEN = ("page", lambda: Later(2))
MOMENTS: Mapping[str, tuple[Callable[[Stack], None], str, Callable[[], Gate]]] = {
    "deleted before it is read": (deleted, "page", lambda: Later(1)),
    "deleted between two pages": (deleted, *BETWEEN),
    "replaced between two pages": (replaced, *BETWEEN),
    "its alias moved between two pages": (moved, *BETWEEN),
    "made anew under its name between two pages": (remade, *BETWEEN),
    "replaced while the draft is sealed": (replaced, "block", Gate),
}


@pytest.mark.parametrize(("happens", "method", "gate"), MOMENTS.values(), ids=MOMENTS)
async def test_a_source_that_changes_under_the_run_fails_it(
    here: Stack, happens: Callable[[Stack], None], method: str, gate: Callable[[], Gate]
) -> None:
    run, stopped = await here.stopped_at(method, gate())
    read = here.shop.indices[-1]
    happens(here)
    stopped.open()
    run = await here.ended(run.id)
    assert run.state == "failed"
    assert run.error is not None
    assert run.error["code"] == "source_gone"
    assert read in run.error["detail"]
    assert (await here.generations())[0].state == "dropped"


async def test_the_next_run_reads_what_took_its_place(bad_day_url: str, tmp_path: Path) -> None:
    async with stack(bad_day_url, tmp_path, slices=1) as here:
        here.shop.fill(stock(PRODUCTS), tolerant())
        await here.declare(recipe=QUICK)
        run, stopped = await here.stopped_at("page", Later(2))
        held = here.shop.fill(stock(40, seed=2), tolerant())
        stopped.open()
        assert (await here.ended(run.id)).state == "failed"
        assert here.behind_alias() == here.indices() == []
        assert here.open_contexts() == 0
        run = await here.sync()
        assert (run.state, run.counts["source"]) == ("ready", held)


# --- it cannot be told which it is -----------------------------------------------------------------------------------


def doubled(here: Stack) -> str:
    """The alias is on two indices."""
    other = f"{here.shop.alias}-other"
    ask(here.url, "PUT", f"/{other}", orjson.dumps(tolerant() | {"aliases": {here.shop.alias: {}}}))
    return f"{here.shop.alias} means 2 indices ({other}, {here.shop.indices[-1]})"


def missing(here: Stack) -> str:
    """There is no such alias."""
    here.shop.drop()
    return f"no index and no alias {here.shop.alias}"


def emptied(here: Stack) -> str:
    """A fresh index in which nothing is yet."""
    here.shop.fill([], tolerant())
    return "The source holds no product"


def narrowed(here: Stack) -> str:
    """The alias shows a part of the index."""
    add = {"index": here.shop.indices[-1], "alias": here.shop.alias, "filter": {"term": {"status": 1}}}
    ask(here.url, "POST", "/_aliases", orjson.dumps({"actions": [{"add": add}]}))
    return "carries a filter"


UNFIT = {
    "on two indices": (doubled, "source_unresolved"),
    "missing": (missing, "source_unresolved"),
    "filtered": (narrowed, "source_filtered"),
    "empty": (emptied, "source_empty"),
}


@pytest.mark.parametrize(("happens", "code"), UNFIT.values(), ids=UNFIT)
async def test_a_source_of_which_nothing_good_can_come_is_refused(
    here: Stack, happens: Callable[[Stack], str], code: str
) -> None:
    why = happens(here)
    with pytest.raises(Refused) as refused:
        await here.order()
    assert refused.value.code == code
    assert why in refused.value.detail
    queued = await here.queued()
    run = await here.ended(queued.id)
    told = {"code": code, "detail": refused.value.detail}
    assert refused.value.extra["findings"] == [told]
    assert (run.state, run.error) == ("failed", {**told, "findings": [told]})


# --- it changes its form ---------------------------------------------------------------------------------------------


async def test_fields_may_appear_while_it_is_read(bad_day_url: str, tmp_path: Path) -> None:
    async with stack(bad_day_url, tmp_path, slices=1) as here:
        held = here.shop.fill(stock(PRODUCTS), tolerant())
        await here.declare(recipe=QUICK)
        run, stopped = await here.stopped_at("page", Later(2))
        added = {"properties": {"brand_new": {"type": "keyword"}}}
        ask(here.url, "PUT", f"/{here.shop.indices[-1]}/_mapping", orjson.dumps(added))
        here.shop.put(here.shop.indices[-1], [("late", {"name": "a late lamp", "brand_new": "x"})])
        stopped.open()
        run = await here.ended(run.id)
        assert (run.state, run.counts["source"]) == ("ready", held)
        assert "late" not in documents(here, here.alias), "it came after the point in time"
        assert (await here.sync()).counts["source"] == held + 1
        assert "late" in documents(here, here.alias)


async def test_another_shape_gets_its_own_recipe_in_the_next_run(bad_day_url: str, tmp_path: Path) -> None:
    async with stack(bad_day_url, tmp_path) as here:
        here.shop.fill(stock(60))
        await here.declare(recipe=QUICK, policy={"shrink": {"percent": 100}})
        first = await here.sync()
        here.shop.fill(stock(60, shape="elasticsuite"), mapping("elasticsuite"))
        second = await here.sync()
        assert (first.state, second.state, second.error) == ("ready", "ready", None)
        assert first.recipe != second.recipe
        found = documents(here, here.alias).values()
        assert found
        assert all(isinstance(one["price"], float | int) for one in found if not one["is_out_of_stock"])


# --- its owner lets us read and nothing else -------------------------------------------------------------------------

FORBIDDEN = {"type": "security_exception", "reason": "action [indices:admin/refresh] is unauthorized for this user"}


async def test_where_no_refresh_is_permitted_its_interval_is_waited_for(bad_day_url: str, tmp_path: Path) -> None:
    async with (
        gateway(bad_day_url) as way,
        stack(bad_day_url, tmp_path, engines={"main": EngineSettings(url=way.url)}) as here,
    ):
        held = here.shop.fill(stock(40), tolerant())
        await here.declare(recipe=QUICK)
        refused = orjson.dumps({"error": {**FORBIDDEN, "root_cause": [FORBIDDEN]}, "status": 403})
        way.say(403, "POST", r"-shop-v1/_refresh", body=refused)
        unseen = orjson.dumps({"name": "a lamp that nobody has seen"})
        ask(here.url, "PUT", f"/{here.shop.indices[-1]}/_doc/unseen", unseen)
        run = await here.sync()
        assert way.lies == []
        assert (run.state, run.counts["source"]) == ("ready", held + 1)
        assert "unseen" in documents(here, here.alias)
