"""The shape that Magento's own indexer writes: flat, lower-cased names, labels in `*_value`, prices as strings."""

from collections.abc import Sequence
from typing import Any

from app.demo.goods import Good
from app.demo.shop import the_shop
from app.demo.texts import stripped

GROUP_PERCENT = (100, 100, 90, 95)
"""What customer groups 0 to 3 pay."""

LAST = "10000"
"""The position of a product that nobody has placed by hand."""


def document(good: Good) -> dict[str, Any]:
    """The index document of *good*."""
    source: dict[str, Any] = {"store_id": "1", "sku": good.sku}
    if good.skeleton:
        return {**source, **_categories(good), "is_out_of_stock": 1}
    source["name"] = _name(good)
    _describe(source, good)
    source["status"] = good.status
    source["status_value"] = "Enabled" if good.status == 1 else "Disabled"
    source["visibility"] = good.visibility
    source["url_key"] = url_key(good)
    source["tax_class_id"], source["tax_class_id_value"] = 2, "Taxable Goods"
    _attributes(source, good)
    source.update(_categories(good))
    source.update(_prices(good))
    source["is_out_of_stock"] = int(good.sold_out)
    return source


def url_key(good: Good) -> str:
    """The address of the product's page."""
    return f"{good.name.lower().replace(' ', '-')}-{good.number}".replace("'", "")


def _name(good: Good) -> str:
    """The parent's name, then every child's, a line each; all in lower case."""
    if not good.composite:
        return good.name.lower()
    children = [f"{good.name}-{size}-{colour}" for size, colour in good.children]
    return "\n".join([good.name, *children]).lower()


def _describe(source: dict[str, Any], good: Good) -> None:
    """A string, or a list of the parent's and its children's; some have an empty list, some no field at all."""
    text = stripped(good)
    if good.form == "empty":
        source["description"] = []
    elif text:
        source["description"] = [text, f"{good.sentences[0]} {good.features[0]}."] if _several(good) else text
    if good.number % 3 == 0:
        source["short_description"] = good.sentences[0]


def _several(good: Good) -> bool:
    return good.composite and good.number % 4 == 0


def _attributes(source: dict[str, Any], good: Good) -> None:
    """Numbers ascend, labels follow the alphabet: the lists are not parallel. A single value is a scalar."""
    shop, kind = the_shop(), good.kind
    brand = shop.lines[good.line]
    source["manufacturer"] = shop.line_ids[good.line]
    source["manufacturer_value"] = f"{brand}&trade;" if good.line % 16 == 5 else brand
    source["color"] = _one([shop.colour_ids[colour] for colour in good.colours])
    source["color_value"] = _one(sorted(shop.colours[colour] for colour in good.colours))
    source["material"] = str(kind.material_ids[good.material])
    source["material_value"] = kind.materials[good.material]
    source["activity"] = str(kind.use_ids[good.use])
    source["activity_value"] = kind.uses[good.use]
    if kind.sizes:
        source["size"] = list(kind.size_ids)
        source["size_value"] = sorted(kind.sizes)
    if good.tag == 0:
        source["new"], source["new_value"] = 1, "Yes"


def _one(values: Sequence[Any]) -> Any:
    return values if len(values) > 1 else values[0]


def _categories(good: Good) -> dict[str, Any]:
    shop, kind = the_shop(), good.kind
    names = {2: "Default Category", kind.department_id: kind.department, kind.category_id: kind.plural}
    if good.tag is not None:
        names[shop.tag_ids[good.tag]] = shop.tags[good.tag]
    fields: dict[str, Any] = {"category_ids": list(names)}
    for number, name in names.items():
        fields[f"position_category_{number}"] = LAST if good.number % 5 else str(good.number % 97)
        fields[f"name_category_{number}"] = name
    return fields


def _prices(good: Good) -> dict[str, str]:
    cents = good.cents * (100 - good.discount) // 100
    return {f"price_{group}_1": f"{cents * percent / 10_000:.6f}" for group, percent in enumerate(GROUP_PERCENT)}


# --- the mapping -----------------------------------------------------------------------------------------------------

ANALYSIS = {
    "analyzer": {
        "default": {
            "type": "custom",
            "tokenizer": "standard",
            "filter": ["lowercase", "asciifolding", "default_stemmer"],
            "char_filter": ["html_strip"],
        }
    },
    "filter": {"default_stemmer": {"type": "stemmer", "language": "english"}},
}

SEARCHED = {"type": "text", "copy_to": ["_search"]}
HELD = {"type": "text", "index": False}


def mapping(analysis: bool) -> dict[str, Any]:
    """Settings and mappings of the index; *analysis* only where the engine brings filters beyond the plainest."""
    settings: dict[str, Any] = {"number_of_shards": 1, "number_of_replicas": 0, "mapping.total_fields.limit": 1200}
    if analysis:
        settings["analysis"] = ANALYSIS
    return {"settings": settings, "mappings": {"dynamic_templates": _templates(), "properties": _properties()}}


def _templates() -> list[dict[str, Any]]:
    by_name = {
        "price_mapping": ("price_*", {"type": "double", "store": True}),
        "position_mapping": ("position_*", {"type": "integer"}),
        "string_mapping": ("*", {"type": "text", "copy_to": "_search"}),
    }
    strings = [
        {name: {"match": match, "match_mapping_type": "string", "mapping": field}}
        for name, (match, field) in by_name.items()
    ]
    return [*strings, {"integer_mapping": {"match_mapping_type": "long", "mapping": {"type": "integer"}}}]


def _properties() -> dict[str, Any]:
    keyword = {"fields": {"keyword": {"type": "keyword", "ignore_above": 8000}}}
    integer = {"type": "integer"}
    numbers = ("status", "visibility", "tax_class_id", "manufacturer", "color", "size", "is_out_of_stock", "new")
    labels = ("status", "tax_class_id", "manufacturer", "color", "size", "material", "activity", "new")
    return {
        "_search": {"type": "text"},
        "name": {**SEARCHED, **keyword},
        "sku": {**SEARCHED, **keyword},
        "description": SEARCHED,
        "short_description": SEARCHED,
        "url_key": {**SEARCHED, **keyword},
        "store_id": {"type": "keyword"},
        **dict.fromkeys(numbers, integer),
        **{f"{label}_value": SEARCHED for label in labels},
        "material": {"type": "keyword", "copy_to": ["_search"]},
        "activity": {"type": "keyword", "copy_to": ["_search"]},
        "category_ids": {**integer, "fields": {"keyword": {"type": "keyword"}}},
        "image": HELD,
        "created_at": HELD,
        "updated_at": HELD,
    }
