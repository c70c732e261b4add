"""The verbs about catalogues, generations and search, against a service that answers as told."""

import io
import json

import pytest

from app.cli import exits
from app.cli.catalogues import declarations
from app.errors import Invalid
from tests.unit.fake_service import serving

SHOP = {"source": {"index": "magento2_product_1"}, "target": {"alias": "shop-live"}}
KNOWN = {**SHOP, "name": "shop", "held": False, "live": None, "last_run": None}


@pytest.fixture
def fake():
    with serving() as service:
        service.on("GET", "/catalogues", {"items": [KNOWN], "next_cursor": None})
        yield service


# --- apply -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"name": "shop", **SHOP}),
        "name: shop\nsource: {index: magento2_product_1}\ntarget: {alias: shop-live}\n",
        "shop:\n  source: {index: magento2_product_1}\n  target: {alias: shop-live}\n",
        "catalogues:\n- name: shop\n  source: {index: magento2_product_1}\n  target: {alias: shop-live}\n",
    ],
)
def test_apply_takes_one_catalogue_in_any_of_the_usual_shapes(reshelve, fake, tmp_path, text):
    fake.on("PUT", "/catalogues/shop", KNOWN, status=201)
    file = tmp_path / "shop.yaml"
    file.write_text(text)

    code, out, _ = reshelve("catalogues", "apply", "-f", str(file), "-o", "json")

    assert code == exits.DONE
    assert json.loads(out) == [KNOWN]
    assert fake.bodies("PUT", "/catalogues/shop") == [SHOP]


def test_apply_reads_stdin_and_takes_the_name_from_the_command(reshelve, fake, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(SHOP)))
    fake.on("PUT", "/catalogues/other", KNOWN)

    assert reshelve("catalogues", "apply", "-f", "-", "--name", "other")[0] == exits.DONE
    assert fake.bodies("PUT", "/catalogues/other") == [SHOP]


def test_apply_goes_on_after_one_that_is_refused_and_tells_its_findings(reshelve, fake, tmp_path):
    fake.refuse("PUT", "/catalogues/a", 422, errors=[{"where": "target.alias", "why": "must be lower case"}])
    fake.on("PUT", "/catalogues/b", {**KNOWN, "name": "b"})
    file = tmp_path / "both.yaml"
    file.write_text(json.dumps([{"name": "a", **SHOP}, {"name": "b", **SHOP}]))

    code, out, err = reshelve("catalogues", "apply", "-f", str(file), "-o", "jsonl")

    assert code == exits.USAGE
    assert [json.loads(line)["name"] for line in out.splitlines()] == ["b"]
    assert "target.alias: must be lower case" in err


@pytest.mark.parametrize(
    ("text", "why"),
    [("a: [", "neither YAML nor JSON"), ("", "at least one"), ("- 7", "is a mapping"), ("- {source: {}}", "no name")],
)
def test_apply_says_what_is_wrong_with_a_file(reshelve, tmp_path, text, why):
    file = tmp_path / "wrong.yaml"
    file.write_text(text)

    code, _, err = reshelve("catalogues", "apply", "-f", str(file))

    assert code == exits.USAGE
    assert why in err


def test_apply_of_a_file_that_is_not_there(reshelve):
    code, _, err = reshelve("catalogues", "apply", "-f", "/nowhere.yaml")

    assert code == exits.USAGE
    assert "No such file" in err


def test_a_name_given_with_several_catalogues_is_refused():
    with pytest.raises(Invalid, match="just one"):
        declarations([{"name": "a", **SHOP}, {"name": "b", **SHOP}], "c")


# --- list, show, delete, release -------------------------------------------------------------------------------------


def test_list_and_show(reshelve, fake):
    fake.on("GET", "/catalogues/shop", {**KNOWN, "held": True, "held_reason": "rolled back by ann"})

    code, out, _ = reshelve("catalogues", "list")
    assert code == exits.DONE
    assert "shop-live" in out
    code, out, _ = reshelve("catalogues", "show", "shop")
    assert code == exits.DONE
    assert "rolled back by ann" in out


