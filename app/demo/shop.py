"""The words of the invented shop: kinds of goods, their materials, uses and sentences; read once from `shop.yaml`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml

FIRST_CATEGORY = 3
"""Categories 1 and 2 are the roots that every shop of this make has."""

FIRST_OPTION = 40
"""Where the numbers of attribute options begin; each attribute's follow the one before."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of goods. Numbers are those of the shop's categories and attribute options; prices are in cents."""

    noun: str
    plural: str
    code: str
    department: str
    department_id: int
    category_id: int
    materials: Sequence[str]
    material_ids: Sequence[int]
    traits: Sequence[str]
    uses: Sequence[str]
    use_ids: Sequence[int]
    cents: tuple[int, int]
    sizes: Sequence[str]
    size_ids: Sequence[int]
    says: Sequence[str]
    features: Sequence[str]


@dataclass(frozen=True, slots=True)
class Shop:
    """All that the generator needs to know."""

    name: str
    lines: Sequence[str]
    line_ids: Sequence[int]
    colours: Sequence[str]
    colour_ids: Sequence[int]
    tags: Sequence[str]
    tag_ids: Sequence[int]
    general: Sequence[str]
    long: Sequence[str]
    kinds: Sequence[Kind]


@cache
def the_shop() -> Shop:
    """The shop of `shop.yaml`."""
    raw = yaml.safe_load(Path(__file__).with_name("shop.yaml").read_text("utf-8"))
    options = _option_ids(raw)
    first_kind = FIRST_CATEGORY + len(raw["departments"])
    kinds = [_kind(entry, raw, options, first_kind + n) for n, entry in enumerate(raw["kinds"])]
    first_tag = first_kind + len(kinds)
    return Shop(
        name=raw["shop"],
        lines=raw["lines"],
        line_ids=options["line"],
        colours=raw["colours"],
        colour_ids=options["colour"],
        tags=raw["tags"],
        tag_ids=range(first_tag, first_tag + len(raw["tags"])),
        general=raw["general"],
        long=raw["long"],
        kinds=kinds,
    )


def _option_ids(raw: dict[str, Any]) -> dict[str, range]:
    """Attribute to the numbers of its options, in the order of `_option_labels`."""
    labels = _option_labels(raw)
    ends = list(accumulate((len(names) for names in labels.values()), initial=FIRST_OPTION))
    return {attribute: range(ends[n], ends[n + 1]) for n, attribute in enumerate(labels)}


def _option_labels(raw: dict[str, Any]) -> dict[str, list[str]]:
    return {
        "line": raw["lines"],
        "colour": raw["colours"],
        **{attribute: _distinct(raw, attribute) for attribute in ("materials", "uses", "sizes")},
    }


def _distinct(raw: dict[str, Any], attribute: str) -> list[str]:
    return list(dict.fromkeys(label for kind in raw["kinds"] for label in kind[attribute]))


def _kind(entry: dict[str, Any], raw: dict[str, Any], options: dict[str, range], category_id: int) -> Kind:
    def ids(attribute: str) -> list[int]:
        known = _distinct(raw, attribute)
        return [options[attribute][known.index(label)] for label in entry[attribute]]

    noun = entry["noun"]
    return Kind(
        noun=noun,
        plural=entry.get("plural") or (noun if noun.endswith("s") else f"{noun}s"),
        code="".join(word[0] for word in noun.split()) + str(category_id),
        department=entry["department"],
        department_id=FIRST_CATEGORY + raw["departments"].index(entry["department"]),
        category_id=category_id,
        materials=entry["materials"],
        material_ids=ids("materials"),
        traits=entry["traits"],
        uses=entry["uses"],
        use_ids=ids("uses"),
        cents=(entry["price"][0] * 100, entry["price"][1] * 100),
        sizes=entry["sizes"],
        size_ids=ids("sizes"),
        says=entry["says"],
        features=entry["features"],
    )
