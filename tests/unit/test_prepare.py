"""A hit becomes a document or a reject: values, rules, hashes, and what hostile input comes to."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Invalid
from app.spec import RecipeSpec
from app.sync.prepare import Preparer, body
from app.sync.recipe import resolve
from app.sync.words import Document, Hit, ModelStamp, Page, Reject, Slice

NATIVE = {"color_value": {"type": "text"}, "price_0_1": {"type": "double"}}
SUITE = {"price": {"type": "nested"}}
KETTLE: dict[str, Any] = {
    "sku": "K-1",
    "name": "quiet kettle\nquiet kettle-red\nquiet kettle-blue",
    "description": ["<p>Boils <b>fast</b> &amp; quietly.</p>", "Warm for hours."],
    "status": 1,
    "visibility": 4,
    "color": [9, 7],
    "color_value": ["Red", "blue", "Blue"],
    "wireless_value": "Yes",
    "eco_collection_value": "Yes",
    "new_collection_value": "No",
    "status_value": "Enabled",
    "category_ids": [2, 5],
    "name_category_2": "Default Category",
    "name_category_5": "Kettles",
    "price_0_1": "52.000000",
    "price_1_1": "50.000000",
    "is_out_of_stock": 0,
}
SUITE_KETTLE: dict[str, Any] = {
    "sku": ["K-1", "K-1-red"],
    "name": ["Quiet Kettle"],
    "description": ["<ul><li>Boils fast</li><li>Stays warm</li></ul>"],
    "status": [1],
    "visibility": "4",
    "option_text_color": ["Red", "Blue"],
    "price": [
        {"customer_group_id": 1, "price": 50.0, "final_price": 50.0},
        {"customer_group_id": 0, "price": 52.0, "final_price": 0.0},
    ],
    "category": [{"category_id": 5, "name": "Kettles"}, {"category_id": 2}],
    "stock": {"is_in_stock": False, "qty": 0},
}


def preparer(properties: dict[str, Any] = NATIVE, **recipe: Any) -> Preparer:
    return Preparer(resolve(RecipeSpec.model_validate(recipe), properties))


def one(
    source: dict[str, Any], *, product_id: str = "7", properties: dict[str, Any] = NATIVE, **recipe: Any
) -> Document | Reject:
    batch = preparer(properties, **recipe).prepare(Page(Slice(0, 1), [Hit(product_id, source)], None, 10))
    assert batch.read == 1
    assert len(batch.documents) + len(batch.rejects) == 1
    return [*batch.documents, *batch.rejects][0]


def document(source: dict[str, Any], **kwargs: Any) -> Document:
    found = one(source, **kwargs)
    assert isinstance(found, Document), found
    return found


def reject(source: dict[str, Any], **kwargs: Any) -> Reject:
    found = one(source, **kwargs)
    assert isinstance(found, Reject), found
    assert len(found.detail) < 300
    return found


# --- documents -------------------------------------------------------------------------------------------------------


def test_the_native_document() -> None:
    kettle = document(KETTLE)
    assert kettle.text == "quiet kettle\nBoils fast & quietly.\nWarm for hours.\nBlue, Red\nEco collection\nKettles"
    assert kettle.fields == {
        "sku": "K-1", "name": "quiet kettle", "visibility": 4, "categories": "Kettles", "is_out_of_stock": False,
        "category_ids": ["2", "5"], "price": 52.0,
    }  # fmt: skip
    assert not kettle.truncated


def test_elasticsuites_document() -> None:
    kettle = document(SUITE_KETTLE, properties=SUITE)
    assert kettle.text == "Quiet Kettle\nBoils fast\nStays warm\nBlue, Red\nKettles"
    assert kettle.fields == {
        "sku": ["K-1", "K-1-red"], "name": "Quiet Kettle", "visibility": 4, "categories": "Kettles", "price": 52.0,
        "is_out_of_stock": True, "category_ids": ["5", "2"],
    }  # fmt: skip


def test_all_attributes_for_a_template_that_asks_for_them() -> None:
    text = document(KETTLE, template="{{ attributes }}").text
    assert text == "Color: Blue, Red\nEco collection\nWireless"


def test_a_catalogue_files_own_attributes_are_taken_at_their_word() -> None:
    source = {"name": "Kettle", "attributes": {"colour": "red", "cord_length": 1.5}, "categories": ["Tea"]}
    assert document(source, properties={}, template="{{ attributes }}\n{{ categories }}").text == (
        "Colour: red\nCord length: 1.5\nTea"
    )
    assert document({**source, "attributes": ["red", "quiet"]}, template="{{ attributes }}").text == "red\nquiet"


def test_a_trait_that_the_name_says_is_not_said_again() -> None:
    assert document({"name": "red kettle", "color_value": ["Red", "Blue"]}).text == "red kettle\nBlue"


def test_a_declared_template_and_fields() -> None:
    kettle = document(
        KETTLE,
        template="{{ name }}\n{{ color_value }}",
        fields={"price": {"from": "price_1_1", "type": "double"}, "hue": {"from": "color_value", "type": "keyword"}},
    )
    assert kettle.text == "quiet kettle\nRed\nblue\nBlue"
    assert kettle.fields == {"price": 50.0, "hue": ["Red", "blue", "Blue"]}


def test_a_nested_value_is_taken_where_it_says() -> None:
    field = {"from": "price", "where": {"customer_group_id": "1"}, "take": "final_price", "type": "double"}
    kettle = document(SUITE_KETTLE, properties=SUITE, fields={"price": field})
    assert kettle.fields == {"price": 50.0}


def test_a_long_text_is_cut_at_a_word_and_says_so() -> None:
    kettle = document({"name": "kettle", "description": "warm " * 5000}, max_chars=100)
    assert kettle.truncated
    assert kettle.text == "kettle\n" + " ".join(["warm"] * 18)


def test_the_body_carries_fields_hashes_and_stamp() -> None:
    kettle = document(KETTLE)
    stored = body(kettle, ModelStamp("tiny", "v1", 8), "shop", "en", datetime(2025, 1, 31, 8, tzinfo=UTC))
    assert dict(stored) == {
        **kettle.fields, "text": kettle.text, "text_hash": sha256(kettle.text.encode()).hexdigest(),
        "content_hash": kettle.content_hash, "input_hash": kettle.input_hash, "embed_model_alias": "tiny",
        "embed_model_version": "v1", "source_id": "7", "tenant": "shop", "lang": "en",
        "updated_at": "2025-01-31T08:00:00.000Z",
    }  # fmt: skip


# --- coercion --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "raw", "value"),
    [
        ("double", "52.000000", 52.0), ("double", 52, 52.0), ("double", " 1e3 ", 1000.0), ("double", "", None),
        ("float", "0.5", 0.5), ("integer", "4", 4), ("integer", 4.0, 4), ("integer", "4.000", 4),
        ("long", 2**40, 2**40),
        ("boolean", 1, True), ("boolean", "0", False), ("boolean", "true", True), ("boolean", [0], False),
        ("boolean", "Yes", True), ("boolean", 1.0, True), ("boolean", "", None),
        ("keyword", 12, "12"), ("keyword", 1.0, "1"), ("keyword", True, "true"), ("keyword", "a &amp; b\nc", "a & b c"),
        ("keyword", ["x"], "x"), ("keyword", ["x", "", None, "y"], ["x", "y"]), ("keyword", [], None),
        ("text", "<i>warm</i>", "warm"), ("text", ["warm waterTea for all"], "warm water Tea for all"),
        ("date", "0000-00-00", None), ("date", "0000-00-00 00:00:00", None), ("date", "-0001-11-30 00:00:00", None),
        ("date", "2025-01-31", "2025-01-31"), ("date", "2025-01-31 08:00:00", "2025-01-31T08:00:00Z"),
        ("date", "2025-01-31T08:00:00+02:00", "2025-01-31T06:00:00Z"), ("date", 0, "1970-01-01T00:00:00Z"),
        ("double", None, None),
    ],
)  # fmt: skip
def test_values_become_what_is_declared(declared: str, raw: Any, value: Any) -> None:
    found = document({"name": "kettle", "raw": raw}, fields={"x": {"from": "raw", "type": declared}}).fields
    assert found == ({} if value is None else {"x": value})


@pytest.mark.parametrize(
    ("declared", "raw", "code"),
    [
        ("double", "cheap", "wrong_type"), ("double", True, "wrong_type"), ("double", {"a": 1}, "wrong_type"),
        ("double", "1_000", "wrong_type"), ("double", "NaN", "not_finite"), ("double", float("nan"), "not_finite"),
        ("double", "-inf", "not_finite"), ("double", "1e999", "not_finite"), ("double", 10**400, "not_finite"),
        ("float", 1e39, "out_of_range"), ("integer", 2**31, "out_of_range"), ("integer", 1.5, "wrong_type"),
        ("long", 2**63, "out_of_range"), ("boolean", "maybe", "wrong_type"), ("boolean", 2, "wrong_type"),
        ("boolean", {"a": 1}, "wrong_type"), ("date", "soon", "wrong_type"), ("date", "2025-02-30", "wrong_type"),
        ("date", 1e30, "wrong_type"), ("date", [["2025"]], "wrong_type"), ("keyword", {"a": 1}, "wrong_type"),
        ("keyword", "k" * 40_000, "keyword_too_long"), ("text", float("inf"), "not_finite"),
        ("text", [{}], "wrong_type"),
    ],
)  # fmt: skip
def test_what_cannot_be_coerced_is_a_reject_that_names_the_field(declared: str, raw: Any, code: str) -> None:
    found = reject({"name": "kettle", "raw": raw}, fields={"x": {"from": "raw", "type": declared}})
    assert (found.by, found.code, found.product_id) == ("data", code, "7")
    assert found.detail.startswith("x: ")


# --- rejects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"status": 2}, {"status": "2"}, {"status": [2]}, {"status": [1, 2]}, {"visibility": 1}, {"visibility": "2"},
        {"visibility": 1.0},
    ],
)  # fmt: skip
def test_products_are_left_out_by_rule(change: dict[str, Any]) -> None:
    found = reject({**KETTLE, **change})
    assert (found.by, found.code) == ("rule", "excluded")
    assert next(iter(change)) in found.detail


def test_rules_compare_as_text_and_go_into_objects() -> None:
    rules = {"stock.is_in_stock": [False], "brand": [None], "weight": [2]}
    assert reject(SUITE_KETTLE, exclude_when=rules).code == "excluded"
    assert reject({"name": "kettle"}, exclude_when=rules).detail.startswith("brand")
    assert reject({"name": "kettle", "brand": "x", "weight": [1, "2"]}, exclude_when=rules).detail.startswith("weight")
    assert document({"name": "kettle", "brand": "x", "weight": "2.0"}, exclude_when=rules)


@pytest.mark.parametrize("stock", [{"is_out_of_stock": 1}, {"is_out_of_stock": "1"}, {"stock": {"is_in_stock": False}}])
def test_a_skeleton_is_left_out_by_rule(stock: dict[str, Any]) -> None:
    found = reject({"sku": "K-1", "category_ids": [2], "position_category_2": "0", **stock})
    assert (found.by, found.code) == ("rule", "skeleton")


@pytest.mark.parametrize(
    ("product_id", "source", "code"),
    [
        ("", KETTLE, "no_id"),
        ("k" * 600, KETTLE, "bad_id"),
        ("a\x00b", KETTLE, "bad_id"),
        ("a\ud800", KETTLE, "bad_id"),
        ("7", {}, "empty_text"),
        ("7", {"name": " \n ", "description": "<p> </p>"}, "empty_text"),
        ("7", {"name": {"a": 1}}, "wrong_type"),
        ("7", {"name": "kettle", "description": {"a": 1}}, "unrenderable"),
        ("7", {"name": "kettle", "description": float("nan")}, "unrenderable"),
        ("7", {"name": "kettle \ud800"}, "bad_unicode"),
        ("7", {"name": "kettle", "color_value": "\udfff"}, "bad_unicode"),
        ("7", {"name": "kettle", "description": 10**30}, "out_of_range"),
        ("7", {"name": "k" * 10_000_000}, "field_too_large"),
        ("7", {"name": "k\n" * 5_000_000}, "field_too_large"),
        ("7", {"name": "kettle", "description": "<b>" * 3_500_000}, "field_too_large"),
        ("7", {"name": "kettle", "description": ["warm " * 150_000] * 2}, "field_too_large"),
        ("7", {"name": "kettle", "color_value": "red" * 500_000}, "field_too_large"),
        ("7", {"name": "kettle", "description": "ä" * 600_000}, "field_too_large"),
    ],
    ids=range(18),
)
def test_broken_products_are_rejects_by_data(product_id: str, source: dict[str, Any], code: str) -> None:
    found = reject(source, product_id=product_id)
    assert (found.by, found.code) == ("data", code)
    found.product_id.encode()
    found.detail.encode()


def test_nesting_without_end_is_a_reject() -> None:
    deep: Any = "x"
    for _ in range(900):
        deep = [deep]
    assert reject({"name": "kettle", "description": deep}).code == "too_deep"


def test_a_field_that_the_recipe_does_not_take_may_be_anything() -> None:
    odd = {"notes": "x" * 5_000_000, "weight": float("nan"), "half": "\ud800"}
    assert document({**KETTLE, **odd}).input_hash == document(KETTLE).input_hash


def test_one_bad_product_leaves_the_others_alone() -> None:
    cheap, disabled = {"name": "kettle", "price_0_1": "cheap"}, {**KETTLE, "status": 2}
    hits = [Hit("1", KETTLE), Hit("2", cheap), Hit("3", disabled), Hit("4", KETTLE)]
    batch = preparer().prepare(Page(Slice(1, 2), hits, None, 99))
    assert [found.id for found in batch.documents] == ["1", "4"]
    assert [(found.product_id, found.by) for found in batch.rejects] == [("2", "data"), ("3", "rule")]
    assert (batch.read, batch.size, batch.part) == (4, 99, Slice(1, 2))


def test_a_recipe_that_is_not_resolved_or_wrong_is_refused() -> None:
    for spec in (RecipeSpec(), resolve(RecipeSpec(template="{{ name|shout }}"), NATIVE)):
        with pytest.raises(Invalid):
            Preparer(spec)


# --- hashes ----------------------------------------------------------------------------------------------------------


def hashes(found: Document) -> tuple[str, str, str]:
    return found.input_hash, found.text_hash, found.content_hash


@pytest.mark.parametrize(
    "change",
    [
        {"category_ids": ["5", 2]}, {"color_value": ["Blue", "blue", "Red"]}, {"price_0_1": 52}, {"price_0_1": "52.00"},
        {"visibility": "4"}, {"is_out_of_stock": False}, {"sku": ["K-1"]}, {"price_1_1": "1.0"},
        {"position_category_5": "3"}, {"name": "quiet kettle\nquiet kettle-green"}, {"status_value": "On"},
        {"is_out_of_stock": "0"},
    ],
)  # fmt: skip
def test_a_reindexed_but_unchanged_product_is_unchanged(change: dict[str, Any]) -> None:
    again = dict(reversed({**KETTLE, **change}.items()))
    assert hashes(document(again)) == hashes(document(KETTLE))


@pytest.mark.parametrize("change", [{"price_0_1": "49.5"}, {"is_out_of_stock": 1}, {"category_ids": [2]}])
def test_price_and_stock_change_the_content_and_not_the_text(change: dict[str, Any]) -> None:
    before, after = document(KETTLE), document({**KETTLE, **change})
    assert before.text_hash == after.text_hash
    assert before.content_hash != after.content_hash
    assert before.input_hash != after.input_hash


def test_damage_that_is_repaired_changes_the_input_only() -> None:
    mended = ["Boils fast &amp; quietly.", "Warm for hours."]
    before, after = document(KETTLE), document({**KETTLE, "description": mended})
    assert (before.text_hash, before.content_hash) == (after.text_hash, after.content_hash)
    assert before.input_hash != after.input_hash


def test_a_new_order_of_paragraphs_is_a_change() -> None:
    before, after = document(KETTLE), document({**KETTLE, "description": KETTLE["description"][::-1]})
    assert len({*hashes(before), *hashes(after)}) == 6


# --- anything at all -------------------------------------------------------------------------------------------------

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["<b>", "&lt;", "\ud800", "0000-00-00", "1e999", "{{a}}", "x\ny", "nan"])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KINDS = ("keyword", "text", "boolean", "date", "double", "float", "long", "integer")
ODD_KEYS = ("attributes", "categories", "x_value", "_value", "option_text_", "name_category_x", *KINDS)
KEYS = st.sampled_from([*KETTLE, *SUITE_KETTLE, *ODD_KEYS])
EVERY = preparer(
    template="{{ name }}{{ description }}{{ attributes }}{{ traits }}{{ categories }}{{ color_value }}{{ sku }}",
    fields={
        **{f"as_{kind}": {"from": kind, "type": kind} for kind in KINDS},
        "categories": "keyword", "is_out_of_stock": "boolean", "attributes": "keyword",
        "nested": {"from": "price", "where": {"customer_group_id": 0}, "take": "price", "type": "integer"},
        "inner": {"from": "category.category_id", "type": "long"},
    },
)  # fmt: skip
LENIENT = preparer(template="{{ name }}{{ description }}{{ attributes }}{{ traits }}{{ categories }}", fields={})


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=5), st.dictionaries(KEYS, VALUES, max_size=8))
def test_any_product_becomes_one_document_or_one_reject_each_time_the_same(
    product_id: str, source: dict[str, Any]
) -> None:
    for recipe in (EVERY, LENIENT):
        page = Page(Slice(0, 1), [Hit(product_id, source)], None, 0)
        batch, again = recipe.prepare(page), recipe.prepare(page)
        assert batch == again
        assert len(batch.documents) + len(batch.rejects) == 1
        for found in batch.rejects:
            assert found.code.islower()
            assert len(found.detail.encode()) < 400
        for kept in batch.documents:
            assert kept.text.strip() == kept.text
            assert 0 < len(kept.text) <= 8000
            kept.text.encode()
