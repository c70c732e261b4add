"""The verbs `plan`, `compare`, `trace` and `monitor`, against a service that answers as told."""

import json

import pytest

from app.cli import exits
from app.cli.plan import changes
from tests.unit.fake_service import serving

COUNTS = {"source": 2000, "added": 1, "modified": 2, "deleted": 0, "unchanged": 1997}
PLAN = {
    "strategy": "incremental",
    "why": "Builds on the live generation.",
    "counts": COUNTS,
    "texts_to_embed": 2,
    "tokens": 400,
    "usd": 0.0008,
    "bytes": 12_000,
    "seconds": 3.5,
    "withheld": [],
    "findings": [],
}
SAME = {**PLAN, "counts": {**COUNTS, "added": 0, "modified": 0}}
RUN = {"id": "r1", "catalogue": "shop", "strategy": "incremental", "state": "running", "dry_run": True, "plan": None}
WITHHELD = [{"guard": "deletions", "limit": 50, "found": 120}]
FINDINGS = [{"code": "disk", "detail": "Too little room."}]


@pytest.fixture
def fake():
    with serving() as service:
        service.on("GET", "/catalogues", {"items": [{"name": "shop"}], "next_cursor": None})
        yield service


# --- plan ------------------------------------------------------------------------------------------------------------


def test_plan_asks_for_a_dry_run_and_prints_what_it_says(reshelve, fake):
    fake.on("POST", "/sync", PLAN)

    code, out, err = reshelve("plan", "shop", "--strategy", "incremental", "-o", "json")
    assert (code, json.loads(out), err) == (exits.DONE, PLAN, "")
    assert fake.bodies("POST", "/sync") == [{"catalogue": "shop", "strategy": "incremental", "dry_run": True}]

    code, out, _ = reshelve("plan")
    assert code == exits.DONE
    assert "source 2,000, added 1, modified 2, deleted 0, unchanged 1,997" in out
    assert "texts to embed" in out
    assert fake.bodies("POST", "/sync")[1] == {"strategy": "auto", "dry_run": True}


@pytest.mark.parametrize(
    ("found", "plain", "detailed"),
    [
        (SAME, exits.DONE, exits.DONE),
        (PLAN, exits.DONE, exits.CHANGES),
        ({**SAME, "counts": {**SAME["counts"], "deleted": 1}}, exits.DONE, exits.CHANGES),
        ({**SAME, "strategy": "full"}, exits.DONE, exits.CHANGES),
        ({**PLAN, "withheld": WITHHELD}, exits.GUARDED, exits.GUARDED),
        ({**PLAN, "withheld": WITHHELD, "findings": FINDINGS}, exits.FAILED, exits.FAILED),
    ],
)
def test_the_exit_code_says_what_a_plan_found(reshelve, fake, found, plain, detailed):
    fake.on("POST", "/sync", found)

    assert reshelve("plan", "shop")[0] == plain
    code, out, err = reshelve("plan", "shop", "--detailed-exitcode", "-o", "jsonl")

    assert (code, json.loads(out)) == (detailed, found)
    assert ("120 deletions are due, 50 are allowed" in err) == bool(found["withheld"])
    assert ("disk: Too little room." in err) == bool(found["findings"])


def test_a_plan_that_takes_long_is_waited_for(reshelve, fake):
    fake.on("POST", "/sync", RUN, status=202)
    fake.on("GET", "/runs/r1", RUN, {**RUN, "state": "ready", "plan": PLAN})
    fake.on("GET", "/runs/r1/progress", {"items": []})

    code, out, _ = reshelve("plan", "--detailed-exitcode", "-o", "json")

    assert (code, json.loads(out)) == (exits.CHANGES, PLAN)


def test_a_plan_that_fails_is_no_plan(reshelve, fake):
    fake.on("POST", "/sync", RUN, status=202)
    fake.on("GET", "/runs/r1", {**RUN, "state": "failed", "error": {"code": "gone", "detail": "It went."}})
    fake.on("GET", "/runs/r1/progress", {"items": []})

    code, _, err = reshelve("plan")

    assert code == exits.FAILED
    assert "It went. (gone)" in err


def test_findings_that_refuse_a_plan_exit_with_one_and_misuse_with_two(reshelve, fake):
    fake.refuse("POST", "/sync", 422, findings=FINDINGS)
    assert reshelve("plan", "--detailed-exitcode")[0] == exits.FAILED
    for code, expected in (("stalled", exits.FAILED), ("active", exits.CONFLICT)):
        fake.refuse("POST", "/sync", 409, code=code, detail="It is so.")
        assert reshelve("plan")[0] == expected
    fake.refuse("POST", "/sync", 422, errors=[{"where": "catalogue", "why": "name it"}])
    assert reshelve("plan", "--detailed-exitcode")[0] == exits.USAGE


def test_figures_that_were_not_found_out_are_no_changes():
    assert not changes({"strategy": "incremental", "counts": {"added": None, "modified": None}})
    assert not changes({})


