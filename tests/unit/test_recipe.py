"""Recipes: what is wrong with their form, which default suits which source, what changes their hash."""

from typing import Any

import pytest

from app.spec import EmbedderSpec, FieldSpec, RecipeSpec
from app.sync.prepare import Preparer
from app.sync.recipe import DEFAULT_TEMPLATE, check_recipe, recipe_hash, resolve, shape_fields, source_shape
from app.sync.words import ModelStamp

STAMP = ModelStamp("tiny", "v1", 8)
NATIVE = {"name": {"type": "text"}, "color_value": {"type": "text"}, "price_0_1": {"type": "double"}}
SUITE = {"name": {"type": "text"}, "price": {"type": "nested", "properties": {}}, "option_text_color": {"type": "text"}}
PLAIN = {"name": {"type": "text"}, "price": {"type": "double"}}


def test_the_default_recipe_has_nothing_wrong() -> None:
    assert check_recipe(RecipeSpec()) == []
    for properties in (NATIVE, SUITE, PLAIN, {}):
        assert check_recipe(resolve(RecipeSpec(), properties)) == []


def test_findings_say_where_and_why() -> None:
    spec = RecipeSpec(
        template="{{ name|shout }}\n{{ range(3) }}",
        fields={
            "price": FieldSpec(type="double", source="price", where={"group": [1]}),
            "odd": FieldSpec(type="text", source="a*"),
            "deep": FieldSpec(type="text", source="a", take="b..c"),
        },
        exclude_when={"status": [{"a": 1}], "": [1]},
    )
    found = {(finding["where"], finding["why"].split(":")[0]) for finding in check_recipe(spec)}
    assert {where for where, _ in found} == {
        "template", "fields.price.where", "fields.price.take", "fields.odd.from", "fields.deep.take",
        "exclude_when.status", "exclude_when.",
    }  # fmt: skip
    assert {why for where, why in found if where == "template"} == {"line 1", "line 2"}


@pytest.mark.parametrize("name", ["price", "price_0_1", "stock", "is_out_of_stock", "qty", "special_price"])
def test_price_and_stock_are_never_embedded(name: str) -> None:
    found = check_recipe(RecipeSpec(template="{{ name }} {{ " + name + " }}"))
    assert [finding["where"] for finding in found] == ["template"]
    assert "never embedded" in found[0]["why"]


def test_a_template_without_a_field_is_refused() -> None:
    assert "same text" in check_recipe(RecipeSpec(template="a kettle"))[0]["why"]


@pytest.mark.parametrize(
    ("properties", "shape"),
    [
        (NATIVE, "native"),
        ({"name_category_12": {"type": "text"}}, "native"),
        (SUITE, "elasticsuite"),
        ({"category": {"type": "nested"}}, "elasticsuite"),
        (PLAIN, "plain"),
        ({}, "plain"),
        ({"price": {"properties": {"amount": {"type": "double"}}}}, "plain"),
    ],
)
def test_the_shape_of_a_source_is_seen_in_its_mapping(properties: dict[str, Any], shape: str) -> None:
    assert source_shape(properties) == shape


def test_defaults_fit_the_shape() -> None:
    native, suite, plain = (resolve(RecipeSpec(), properties).fields or {} for properties in (NATIVE, SUITE, PLAIN))
    assert native["price"] == FieldSpec(type="double", source="price_0_1")
    assert suite["price"].where == {"customer_group_id": 0}
    assert suite["category_ids"].source == "category.category_id"
    assert plain["price"] == FieldSpec(type="double")
    assert set(native) == set(suite) == set(plain)


def test_the_native_price_is_the_first_website_of_the_first_group() -> None:
    properties = {f"price_{group}_{site}": {} for group in (10, 0, 1) for site in (12, 3)}
    fields = resolve(RecipeSpec(), properties).fields or {}
    assert fields["price"].source == "price_0_3"


def test_an_object_named_price_is_not_taken_for_a_number() -> None:
    assert "price" not in (resolve(RecipeSpec(), {"price": {"properties": {}}}).fields or {})


def test_what_is_declared_is_kept() -> None:
    declared = RecipeSpec(template="{{ name }}", fields={"sku": FieldSpec(type="keyword")})
    assert resolve(declared, SUITE) == declared
    assert resolve(RecipeSpec(fields={"sku": FieldSpec(type="keyword")}), SUITE).template == DEFAULT_TEMPLATE
    assert resolve(RecipeSpec(template="{{ name }}"), NATIVE).template == "{{ name }}"


def test_shape_fields_are_names_and_types() -> None:
    spec = RecipeSpec.model_validate({"fields": {"sku": "keyword", "price": {"from": "price_0_1", "type": "double"}}})
    assert shape_fields(spec) == {"sku": "keyword", "price": "double"}


def test_the_hash_changes_with_what_a_document_looks_like_and_with_nothing_else() -> None:
    spec = resolve(RecipeSpec(), NATIVE)
    base = recipe_hash(spec, STAMP)
    elsewhere = spec.model_copy(update={"embedder": EmbedderSpec(base_url="http://127.0.0.1:1")})
    assert recipe_hash(elsewhere, STAMP) == base == recipe_hash(resolve(RecipeSpec(), NATIVE), STAMP)
    changes: list[dict[str, Any]] = [
        {"template": "{{ name }}"}, {"max_chars": 9}, {"lang": "de"}, {"exclude_when": {}}, {"fields": {}},
    ]  # fmt: skip
    others = [recipe_hash(spec.model_copy(update=change), STAMP) for change in changes]
    others += [recipe_hash(spec, ModelStamp("tiny", "v2", 8)), recipe_hash(spec, ModelStamp("tiny", "v1", 16))]
    assert len({base, *others}) == 8


def test_only_what_the_recipe_needs_is_fetched() -> None:
    assert list(Preparer(resolve(RecipeSpec(), SUITE)).wanted) == [
        "*_value", "attributes", "categories", "category.category_id", "category.name", "description",
        "is_out_of_stock", "name", "name_category_*", "option_text_*", "price.customer_group_id", "price.price",
        "short_description", "sku", "status", "stock.is_in_stock", "url_key", "visibility",
    ]  # fmt: skip
    lean = RecipeSpec(template="{{ title }}", fields={"code": FieldSpec(type="keyword", source="sku")}, exclude_when={})
    assert list(Preparer(lean).wanted) == ["sku", "title"]