def test_delete_keeps_the_indices_unless_told(reshelve, fake):
    fake.on("DELETE", "/catalogues/shop", status=204)

    code, _, err = reshelve("catalogues", "delete", "shop")
    assert code == exits.DONE
    assert "its indices and its alias stay" in err
    assert reshelve("catalogues", "delete", "shop", "--purge")[0] == exits.DONE
    assert [path.partition("?")[2] for method, path, _, _ in fake.asked if method == "DELETE"] == ["", "purge=true"]


def test_release(reshelve, fake):
    fake.on("POST", "/catalogues/shop/release", KNOWN)

    assert reshelve("catalogues", "release", "shop", "--reason", "fixed")[0] == exits.DONE
    assert fake.bodies("POST", "/catalogues/shop/release") == [{"reason": "fixed"}]


@pytest.mark.parametrize(
    ("words", "sent", "told"),
    [
        (["pause", "shop"], {"paused": True}, "events are accepted and wait"),
        (["resume", "shop"], {"paused": False}, "what waits is applied"),
        (["projection", "shop", "off"], {"projection": "off"}, "its search answers empty"),
        (["projection", "shop", "on"], {"projection": "on"}, "its search answers."),
    ],
)
def test_a_switch_is_one_request(reshelve, fake, words, sent, told):
    fake.on("PATCH", "/catalogues/shop", KNOWN)

    code, _, err = reshelve("catalogues", *words)

    assert code == exits.DONE
    assert fake.bodies("PATCH", "/catalogues/shop") == [sent]
    assert told in err


def test_a_projection_is_on_or_off(reshelve):
    assert reshelve("catalogues", "projection", "shop", "maybe")[0] == exits.USAGE


# --- generations, rollback -------------------------------------------------------------------------------------------


def test_generations_of_the_only_catalogue(reshelve, fake):
    live = {"id": "g2", "index": "shop-20260101000000", "state": "live", "documents": 18, "embedder": {"model": "m"}}
    fake.on("GET", "/catalogues/shop/generations", {"items": [live], "next_cursor": None})

    code, out, _ = reshelve("generations")

    assert code == exits.DONE
    assert out.splitlines()[-1].split()[:3] == ["g2", "shop-20260101000000", "live"]


def test_rollback_names_where_it_went_and_that_the_catalogue_is_held(reshelve, fake):
    fake.on("POST", "/catalogues/shop/rollback", {"from": "g2", "to": "g1", "stale_since": None})

    code, out, err = reshelve("rollback", "shop", "--to", "g1", "--stale", "-o", "json")

    assert code == exits.DONE
    assert json.loads(out)["to"] == "g1"
    assert "it is held" in err
    assert fake.bodies("POST", "/catalogues/shop/rollback") == [{"to": "g1", "stale": True}]


def test_without_a_name_there_must_be_just_one_catalogue(reshelve, fake):
    fake.on("GET", "/catalogues", {"items": [KNOWN, KNOWN], "next_cursor": None})

    code, _, err = reshelve("rollback")

    assert code == exits.USAGE
    assert "there are several" in err


# --- search ----------------------------------------------------------------------------------------------------------

HIT = {"id": "7", "score": 0.75, "document": {"sku": "S7", "name": "Warm Beanie", "price": 19.5}}


def test_search_shows_hits_and_passes_what_was_asked(reshelve, fake):
    fake.on("POST", "/catalogues/shop/search", {"hits": [HIT], "mode": "vector", "generation": "g2", "degraded": False})

    code, out, err = reshelve("search", "warm hat", "-k", "3", "--filter", '{"color": "Black"}')

    assert (code, err) == (exits.DONE, "")
    assert "Warm Beanie" in out
    assert fake.bodies("POST", "/catalogues/shop/search") == [
        {"query": "warm hat", "mode": "vector", "k": 3, "filter": {"color": "Black"}}
    ]


def test_a_degraded_answer_says_why(reshelve, fake):
    answer = {"hits": [], "degraded": True, "degraded_by": {"code": "x", "detail": "The model is away."}}
    fake.on("POST", "/catalogues/shop/search", answer)

    code, out, err = reshelve("search", "shop", "hat", "--mode", "lexical", "-o", "json")

    assert code == exits.DONE
    assert json.loads(out) == answer
    assert "The model is away." in err


@pytest.mark.parametrize("arguments", [["a", "b", "c"], ["hat", "--filter", "{"]])
def test_a_query_that_cannot_be_meant_is_refused(reshelve, arguments):
    assert reshelve("search", *arguments)[0] == exits.USAGE
