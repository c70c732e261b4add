"""Incremental runs on each engine: they cost what changed, and end where a fresh index would."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.models import Run
from tests.gates import QUICK, documents
from tests.stack import Stack, ask, stack, stock

pytestmark = pytest.mark.anyio

PRODUCTS = 200
SPOILT = 80  # more, and so much of the index is deleted that a fresh one is built
POLICY = {"settle_seconds": 0}
OURS = frozenset({"updated_at", "embedding"})


@asynccontextmanager
async def shop(
    url: str, folder: Path, policy: Mapping[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Stack]:
    """A catalogue with a live generation."""
    async with stack(url, folder, **settings) as here:
        here.shop.fill(stock(PRODUCTS))
        await here.declare(recipe=QUICK, policy={**POLICY, **(policy or {})})
        assert (await here.sync()).error is None
        yield here


def sold(here: Stack) -> list[str]:
    """The products that readers find, by id."""
    return sorted(documents(here, here.alias))


def source(here: Stack, product: str) -> dict[str, Any]:
    return dict(ask(here.url, "GET", f"/{here.shop.indices[-1]}/_doc/{product}")["_source"])


def change(here: Stack, product: str, **fields: Any) -> None:
    here.shop.put(here.shop.indices[-1], [(product, {**source(here, product), **fields})])


def remove(here: Stack, *products: str) -> None:
    for product in products:
        ask(here.url, "DELETE", f"/{here.shop.indices[-1]}/_doc/{product}?refresh=true")


def counted(run: Run, *names: str) -> tuple[Any, ...]:
    return tuple(run.counts[name] for name in names)


async def assert_as_fresh(here: Stack) -> None:
    """What readers have is what a fresh index would hold."""
    found = documents(here, here.alias)
    run = await here.sync()
    assert (run.state, run.error, run.counts["embedded"]) == ("ready", None, 0)
    fresh = documents(here, here.alias)
    assert found.keys() == fresh.keys()
    for product, document in fresh.items():
        for name in document.keys() - OURS:
            assert found[product][name] == document[name], (product, name)


async def test_nothing_changed_and_nothing_is_built(each_engine_url: str, tmp_path: Path) -> None:
    async with shop(each_engine_url, tmp_path) as here:
        before = here.indices()
        run = await here.sync(strategy="auto")
        assert (run.state, run.error, run.strategy) == ("ready", None, "incremental")
        assert counted(run, "added", "modified", "deleted", "loaded", "embedded") == (0, 0, 0, 0, 0)
        assert run.counts["unchanged"] == len(sold(here))
        assert here.indices() == here.behind_alias() == before
        assert run.verdict is not None
        assert [(check["check"], check["passed"]) for check in run.verdict["checks"]] == [
            ("read", True),
            ("rejects", True),
            ("unchanged", True),
            ("fields", True),
            ("vector", True),
        ]
        assert here.open_contexts() == 0


async def test_where_a_clone_would_carry_on_what_is_wrong_a_fresh_index_is_built(
    elasticsearch9: str, tmp_path: Path
) -> None:
    async with shop(elasticsearch9, tmp_path) as here:
        for product in sold(here):
            path = f"/{here.behind_alias()[0]}/_update/{product}"
            ask(here.url, "POST", path, orjson.dumps({"doc": {"updated_at": "2020-01-01T00:00:00.000Z"}}))
        run = await here.sync(strategy="incremental")
        assert (run.state, run.strategy) == ("ready", "full")
        assert "% of the live index are deleted documents" in (run.plan or {})["why"]
        await here.declare(recipe=QUICK, policy=POLICY, target={"shards": 2})
        run = await here.sync(strategy="incremental")
        assert (run.state, run.strategy) == ("ready", "full")
        assert "The live index has 1 shard(s), target.shards says 2." in (run.plan or {})["why"]
        assert (await here.sync(strategy="incremental")).strategy == "incremental"


@pytest.mark.parametrize("fault", ["a price", "vectors"])
async def test_where_nothing_changed_what_is_live_is_looked_at_all_the_same(
    elasticsearch9: str, tmp_path: Path, fault: str
) -> None:
    """Documents say what they were made of; somebody who writes past the service leaves that as it was."""
    async with shop(elasticsearch9, tmp_path, slices=4) as here:
        (live,) = here.behind_alias()
        for product in sold(here)[:SPOILT]:
            spoil: dict[str, Any] = {"price": 1.0} if fault == "a price" else {"embedding": [1.0] + [0.0] * 31}
            ask(here.url, "POST", f"/{live}/_update/{product}", orjson.dumps({"doc": spoil}))
        run = await here.sync(strategy="incremental")
        assert run.error is not None
        assert (run.state, run.error["code"]) == ("failed", "verdict_refused")
        assert run.verdict is not None
        wrong = {check["check"] for check in run.verdict["checks"] if not check["passed"]}
        assert wrong == {"fields" if fault == "a price" else "vector"}
        assert here.behind_alias() == [live]


async def test_lists_that_come_in_another_order_are_the_same(each_engine_url: str, tmp_path: Path) -> None:
    async with shop(each_engine_url, tmp_path) as here:
        turned = [(product, source(here, product)) for product in sold(here)]
        for _, fields in turned:
            assert len(fields["category_ids"]) > 1
            fields["category_ids"] = fields["category_ids"][::-1]
        here.shop.put(here.shop.indices[-1], turned)
        cheaper = sold(here)[0]
        change(here, cheaper, price_0_1=0.5)
        run = await here.sync(strategy="incremental")
        assert (run.state, run.error, run.strategy) == ("ready", None, "incremental")
        assert counted(run, "modified", "loaded") == (1, 1)
        assert [(one.product_id, one.fields) for one in await here.changes()] == [(cheaper, ["price"])]


async def test_what_changed_is_carried_and_named(newer_engine_url: str, tmp_path: Path) -> None:
    async with shop(newer_engine_url, tmp_path) as here:
        cheaper, renamed, gone, hidden = sold(here)[:4]
        change(here, cheaper, price_0_1=0.5)
        change(here, renamed, name="A name nobody had")
        change(here, hidden, status=2)
        remove(here, gone)
        here.shop.put(here.shop.indices[-1], [("new-1", {**source(here, cheaper), "name": "Brand new"})])
        run = await here.sync(strategy="incremental")
        assert (run.state, run.error, run.strategy) == ("ready", None, "incremental")
        assert counted(run, "added", "modified", "deleted", "loaded") == (1, 2, 2, 3)
        assert run.counts["embedded"] == 2, "a price costs no model call"
        assert run.counts["unchanged"] == PRODUCTS - run.counts["excluded"] - 1 - 2
        changes = await here.changes()
        assert {one.product_id: (one.kind, one.fields) for one in changes} == {
            cheaper: ("modified", ["price"]),
            renamed: ("modified", ["name", "text"]),
            "new-1": ("added", []),
            gone: ("deleted", []),
            hidden: ("deleted", []),
        }
        assert not {gone, hidden} & set(sold(here))
        await assert_as_fresh(here)


async def test_a_clone_that_is_promoted_can_be_rolled_back(newer_engine_url: str, tmp_path: Path) -> None:
    async with shop(newer_engine_url, tmp_path) as here:
        product = sold(here)[0]
        change(here, product, price_0_1=0.5)
        assert (await here.sync(strategy="incremental")).state == "ready"
        new, old = await here.generations()
        assert (new.cloned_from, here.behind_alias()) == (old.id, [new.index])
        assert documents(here, here.alias)[product]["price"] == 0.5
        await here.rollback()
        assert documents(here, here.alias)[product]["price"] != 0.5
        assert not any(info["settings"]["index"].get("blocks") for info in settings(here).values())


def settings(here: Stack) -> Mapping[str, Any]:
    return dict(ask(here.url, "GET", f"/{here.name}-2*/_settings"))


async def test_what_somebody_else_did_to_the_target_is_undone(each_engine_url: str, tmp_path: Path) -> None:
    async with shop(each_engine_url, tmp_path) as here:
        lost, ghost = sold(here)[0], {"source_id": "ghost", "name": "a ghost", "input_hash": "0" * 64}
        (live,) = here.behind_alias()
        ask(here.url, "DELETE", f"/{live}/_doc/{lost}?refresh=true")
        extra = {**documents(here, live)[sold(here)[0]], **ghost}
        put_into(here, live, extra)
        run = await here.sync(strategy="incremental")
        assert (run.state, run.error) == ("ready", None)
        assert counted(run, "added", "deleted", "embedded") == (1, 1, 0)
        assert lost in sold(here)
        assert "ghost" not in sold(here)


def put_into(here: Stack, index: str, document: Mapping[str, Any]) -> None:
    ask(here.url, "PUT", f"/{index}/_doc/ghost?refresh=true", orjson.dumps(dict(document)))


# --- when a fresh index is better ------------------------------------------------------------------------------------


async def test_a_changed_recipe_means_a_fresh_index(any_engine_url: str, tmp_path: Path) -> None:
    async with shop(any_engine_url, tmp_path) as here:
        fields = {"sku": "keyword", "name": "text"}
        await here.declare(recipe={**QUICK, "fields": fields}, policy=POLICY)
        run = await here.sync(strategy="auto")
        assert (run.state, run.error, run.strategy, run.counts["embedded"]) == ("ready", None, "full", 0)
        assert run.plan is not None
        assert "changed" in run.plan["why"]
        assert (await here.sync(strategy="auto")).strategy == "incremental"


async def test_a_template_costs_only_the_texts_that_differ(any_engine_url: str, tmp_path: Path) -> None:
    async with shop(any_engine_url, tmp_path) as here:
        products = dict(stock(PRODUCTS))
        named = [product for product in sold(here) if "orange" in str(products[product].get("name", "")).lower()]
        default = "{{ name }}\n{{ short_description }}\n{{ description }}\n{{ traits }}\n{{ categories }}\n"
        added = "{% if 'orange' in name | lower %}Fruit{% endif %}"
        await here.declare(recipe={**QUICK, "template": default + added}, policy=POLICY)
        run = await here.sync(strategy="auto")
        assert (run.state, run.error, run.strategy) == ("ready", None, "full")
        assert run.counts["embedded"] == len(named)


async def test_a_large_delta_goes_over_to_a_fresh_index(any_engine_url: str, tmp_path: Path) -> None:
    async with shop(any_engine_url, tmp_path, {"delta_percent": 5}) as here:
        for product in sold(here)[:20]:
            change(here, product, price_0_1=0.5)
        run = await here.sync(strategy="incremental")
        assert (run.state, run.error, run.strategy) == ("ready", None, "full")
        assert run.plan is not None
        assert "delta_percent" in run.plan["why"]
        assert counted(run, "added", "modified", "embedded") == (0, 20, 0)
        assert len(await here.changes()) == 20
        assert len(here.indices()) == 2, "the clone went"
        assert (await here.generations())[0].cloned_from is None


# --- what somebody else broke ----------------------------------------------------------------------------------------


def without_vector(here: Stack) -> str:
    """A live document whose vector somebody removed."""
    (live,) = here.behind_alias()
    product, document = next(iter(documents(here, live).items()))
    document.pop("embedding", None)
    ask(here.url, "PUT", f"/{live}/_doc/{product}?refresh=true", orjson.dumps(document))
    return product


async def test_a_document_without_a_vector_gets_its_own_back(each_engine_url: str, tmp_path: Path) -> None:
    async with shop(each_engine_url, tmp_path) as here:
        product = without_vector(here)
        run = await here.sync(strategy="incremental")
        assert (run.state, run.error, run.strategy) == ("ready", None, "incremental")
        assert counted(run, "modified", "loaded", "embedded", "reused") == (1, 1, 0, 1)
        (change,) = await here.changes()
        assert (change.product_id, change.kind, change.fields) == (product, "modified", ["embedding"])


async def test_a_repair_mends_the_live_generation_itself(each_engine_url: str, tmp_path: Path) -> None:
    async with shop(each_engine_url, tmp_path) as here:
        bare, lost, stale, orphan = without_vector(here), *sold(here)[1:4]
        (live,) = here.behind_alias()
        ask(here.url, "DELETE", f"/{live}/_doc/{lost}?refresh=true")
        change(here, stale, price_0_1=0.5)
        remove(here, orphan)
        before = here.indices()
        run = await here.sync(strategy="repair")
        assert (run.state, run.error, run.strategy) == ("ready", None, "repair")
        assert here.indices() == here.behind_alias() == before
        assert counted(run, "added", "modified", "deleted", "embedded") == (1, 2, 1, 0)
        assert {one.product_id: (one.kind, one.fields) for one in await here.changes()} == {
            bare: ("modified", ["embedding"]),
            lost: ("added", []),
            stale: ("modified", ["price"]),
            orphan: ("deleted", []),
        }
        assert run.verdict is not None
        assert run.verdict["passed"]
        told = run.verdict["checks"][-1]
        assert (told["check"], told["found"]) == ("repaired", 4)
        assert told["detail"] == "1 missing, 1 stale, 1 without a vector, 1 orphaned."
        again = await here.sync(strategy="repair")
        assert (again.state, again.counts["loaded"], again.counts["deleted"]) == ("ready", 0, 0)
        await assert_as_fresh(here)


async def test_a_repair_is_refused_where_only_a_fresh_index_would_do(elasticsearch9: str, tmp_path: Path) -> None:
    async with stack(elasticsearch9, tmp_path) as here:
        here.shop.fill(stock(30))
        await here.declare(recipe=QUICK)
        for code, recipe in (("nothing_to_repair", QUICK), ("recipe_changed", {**QUICK, "lang": "de"})):
            await here.declare(recipe=recipe)
            run = await here.sync(strategy="repair")
            assert run.error is not None
            assert (run.state, run.error["code"]) == ("failed", code)
            assert (await here.sync()).state == "ready" if code == "nothing_to_repair" else True


async def test_a_small_catalogue_that_lost_much_is_repaired_too(elasticsearch9: str, tmp_path: Path) -> None:
    async with stack(elasticsearch9, tmp_path) as here:
        here.shop.fill(stock(9))
        await here.declare(recipe=QUICK)
        assert (await here.sync()).error is None
        before = sold(here)
        for product in before[1:]:
            ask(here.url, "DELETE", f"/{here.behind_alias()[0]}/_doc/{product}?refresh=true")
        run = await here.sync(strategy="repair")
        assert (run.state, run.error, run.counts["added"]) == ("ready", None, len(before) - 1)
        assert sold(here) == before


async def test_a_repair_is_planned_as_it_is_done(elasticsearch9: str, tmp_path: Path) -> None:
    async with shop(elasticsearch9, tmp_path) as here:
        lost, stale = sold(here)[:2]
        ask(here.url, "DELETE", f"/{here.behind_alias()[0]}/_doc/{lost}?refresh=true")
        change(here, stale, price_0_1=0.5)
        plan = await here.sync(strategy="repair", dry_run=True)
        assert (plan.state, plan.error) == ("ready", None)
        assert plan.plan is not None
        assert plan.plan["strategy"] == "repair"
        assert lost not in sold(here), "a plan writes nothing"
        run = await here.sync(strategy="repair")
        names = ("added", "modified", "deleted", "unchanged")
        assert [plan.plan["counts"][name] for name in names] == [run.counts[name] for name in names]
        assert counted(run, "added", "modified", "deleted") == (1, 1, 0)


async def test_what_a_repair_wrote_is_on_record_however_it_ended(elasticsearch9: str, tmp_path: Path) -> None:
    async with shop(elasticsearch9, tmp_path) as here:
        stale = sold(here)[0]
        change(here, stale, price_0_1=0.5)
        run, gate = await here.stopped_at("green", strategy="repair")
        await here.cancel(run.id, "olga")
        gate.open()
        assert (await here.ended(run.id)).state == "canceled"
        assert documents(here, here.alias)[stale]["price"] == 0.5
        assert [(one.product_id, one.fields) for one in await here.changes()] == [(stale, ["price"])]


async def test_too_much_to_repair_is_left_to_a_full_run(elasticsearch9: str, tmp_path: Path) -> None:
    async with shop(elasticsearch9, tmp_path, {"delta_percent": 5}) as here:
        for product in sold(here)[:20]:
            change(here, product, price_0_1=0.5)
        run = await here.sync(strategy="repair")
        assert run.error is not None
        assert (run.state, run.error["code"]) == ("failed", "outgrown")


# --- absences --------------------------------------------------------------------------------------------------------


async def test_a_product_that_is_back_at_the_second_look_was_never_gone(each_engine_url: str, tmp_path: Path) -> None:
    for strategy in ("incremental", "full"):
        async with shop(each_engine_url, tmp_path) as here:
            back, changed, gone = sold(here)[:3]
            kept = {product: source(here, product) for product in (back, changed)}
            remove(here, back, changed, gone)
            run, gate = await here.stopped_at("get", strategy=strategy)
            here.shop.put(here.shop.indices[-1], [(back, kept[back]), (changed, {**kept[changed], "price_0_1": 0.5})])
            gate.open()
            run = await here.ended(run.id)
            assert (run.state, run.error) == ("ready", None)
            assert counted(run, "added", "modified", "deleted") == (0, 1, 1)
            found = documents(here, here.alias)
            assert (back in found, found[changed]["price"], gone in found) == (True, 0.5, False)


async def test_too_many_deletions_are_withheld_until_a_number_is_approved(any_engine_url: str, tmp_path: Path) -> None:
    async with shop(any_engine_url, tmp_path, {"shrink": {"documents": 3, "percent": 1}}) as here:
        gone, changed = sold(here)[:6], sold(here)[7]
        remove(here, *gone)
        change(here, changed, price_0_1=0.5)
        run = await here.sync(strategy="incremental")
        assert (run.state, run.error) == ("ready", None)
        assert run.withheld == [{"guard": "shrink", "limit": 3, "found": 6}]
        assert counted(run, "modified", "deleted") == (1, 0)
        assert set(gone) < set(sold(here))
        few = await here.approve(run.id, 5)
        assert (few.state, few.withheld) == ("ready", [{"guard": "shrink", "limit": 5, "found": 6}])
        enough = await here.approve(few.id, 6)
        assert (enough.state, enough.error, enough.withheld, enough.counts["deleted"]) == ("ready", None, [], 6)
        assert not set(gone) & set(sold(here))
        assert (await here.sync(strategy="incremental")).withheld == []


async def test_a_full_run_over_the_limits_is_refused_until_a_number_is_approved(
    any_engine_url: str, tmp_path: Path
) -> None:
    async with shop(any_engine_url, tmp_path, {"shrink": {"documents": 3, "percent": 1}}) as here:
        gone = sold(here)[:6]
        remove(here, *gone)
        run = await here.sync()
        assert run.error is not None
        assert (run.state, run.error["code"]) == ("failed", "verdict_refused")
        assert set(gone) < set(sold(here))
        few = await here.approve(run.id, 5)
        assert few.state == "failed"
        approved = await here.approve(few.id, 6)
        assert (approved.state, approved.error, approved.ceiling) == ("ready", None, 6)
        assert not set(gone) & set(sold(here))


# --- vectors are paid for once ---------------------------------------------------------------------------------------


async def test_what_was_embedded_before_the_end_is_not_embedded_again(any_engine_url: str, tmp_path: Path) -> None:
    async with stack(any_engine_url, tmp_path, slices=1, embedding_concurrency=1) as here:
        here.shop.fill(stock(1200, seed=7))
        await here.declare(recipe=QUICK, policy=POLICY)
        run, gate = await here.stopped_at("bulk")
        await here.cancel(run.id)
        gate.open()
        run = await here.ended(run.id)
        assert run.state == "canceled"
        assert run.counts["embedded"] > 0
        again = await here.sync()
        assert (again.state, again.error) == ("ready", None)
        assert again.counts["reused"] >= run.counts["embedded"]
        assert run.counts["embedded"] + again.counts["embedded"] == len(
            {document["text"] for document in documents(here, here.alias).values()}
        )


async def test_a_second_catalogue_with_the_same_texts_asks_no_model(any_engine_url: str, tmp_path: Path) -> None:
    async with (
        shop(any_engine_url, tmp_path) as here,
        stack(any_engine_url, tmp_path, engines=here.settings.engines) as other,
    ):
        other.shop.alias = here.shop.alias
        await other.declare(recipe=QUICK)
        run = await other.sync()
        assert (run.state, run.error, run.counts["embedded"]) == ("ready", None, 0)


# --- a dry run -------------------------------------------------------------------------------------------------------


async def test_a_plan_tells_what_the_run_then_does(any_engine_url: str, tmp_path: Path) -> None:
    async with shop(any_engine_url, tmp_path) as here:
        cheaper, renamed, gone = sold(here)[:3]
        change(here, cheaper, price_0_1=0.5)
        change(here, renamed, name=f"A name nobody had {here.name}")
        remove(here, gone)
        before = here.indices()
        dry = await here.sync(strategy="auto", dry_run=True)
        assert (dry.state, dry.error, here.indices()) == ("ready", None, before)
        assert dry.plan is not None
        assert (dry.plan["strategy"], dry.plan["texts_to_embed"], dry.plan["withheld"]) == ("incremental", 1, [])
        run = await here.sync(strategy="auto")
        names = ("source", "read", "added", "modified", "deleted", "unchanged", "excluded", "rejected")
        assert {name: dry.plan["counts"][name] for name in names} == {name: run.counts[name] for name in names}
        assert run.plan == {**dry.plan, "why": run.plan["why"]}
        assert (run.counts["embedded"], run.cost["tokens"]) == (1, dry.plan["tokens"])
        assert here.open_contexts() == 0
