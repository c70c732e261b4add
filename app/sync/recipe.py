"""A recipe's form is checked, its gaps are filled by looking at the source, and what it amounts to is hashed.

The default recipe is chosen by the source's mapping, as both of Magento's shapes may live in one cluster:

- ElasticSuite: a nested `price` or `category`, or labels named `option_text_<code>`;
- native: labels named `<code>_value`, prices named `price_<group>_<website>`, or names named `name_category_<id>`;
- plain: anything else, a catalogue file for instance.

The text is the same for all three: what the product is called, what is said about it, what it is like, where it stands.
Price and stock are never part of it: they change without the product changing, and would cost a model call each time.
"""

import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, Literal

import orjson

from app.spec import FieldSpec, RecipeSpec
from app.sync.cleaning import CLEANING_VERSION
from app.sync.collected import CATEGORY_PREFIX, LABEL_PREFIX, LABEL_SUFFIX
from app.sync.template import findings, names
from app.sync.words import ModelStamp

SourceShape = Literal["native", "elasticsuite", "plain"]
Finding = dict[str, str]

DEFAULT_TEMPLATE = "{{ name }}\n{{ short_description }}\n{{ description }}\n{{ traits }}\n{{ categories }}\n"
"""`traits` and `categories` are gathered from many fields: see `app.sync.collected`, also for `attributes`."""

_NATIVE_PRICE = re.compile(r"price_\d+_\d+")
_VOLATILE = re.compile(
    r"(?:special_|final_|min_|max_|tier_|original_)?prices?|price_\d+_\d+|stock|qty|quantity|is_in_stock|is_out_of_stock"
    r"|quantity_and_stock_status(?:_value)?|option_text_quantity_and_stock_status"
)

_SHARED_FIELDS: Mapping[str, FieldSpec] = {
    "sku": FieldSpec(type="keyword"),
    "name": FieldSpec(type="text"),
    "url_key": FieldSpec(type="keyword"),
    "visibility": FieldSpec(type="integer"),
    "categories": FieldSpec(type="keyword"),
    "is_out_of_stock": FieldSpec(type="boolean"),
}

_SUITE_FIELDS: Mapping[str, FieldSpec] = {
    "category_ids": FieldSpec(type="keyword", source="category.category_id"),
    "price": FieldSpec(type="double", source="price", where={"customer_group_id": 0}, take="price"),
}
"""`price.price` is what a customer pays, for a composite the cheapest child's; its `final_price` is 0 there."""


# --- form ------------------------------------------------------------------------------------------------------------


def check_recipe(spec: RecipeSpec) -> list[Finding]:
    """What is wrong with a recipe's form, as `{"where", "why"}`, places relative to the recipe; empty for nothing."""
    wrong = list(_template_findings(spec.template)) if spec.template is not None else []
    for name, declared in (spec.fields or {}).items():
        wrong += _field_findings(f"fields.{name}", declared)
    for path, values in spec.exclude_when.items():
        where = f"exclude_when.{path[:60]}"
        if not _is_path(path):
            wrong.append(_finding(where, "name one field; a dot goes into an object"))
        if not all(_is_scalar(value) for value in values):
            wrong.append(_finding(where, "list texts, numbers, true, false or null: values compare as text"))
    return wrong


def _template_findings(template: str) -> Iterator[Finding]:
    wrong = findings(template)
    yield from (_finding("template", why) for why in wrong)
    taken = names(template)
    if not wrong and not taken:
        yield _finding("template", "it prints no field: every product would have the same text")
    for name in sorted(taken):
        if _VOLATILE.fullmatch(name):
            why = "price and stock change without the product changing and are never embedded: declare it as a field"
            yield _finding("template", f"{name}: {why}")


