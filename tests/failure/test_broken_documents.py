"""One document in twenty is broken, each in its own way: the good ones arrive, each bad one says why it did not."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from app import runs
from app.demo.catalogue import broken, tolerant
from app.demo.goods import goods
from app.demo.magento import document
from app.models import RejectRow, Run
from tests.gates import QUICK, documents
from tests.stack import Stack, ask, stack, stock

pytestmark = pytest.mark.anyio

FIELDS = {
    "sku": "keyword",
    "name": "text",
    "category_ids": "keyword",
    "is_out_of_stock": "boolean",
    "price": {"type": "double", "from": "price_0_1"},
    "ean": "keyword",
}
RECIPE = {**QUICK, "fields": FIELDS}
SOUND = 250

RAW: Mapping[str, tuple[bytes, str]] = {
    "half-a-pair": (rb'{"name": "half a lamp \ud83d"}', "bad_unicode"),
    "half-a-label": (rb'{"name": "lamp", "color_value": ["\udc00", "red"]}', "bad_unicode"),
    "bare-nan": (b'{"name": "a lamp of no price", "price_0_1": NaN}', "not_finite"),
    "bare-infinity": (b'{"name": "a lamp of every price", "price_0_1": [1, -Infinity]}', "not_finite"),
    "bell\x07": (b'{"name": "a lamp whose id rings"}', "bad_id"),
    "too-deep": (b'{"name": ' + b'{"a":' * 90 + b"1" + b"}" * 90 + b"}", "too_deep"),
    "long-keyword": (orjson.dumps({"name": "lamp", "sku": "S" * 40_000}), "keyword_too_long"),
}
"""Documents that only a careless writer makes, as bytes, and the reason for which each is left out."""

ODD_IDS = (" ", "a b/c?d#e%2F", "ünï-☃", "x" * 512, '"quoted\\"', "_create", "..", "-1", "*,", "💡")
"""All of them are ids that engines take."""


def sound(count: int = SOUND) -> dict[str, dict[str, Any]]:
    """Products with nothing wrong about them; each tenth carries an EAN."""
    kept = (good for good in goods(10 * count, 7) if good.form == "plain" and not good.skeleton and good.status == 1)
    whole = [document(good) for good in kept if good.visibility == 4][:count]
    assert len(whole) == count
    return {f"s{n}": one | ({"ean": str(4_000_000 + n)} if n % 10 == 0 else {}) for n, one in enumerate(whole)}


def write(here: Stack, raw: Mapping[str, bytes]) -> list[str]:
    """Documents as bytes into the source; those that the engine itself would not store are left out."""
    heads = [b'{"index":{"_id":%s}}' % orjson.dumps(name) for name in raw]
    body = b"\n".join(part for pair in zip(heads, raw.values(), strict=True) for part in pair) + b"\n"
    path = f"{here.url}/{here.shop.indices[-1]}/_bulk?refresh=true"
    answer = httpx.post(path, content=body, headers={"Content-Type": "application/x-ndjson"}, timeout=60).json()
    return [item["index"]["_id"] for item in answer["items"] if item["index"]["status"] < 300]


async def listed(here: Stack, run: Run) -> dict[str, dict[str, Any]]:
    """The rejects as `GET /runs/{id}/rejects` shows them."""
    async with here.db.reading() as session:
        rows: list[RejectRow] = (await runs.rejects(session, run.id, limit=500))[0]
    shown = [runs.view_reject(row) for row in rows]
    assert all(set(one) == {"product_id", "by", "code", "detail"} and one["detail"] for one in shown)
    return {one["product_id"]: one for one in shown}


async def test_the_good_ones_are_there_and_each_bad_one_says_why(bad_day_url: str, tmp_path: Path) -> None:
    async with stack(bad_day_url, tmp_path) as here:
        here.shop.fill(sound().items(), tolerant())
        cases = list(broken())
        here.shop.put(here.shop.indices[-1], [(case.id, case.source) for case in cases])
        here.shop.put(here.shop.indices[-1], [(name, {"name": f"lamp {n}"}) for n, name in enumerate(ODD_IDS)])
        raw = write(here, {name: body for name, (body, _) in RAW.items()})
        assert {"half-a-label", "bell\x07"} < set(raw), "what engines store, strict parsers refuse"
        await here.declare(recipe=RECIPE, policy={"max_reject_percent": 6})
        run = await here.sync()
        assert (run.state, run.error) == ("ready", None)
        left_out = await listed(here, run)
        outcomes = {case.id: case.outcome for case in cases}
        bad = {case.id for case in cases if case.outcome == "reject"} | set(raw)
        kept = {*sound(), *ODD_IDS, *(name for name, outcome in outcomes.items() if outcome == "kept")}
        assert documents(here, here.alias).keys() == kept
        assert {name for name, one in left_out.items() if one["by"] == "data"} == {printed(name) for name in bad}
        assert {name for name, one in left_out.items() if one["by"] == "rule"} == {
            name for name, outcome in outcomes.items() if outcome == "excluded"
        }
        assert {name: left_out[printed(name)]["code"] for name in raw} == {name: RAW[name][1] for name in raw}
        assert run.counts["rejected"] == len(bad) > 0.05 * len(kept)
        assert "<script" not in json.dumps(documents(here, here.alias))


def printed(name: str) -> str:
    """How an id is shown that has signs nobody can read."""
    return name if name.isprintable() else ascii(name)[1:-1]


# --- the engine refuses ----------------------------------------------------------------------------------------------


async def test_what_the_target_will_not_map_is_left_out_alone(bad_day_url: str, tmp_path: Path) -> None:
    """Somebody wants the EAN as a number in every index; some products have something else there."""
    async with stack(bad_day_url, tmp_path) as here:
        wrong = {f"w{n}": {**source, "ean": f"N-{n}"} for n, source in enumerate(sound(3).values())}
        here.shop.fill([*sound(100).items(), *wrong.items()], tolerant())
        await here.declare(recipe=RECIPE)
        run, made = await here.stopped_at("refresh")
        draft = (await here.generations())[0].index
        number = {"type": "keyword", "ignore_above": 8191, "fields": {"number": {"type": "long"}}}
        ask(here.url, "PUT", f"/{draft}/_mapping", orjson.dumps({"properties": {"ean": number}}))
        made.open()
        run = await here.ended(run.id)
        assert (run.state, run.error) == ("ready", None)
        assert documents(here, here.alias).keys() == sound(100).keys()
        left_out = await listed(here, run)
        assert left_out.keys() == wrong.keys()
        assert {one["by"] for one in left_out.values()} == {"engine"}
        assert {one["code"] for one in left_out.values()} <= {"document_parsing_exception", "mapper_parsing_exception"}
        assert all("ean" in one["detail"] for one in left_out.values())


# --- too many --------------------------------------------------------------------------------------------------------


async def test_over_the_limit_nothing_is_promoted_and_the_draft_stays_to_be_looked_at(
    bad_day_url: str, tmp_path: Path
) -> None:
    async with stack(bad_day_url, tmp_path) as here:
        here.shop.fill(sound(100).items(), tolerant())
        await here.declare(recipe=RECIPE)
        assert (await here.sync()).state == "ready"
        live = here.behind_alias()
        bad = [case for case in broken() if case.outcome == "reject" and case.name != "huge_text"]
        here.shop.put(here.shop.indices[-1], [(case.id, case.source) for case in bad])
        run = await here.sync()
        why = f"rejects: {len(bad)} products were rejected, over max_reject_percent=5: see the rejects."
        assert (run.state, run.error) == ("failed", {"code": "verdict_refused", "detail": why})
        assert failed_checks(run) == {"rejects"}
        assert (here.behind_alias(), here.count()) == (live, 100)
        assert len(await listed(here, run)) == len(bad)
        refused, _ = await here.generations()
        assert (refused.state, refused.fed) == ("refused", False)
        assert documents(here, refused.index).keys() == sound(100).keys(), "it can be looked at"
        await here.declare(recipe=RECIPE, policy={"max_reject_percent": 20})
        run = await here.sync()
        assert (run.state, run.error) == ("ready", None)
        assert refused.index not in here.indices()
        assert [one.state for one in await here.generations()] == ["live", "dropped", "retired"]


async def test_what_is_left_out_by_rule_is_no_reject(bad_day_url: str, tmp_path: Path) -> None:
    async with stack(bad_day_url, tmp_path) as here:
        hidden = {f"h{n}": {**source, "visibility": 1} for n, source in enumerate(sound(60).values())}
        here.shop.fill([*sound(60).items(), *hidden.items()], tolerant())
        await here.declare(recipe=RECIPE, policy={"max_reject_percent": 0})
        run = await here.sync()
        assert (run.state, run.error) == ("ready", None)
        assert (run.counts["excluded"], run.counts["rejected"], here.count()) == (60, 0, 60)
        assert {(one["by"], one["code"]) for one in (await listed(here, run)).values()} == {("rule", "excluded")}


async def test_when_all_are_left_out_it_is_refused(bad_day_url: str, tmp_path: Path) -> None:
    async with stack(bad_day_url, tmp_path) as here:
        here.shop.fill(stock(30), tolerant())
        await here.declare(recipe={**RECIPE, "exclude_when": {"store_id": [1]}})
        run = await here.sync()
        why = "documents: Every product was left out: see the rejects."
        assert (run.state, run.error) == ("failed", {"code": "verdict_refused", "detail": why})
        assert failed_checks(run) == {"documents"}
        assert here.behind_alias() == []


def failed_checks(run: Run) -> set[str]:
    """The checks that refused the draft."""
    assert run.verdict is not None
    return {check["check"] for check in run.verdict["checks"] if not check["passed"]}
