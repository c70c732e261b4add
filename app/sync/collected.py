"""What a template or a field may name besides the fields of the document: gathered from many of them, in either shape.

`attributes`  one line an attribute, `Color: Black, Gray`, from the labels that Magento writes as `color_value` and
              ElasticSuite as `option_text_color`. Lines stand in the order of their codes and labels in the order of
              the alphabet, so that a re-indexed product reads the same; repeated labels count once, whatever their
              case. An attribute that says only Yes is its name, one that says No is not mentioned. What is about
              selling and not about the product (status, tax class, stock) is left out.
`traits`      the labels alone of those attributes that people search by (colour, size, material, kind, brand, ...),
              but for those that the name already says. The default template prints these and not all attributes: a
              text's vector is a mean of what it says, and forty lines of technical data drown the product (on a rated
              catalogue of electronics, nDCG@10 was 0.47 with all attributes, 0.56 with traits or none).
`categories`  the names of the categories, from `name_category_12` or the nested `category.name`, roots left out.
`is_out_of_stock`  as Magento writes it, or the contrary of ElasticSuite's `stock.is_in_stock`.
`name`        only its first line: Magento appends the children's names.

A document that has a field `attributes` or `categories` itself (a catalogue file may) is taken at its word.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from app.sync.cleaning import clean_label
from app.sync.fields import as_text, at_path

Gather = Callable[[Mapping[str, Any]], Any]
Lines = Callable[[Any], list[str]]

LABEL_SUFFIX = "_value"
LABEL_PREFIX = "option_text_"
CATEGORY_PREFIX = "name_category_"

WANTED: Mapping[str, Sequence[str]] = {
    "attributes": ("attributes", f"*{LABEL_SUFFIX}", f"{LABEL_PREFIX}*"),
    "traits": ("attributes", "name", f"*{LABEL_SUFFIX}", f"{LABEL_PREFIX}*"),
    "categories": ("categories", f"{CATEGORY_PREFIX}*", "category.category_id", "category.name"),
    "is_out_of_stock": ("is_out_of_stock", "stock.is_in_stock"),
}
"""Source patterns behind each collected name."""

UNSPOKEN_CODES = frozenset({
    "status", "visibility", "tax_class_id", "quantity_and_stock_status", "price_type", "price_view", "sku_type",
    "weight_type", "shipment_type", "msrp_display_actual_price_type", "gift_message_available", "options_container",
    "page_layout", "custom_design", "custom_layout", "is_returnable", "price", "special_price", "stock",
})  # fmt: skip
"""Attributes that say how a product is sold or shown: they may change while the product stays what it is."""

TRAIT_WORDS = frozenset({
    "activity", "brand", "category", "climate", "collar", "collection", "color", "colors", "colour", "colours",
    "features", "fit", "flavor", "flavour", "gender", "kind", "manufacturer", "material", "materials", "neckline",
    "occasion", "pattern", "purpose", "scent", "season", "shape", "size", "sleeve", "strap", "style",
})  # fmt: skip
"""A code with one of these words in it is a trait: `style_bags`, `t_product_colour`; so is a product type."""

UNSPOKEN_CATEGORIES = frozenset({"default category", "root catalog"})
MAX_NAME = 1_000_000
"""A longer name is left whole, so that it is refused for its length."""

CACHED_KEYS = 65_536
"""Names of source fields that are known for what they are: a shop has some thousands."""

CACHED_LABELS = 16_384
CACHED_CHARS = 200
"""Labels up to this length are remembered once cleaned: a catalogue has few of them, many times over."""


# --- attributes ------------------------------------------------------------------------------------------------------


def attribute_labels(source: Mapping[str, Any]) -> Any:
    """The raw labels by attribute code, in the order of the codes; or what the document itself calls `attributes`."""
    own = source.get("attributes")
    if own is not None:
        return _ordered(own) if isinstance(own, dict) else own
    return _ordered({code: value for key, value in source.items() if (code := _spoken_code(key)) is not None})


@lru_cache(maxsize=CACHED_KEYS)
def _spoken_code(key: str) -> str | None:
    """The attribute whose labels a source field holds; None for any other field, and for one that is left out."""
    if key.endswith(LABEL_SUFFIX):
        code = key.removesuffix(LABEL_SUFFIX)
    elif key.startswith(LABEL_PREFIX):
        code = key.removeprefix(LABEL_PREFIX)
    else:
        return None
    return None if code in UNSPOKEN_CODES else code


def _ordered(labels: dict[str, Any]) -> dict[str, Any]:
    return {
        code: value if type(value) is str else sorted(map(as_text, value)) if type(value) is list else as_text(value)
        for code, value in sorted(labels.items())
    }


def attribute_lines(labels: Any) -> list[str]:
    """The lines that `attributes` prints."""
    if isinstance(labels, dict):
        return [line for code, label in labels.items() if (line := _line(code, label))]
    return distinct(labels if isinstance(labels, list) else [labels])


def trait_labels(source: Mapping[str, Any]) -> Any:
    """The name, and the raw labels by code of the attributes that are traits."""
    labels = attribute_labels(source)
    if isinstance(labels, dict):
        labels = {code: label for code, label in labels.items() if _is_trait(code)}
    return {"name": first_name(source), "labels": labels}


@lru_cache(maxsize=16_384)
def _is_trait(code: str) -> bool:
    words = code.lower().split("_")
    return words[-2:] in (["type"], ["product", "type"]) or (len(words) <= 3 and not TRAIT_WORDS.isdisjoint(words))


def trait_lines(named: Any) -> list[str]:
    """The lines that `traits` prints."""
    labels, said = named["labels"], clean_label(as_text(named["name"])).casefold()
    if isinstance(labels, dict):
        labels = {code: _unsaid(label, said) for code, label in labels.items()}
    return [line.partition(": ")[2] or line for line in attribute_lines(labels)]


def _unsaid(label: str | list[str], said: str) -> str | list[str]:
    if isinstance(label, str):
        return "" if label.casefold() in said else label
    return [one for one in label if one.casefold() not in said]


def _line(code: str, label: str | list[str]) -> str:
    if isinstance(label, str):
        return _cached_line(code, (label,)) if len(label) <= CACHED_CHARS else _fresh_line(code, (label,))
    labels = tuple(map(as_text, label if isinstance(label, list) else [label]))
    return _cached_line(code, labels) if sum(map(len, labels)) <= CACHED_CHARS else _fresh_line(code, labels)


def _fresh_line(code: str, labels: tuple[str, ...]) -> str:
    name = spoken(code)
    told = [label for label in distinct(labels) if label.casefold() != name.casefold()]
    if not told:
        return name if any(labels) and any(map(clean_label, labels)) else ""
    if len(told) == 1 and told[0].casefold() in {"yes", "no"}:
        return name if told[0].casefold() == "yes" else ""
    return f"{name}: {', '.join(told)}"


_cached_line: Callable[[str, tuple[str, ...]], str] = lru_cache(maxsize=CACHED_LABELS)(_fresh_line)


@lru_cache(maxsize=16_384)
def spoken(code: str) -> str:
    """An attribute's code as words: `t_product_type` is `Product type`."""
    words = clean_label(code.replace("_", " ")).split()
    if len(words) > 1 and len(words[0]) == 1 and words[0].isalpha():
        words = words[1:]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def distinct(labels: Sequence[Any]) -> list[str]:
    """Cleaned labels on one line each, the first of those that differ only in case."""
    kept: dict[str, str] = {}
    for label in labels:
        text = " ".join(clean_label(as_text(label)).split("\n"))
        if text:
            kept.setdefault(text.casefold(), text)
    return list(kept.values())


