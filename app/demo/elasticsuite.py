"""ElasticSuite's shape: attributes as lists, raw HTML, labels in `option_text_*`, nested price and category."""

import base64
from typing import Any

from app.demo.goods import Good
from app.demo.magento import ANALYSIS, GROUP_PERCENT, url_key
from app.demo.shop import the_shop
from app.demo.texts import html

DAY = "2025-03-{day:02} 0{hour}:15:00"


def document(good: Good) -> dict[str, Any]:
    """The index document of *good*."""
    source = _entity(good)
    if not good.skeleton:
        source["price"] = _prices(good)
        source.update(_attributes(good))
    source["category"] = _categories(good)
    gone = good.sold_out or good.skeleton
    source["stock"] = {"is_in_stock": not gone, "qty": 0 if gone else good.quantity}
    return source


def _entity(good: Good) -> dict[str, Any]:
    """What stands in the product's own row: scalars, numbers as strings; a composite's `sku` is a list."""
    day = DAY.format(day=1 + good.number % 28, hour=good.number % 10)
    source: dict[str, Any] = {
        "entity_id": str(good.entity),
        "attribute_set_id": "4",
        "type_id": "configurable" if good.composite else "simple",
        "sku": good.sku,
        "has_options": good.composite,
        "required_options": good.composite,
        "created_at": day,
        "updated_at": day,
        "visibility": str(good.visibility),
    }
    if good.composite:
        children = list(good.children)
        source["sku"] = [good.sku, *(f"{good.sku}-{size}-{colour[:3].upper()}" for size, colour in children)]
        source["children_ids"] = [good.entity + n for n in range(1, len(children) + 1)]
        source["configurable_attributes"] = ["color", "size"]
    return source


def _attributes(good: Good) -> dict[str, Any]:
    """Lists throughout; what is empty or false is left out."""
    shop, kind = the_shop(), good.kind
    source: dict[str, Any] = {"name": [good.name]}
    if text := html(good):
        source["description"] = [text]
    if good.number % 3 == 0:
        source["short_description"] = [f"<p>{good.sentences[0]}</p>"]
    source |= _option("status", [good.status], ["Enabled" if good.status == 1 else "Disabled"])
    source["url_key"] = [url_key(good)]
    source |= _option("tax_class_id", [2], ["Taxable Goods"])
    source |= _option("manufacturer", [shop.line_ids[good.line]], [shop.lines[good.line]])
    source |= _option("color", [shop.colour_ids[c] for c in good.colours], [shop.colours[c] for c in good.colours])
    source |= _option("material", [str(kind.material_ids[good.material])], [kind.materials[good.material]])
    source |= _option("activity", [str(kind.use_ids[good.use])], [kind.uses[good.use]])
    if kind.sizes:
        source |= _option("size", list(kind.size_ids), list(kind.sizes))
    if good.tag == 0:
        source |= _option("new", [True], ["New"])
    source["indexed_attributes"] = [code for code in source if not code.startswith("option_text_")] + ["price"]
    return source


def _option(code: str, numbers: list[Any], labels: list[str]) -> dict[str, Any]:
    return {code: numbers, f"option_text_{code}": labels}


def _prices(good: Good) -> list[dict[str, Any]]:
    return [_price(good, group, percent) for group, percent in enumerate(GROUP_PERCENT)]


def _price(good: Good, group: int, percent: int) -> dict[str, Any]:
    original, final = good.cents / 100, good.cents * (100 - good.discount) * percent / 1_000_000
    return {
        "price": final,
        "original_price": original,
        "is_discount": final < original,
        "customer_group_id": group,
        "tax_class_id": 2,
        "final_price": final,
        "min_price": final,
        "max_price": final,
    }


def _categories(good: Good) -> list[dict[str, Any]]:
    shop, kind = the_shop(), good.kind
    entries = [_category(2, None), _category(kind.department_id, kind.department)]
    entries.append({**_category(kind.category_id, kind.plural), "position": good.number % 97})
    if good.tag is not None:
        entries.append(_category(shop.tag_ids[good.tag], shop.tags[good.tag]))
    return entries


def _category(number: int, name: str | None) -> dict[str, Any]:
    uid = base64.b64encode(str(number).encode()).decode()
    entry: dict[str, Any] = {"category_id": number, "is_parent": name is None, "category_uid": uid}
    return {**entry, "name": name} if name else entry


# --- the mapping -----------------------------------------------------------------------------------------------------

TEXT = {"type": "text", "copy_to": ["search"]}
UNTOUCHED = {**TEXT, "fields": {"untouched": {"type": "keyword", "ignore_above": 256}}}


def mapping(analysis: bool) -> dict[str, Any]:
    """Settings and mappings of the index; *analysis* only where the engine brings filters beyond the plainest."""
    settings: dict[str, Any] = {"number_of_shards": 1, "number_of_replicas": 0, "mapping.total_fields.limit": 20_000}
    if analysis:
        settings["analysis"] = ANALYSIS
    return {"settings": settings, "mappings": {"properties": _properties()}}


def _properties() -> dict[str, Any]:
    integers = ("entity_id", "attribute_set_id", "visibility", "children_ids", "status", "tax_class_id")
    options = ("manufacturer", "color", "material", "activity", "size")
    kinds = {
        "integer": (*integers, *options),
        "boolean": ("has_options", "required_options", "new"),
        "keyword": ("type_id", "configurable_attributes", "indexed_attributes"),
    }
    date = {"type": "date", "format": "yyyy-MM-dd HH:mm:ss||yyyy-MM-dd"}
    return {
        "search": {"type": "text"},
        **{field: {"type": kind} for kind, fields in kinds.items() for field in fields},
        **{f"option_text_{code}": UNTOUCHED for code in (*options, "status", "tax_class_id", "new")},
        "created_at": date,
        "updated_at": date,
        **dict.fromkeys(("sku", "name", "url_key"), UNTOUCHED),
        **dict.fromkeys(("description", "short_description"), TEXT),
        "price": {"type": "nested", "properties": _price_properties()},
        "stock": {"properties": {"is_in_stock": {"type": "boolean"}, "qty": {"type": "integer"}}},
        "category": {"type": "nested", "properties": _category_properties()},
    }


def _price_properties() -> dict[str, Any]:
    amounts = ("price", "original_price", "final_price", "min_price", "max_price")
    whole = ("customer_group_id", "tax_class_id")
    return {
        **{amount: {"type": "double"} for amount in amounts},
        **{number: {"type": "integer"} for number in whole},
        "is_discount": {"type": "boolean"},
    }


def _category_properties() -> dict[str, Any]:
    return {
        "category_id": {"type": "integer"},
        "position": {"type": "integer"},
        "is_parent": {"type": "boolean"},
        "category_uid": {"type": "keyword"},
        "name": UNTOUCHED,
    }