# --- compare ---------------------------------------------------------------------------------------------------------

SIDE = {"catalogue": "shop", "generation": "g2", "index": "shop-2", "mode": "vector", "degraded_by": None}
COMPARED = {
    "left": SIDE,
    "right": {**SIDE, "generation": "g1", "index": "shop-1"},
    "k": 2,
    "queries_from": "request",
    "overlap": 0.5,
    "queries": [
        {
            "query": "oak table",
            "overlap": 0.5,
            "moved": [{"id": "7", "left": 2, "right": None}],
            "left": [{"id": "5", "score": 1.0, "name": "oak\x1btable"}, {"id": "7", "score": 0.5, "name": None}],
            "right": [{"id": "5", "score": 1.0, "name": "oak table"}],
        }
    ],
}


def test_compare_shows_both_lists_rank_by_rank(reshelve, fake):
    fake.on("POST", "/catalogues/shop/compare", COMPARED)

    code, out, err = reshelve("compare", "g1", "-q", "oak table", "-q", "lamp", "-k", "2", "--mode", "hybrid")

    assert code == exits.DONE
    assert fake.bodies("POST", "/catalogues/shop/compare") == [
        {"with": "g1", "mode": "hybrid", "k": 2, "queries": ["oak table", "lamp"]}
    ]
    assert "left: shop-2, right: shop-1; overlap 0.50" in err
    rows = [line.split() for line in out.splitlines()]
    assert ["1", "5", "oak", "table", "5", "oak", "table"] in rows
    assert ["2", "7", "-", "-", "-"] in rows


def test_compare_as_json_says_everything_and_a_lame_side_is_told(reshelve, fake):
    lame = {**SIDE, "degraded_by": {"code": "other_model", "detail": "Not the model."}}
    fake.on("POST", "/catalogues/shop/compare", {**COMPARED, "right": lame})

    code, out, err = reshelve("compare", "shop", "other", "-o", "json")
    assert (code, json.loads(out)["overlap"]) == (exits.DONE, 0.5)
    assert "Not the model." in err
    assert fake.bodies("POST", "/catalogues/shop/compare") == [{"with": "other", "mode": "vector", "k": 10}]
    _, out, _ = reshelve("compare", "shop", "other", "-o", "jsonl")
    assert [json.loads(line)["query"] for line in out.splitlines()] == ["oak table"]


@pytest.mark.parametrize("words", [["compare"], ["trace"], ["compare", "a", "b", "c"], ["trace", "a", "b", "c"]])
def test_too_few_or_too_many_words_are_misuse(reshelve, words):
    assert reshelve(*words)[0] == exits.USAGE


# --- trace -----------------------------------------------------------------------------------------------------------

TRACED = {
    "catalogue": "shop",
    "product_id": "a/b ..?",
    "why": {"code": "stale", "detail": "The source has changed, in: price, stock."},
    "source": {"index": "magento", "found": True, "document": {"content_hash": "c1"}, "reject": None},
    "generations": [{"index": "shop-2", "state": "live", "present": True, "differs": ["price", "stock"]}],
    "last_change": {"kind": "modified", "fields": ["price"], "at": "2026-01-31T00:00:00.000Z", "run": "r1"},
    "last_reject": None,
    "last_event": None,
}


def test_trace_answers_why_first(reshelve, fake):
    fake.on("GET", "/catalogues/shop/products/a%2Fb%20%2E%2E%3F", TRACED)

    code, out, err = reshelve("trace", "a/b ..?")
    assert code == exits.DONE
    assert err.splitlines()[0] == "stale: The source has changed, in: price, stock."
    assert "modified" in out
    assert "price, stock" in out
    code, out, _ = reshelve("trace", "shop", "a/b ..?", "-o", "json")
    assert (code, json.loads(out)) == (exits.DONE, TRACED)


def test_a_product_that_nobody_knows_fails(reshelve, fake):
    fake.refuse("GET", "/catalogues/shop/products/9", 404, code="unknown_product")

    assert reshelve("trace", "9")[:2] == (exits.FAILED, "")


# --- monitor ---------------------------------------------------------------------------------------------------------


def test_monitor_lists_the_change_log(reshelve, fake):
    change = {"product_id": "7", "kind": "modified", "fields": ["price", "name"], "run": "r1", "at": "2026-01-31"}
    fake.on("GET", "/catalogues/shop/changes", {"items": [change], "next_cursor": None})

    code, out, _ = reshelve("monitor", "shop", "--since", "2026-01-31T00:00:00+01:00", "--product", "7", "--limit", "5")
    assert code == exits.DONE
    assert "price, name" in out
    asked = fake.asked[-1][1]
    assert "since=2026-01-31T00%3A00%3A00%2B01%3A00" in asked
    assert "product_id=7" in asked
    assert "limit=5" in asked
    _, out, _ = reshelve("monitor", "-o", "jsonl")
    assert json.loads(out) == change
    assert "since" not in fake.asked[-1][1]