# --- categories ------------------------------------------------------------------------------------------------------

_DIGITS = re.compile(r"\d{1,18}")


def category_names(source: Mapping[str, Any]) -> Any:
    """The raw names of the categories in the order of their ids; or what the document calls `categories`."""
    own = source.get("categories")
    if own is not None:
        return own
    nested = source.get("category")
    if isinstance(nested, list):
        pairs = [(_id(item.get("category_id")), as_text(item.get("name"))) for item in nested if isinstance(item, dict)]
    else:
        pairs = [
            (number, name if type(name) is str else as_text(name))
            for key, name in source.items()
            if (number := _category(key)) is not None
        ]
    return [name for _, name in sorted(pairs) if name]


@lru_cache(maxsize=CACHED_KEYS)
def _category(key: str) -> int | None:
    """The category whose name a source field holds; None for any other field."""
    return _id(key.removeprefix(CATEGORY_PREFIX)) if key.startswith(CATEGORY_PREFIX) else None


def _id(key: Any) -> int:
    text = as_text(key)
    return int(text) if _DIGITS.fullmatch(text) else 0


def category_lines(names: Any) -> list[str]:
    """The lines that `categories` prints."""
    return _cached_categories(tuple(map(as_text, names if isinstance(names, list) else [names])))


@lru_cache(maxsize=16_384)
def _kept_categories(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in distinct(names) if name.casefold() not in UNSPOKEN_CATEGORIES)


def _cached_categories(names: tuple[str, ...]) -> list[str]:
    if sum(map(len, names)) > 2_000:
        return list(_kept_categories.__wrapped__(names))
    return list(_kept_categories(names))


# --- stock and name --------------------------------------------------------------------------------------------------


def out_of_stock(source: Mapping[str, Any]) -> Any:
    """The raw `is_out_of_stock`, or the contrary of `stock.is_in_stock`, or None."""
    value = source.get("is_out_of_stock")
    if value is not None:
        return value
    inside = at_path(source, ("stock", "is_in_stock"))
    inside = inside[0] if isinstance(inside, list) and inside else inside
    return None if inside is None else as_text(inside).strip().lower() not in {"1", "true", "yes"}


def first_name(source: Mapping[str, Any]) -> Any:
    """The first line of the (first) name; whatever else stands there as it is."""
    name = source.get("name")
    if isinstance(name, list):
        name = name[0] if name else None
    return name.strip().partition("\n")[0] if isinstance(name, str) and len(name) <= MAX_NAME else name


COLLECTED: Mapping[str, tuple[Gather | None, Lines | None]] = {
    "attributes": (attribute_labels, attribute_lines),
    "traits": (trait_labels, trait_lines),
    "categories": (category_names, category_lines),
    "is_out_of_stock": (out_of_stock, None),
    "name": (first_name, None),
}
"""Name to what gathers its raw value and what makes lines of that (None: cleaned like any other)."""