def _field_findings(where: str, declared: FieldSpec) -> Iterator[Finding]:
    if declared.source is not None and not _is_path(declared.source):
        yield _finding(f"{where}.from", "name one source field; a dot goes into an object")
    if declared.take is not None and not _is_path(declared.take):
        yield _finding(f"{where}.take", "name one member of the object; a dot goes deeper")
    for key, value in (declared.where or {}).items():
        if not _is_path(key) or not _is_scalar(value):
            yield _finding(f"{where}.where", "compare members with texts, numbers, true, false or null")
    if declared.where and not declared.take:
        yield _finding(f"{where}.take", "where selects objects: take says which member of them is meant")


def _finding(where: str, why: str) -> Finding:
    return {"where": where, "why": why}


def _is_path(path: str) -> bool:
    return 0 < len(path) <= 255 and "*" not in path and all(path.split(".")) and path.isprintable()


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


# --- defaults --------------------------------------------------------------------------------------------------------


def resolve(spec: RecipeSpec, properties: Mapping[str, Any]) -> RecipeSpec:
    """The recipe with template and fields filled in, from the default that suits a source of these field types."""
    fields = default_fields(properties) if spec.fields is None else spec.fields
    template = DEFAULT_TEMPLATE if spec.template is None else spec.template
    return spec.model_copy(update={"template": template, "fields": fields})


def source_shape(properties: Mapping[str, Any]) -> SourceShape:
    """Whose hand wrote the index that has these field types."""
    nested = {name for name in ("price", "category") if _type(properties, name) == "nested"}
    if nested or any(name.startswith(LABEL_PREFIX) for name in properties):
        return "elasticsuite"
    return "native" if any(_is_native(name) for name in properties) else "plain"


def _is_native(name: str) -> bool:
    return bool(_NATIVE_PRICE.fullmatch(name)) or name.startswith(CATEGORY_PREFIX) or name.endswith(LABEL_SUFFIX)


def _type(properties: Mapping[str, Any], name: str) -> str | None:
    found = properties.get(name)
    return found.get("type", "object") if isinstance(found, Mapping) else None


def default_fields(properties: Mapping[str, Any]) -> dict[str, FieldSpec]:
    """The fields that filters and result lists need, as far as the source can have them."""
    shape = source_shape(properties)
    if shape == "elasticsuite":
        return {**_SHARED_FIELDS, **_SUITE_FIELDS}
    return {**_SHARED_FIELDS, "category_ids": FieldSpec(type="keyword"), **_price(properties, shape)}


def _price(properties: Mapping[str, Any], shape: SourceShape) -> dict[str, FieldSpec]:
    """Natively the price of customer group 0 (not logged in) in the first website there is."""
    if shape == "plain":
        plain = _type(properties, "price") not in {"object", "nested"}
        return {"price": FieldSpec(type="double")} if plain else {}
    prices = sorted(filter(_NATIVE_PRICE.fullmatch, properties), key=lambda name: [*map(int, name.split("_")[1:])])
    return {"price": FieldSpec(type="double", source=prices[0] if prices else "price_0_1")}


# --- what it amounts to ----------------------------------------------------------------------------------------------


def recipe_hash(spec: RecipeSpec, stamp: ModelStamp, built: Mapping[str, Any] | None = None) -> str:
    """One hash for everything that decides what a product's document looks like: a change means a fresh generation.

    *built* is what else the index is made by: its tenant and its settings. Of the embedder it takes what its vectors
    depend on (provider, model, its version, dims), not where it was reached.
    """
    said = {
        "cleaning": CLEANING_VERSION,
        "built": dict(built or {}),
        "recipe": spec.model_dump(mode="json", by_alias=True, exclude={"embedder"}),
        "model": [spec.embedder.provider, stamp.alias, stamp.version, stamp.dims, stamp.normalized],
    }
    return sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def shape_fields(spec: RecipeSpec) -> Mapping[str, str]:
    """Target field name to type, of a resolved recipe."""
    return {name: declared.type for name, declared in (spec.fields or {}).items()}
