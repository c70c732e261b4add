"""Documents as no shop should have them, and has: for tests of what happens to their neighbours.

Each says what is wrong with it and what should become of it: a *reject* because of its data, *excluded* by rule, or
*kept* (odd, but a product). Their index needs `tolerant()` as its mapping: a strict one would refuse some of them.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from app.demo import magento
from app.demo.goods import goods

Outcome = Literal["reject", "excluded", "kept"]

BIG = 10_000_000
"""Characters of the largest description."""

DEEP = 200
"""Levels of the deepest attribute."""

HOSTILE = (
    "<script>alert(1)</script><svg onload=alert(2)><p>{{ config }}{% for x in range(10**9) %}{% endfor %}"
    "<![CDATA[ ]]><!-- <p> --><a href='javascript:alert(3)'>still a lamp</a><p><p><p></b></i>"
)


class Broken(NamedTuple):
    """One broken document; `name` names the case, `why` says what is wrong."""

    name: str
    id: str
    source: dict[str, Any]
    outcome: Outcome
    why: str


def broken(seed: int = 1, first_id: int = 9_000_001) -> Iterator[Broken]:
    """Every case once, each made from a sound product; ids count from *first_id*."""
    sound = (magento.document(good) for good in goods(10 * len(_CASES), seed + 1_000) if _is_sound(good))
    for number, (name, change, outcome, why) in enumerate(_CASES):
        source = next(sound)
        for field, value in change.items():
            if value is None:
                source.pop(field, None)
            else:
                source[field] = _value(value)
        yield Broken(name, str(first_id + number), source, outcome, why)


def tolerant() -> dict[str, Any]:
    """A mapping that takes all of them and still looks like Magento's: what is not named is kept, not indexed."""
    return {
        "settings": {"number_of_shards": 1, "number_of_replicas": 0},
        "mappings": {
            "dynamic": False,
            "properties": {
                "sku": {"type": "text", "index": False},
                "status": {"type": "integer", "ignore_malformed": True},
                "visibility": {"type": "integer", "ignore_malformed": True},
            },
        },
    }


def _is_sound(good: Any) -> bool:
    return good.form == "plain" and not good.skeleton and good.status == 1 and good.visibility == 4


def _value(value: Any) -> Any:
    """Large values are made when they are asked for."""
    return value() if callable(value) else value


def _big() -> str:
    return ("A lamp that shines. " * (BIG // 20))[:BIG]


def _deep() -> dict[str, Any]:
    tree: dict[str, Any] = {"leaf": "x"}
    for _ in range(DEEP):
        tree = {"in": tree}
    return tree


_CASES: tuple[tuple[str, dict[str, Any], Outcome, str], ...] = (
    ("no_name", {"name": None, "status": None, "is_out_of_stock": 1}, "excluded", "a skeleton: out of stock, no name"),
    ("no_name_in_stock", {"name": None}, "kept", "on sale without a name; a missing field is empty"),
    ("no_sku", {"sku": None}, "kept", "a field is missing; a missing field is empty"),
    ("huge_text", {"description": _big}, "reject", "a description of 10 MB"),
    ("price_nan", {"price_0_1": "NaN"}, "reject", "a price that is no number"),
    ("price_infinite", {"price_0_1": "Infinity"}, "reject", "a price without end"),
    ("price_too_large", {"price_0_1": "1e999"}, "reject", "a price beyond every double"),
    ("price_words", {"price_0_1": "on request"}, "reject", "a price in words"),
    ("price_object", {"price_0_1": {"amount": "12.00"}}, "reject", "a price that is an object"),
    ("stock_words", {"is_out_of_stock": "perhaps"}, "reject", "a flag that is neither yes nor no"),
    ("name_object", {"name": {"en": "Lamp", "de": "Leuchte"}}, "reject", "a name that is an object"),
    ("name_number", {"name": 4711}, "kept", "a name that is a number"),
    ("name_list", {"name": ["Lamp", "Lamp-Black"]}, "kept", "a name that is a list"),
    ("categories_object", {"category_ids": {"0": 2}}, "reject", "a list that became an object"),
    ("description_object", {"description": {"html": "<p>Lamp</p>"}}, "reject", "a text that is an object"),
    ("hostile_markup", {"description": HOSTILE}, "kept", "scripts, handlers and template directives in a text"),
    ("unclosed_markup", {"description": "<div><div style='a" + "<p" * 5_000}, "kept", "five thousand open tags"),
    ("control", {"description": "Bell \x07 null \x00 escape \x1b[31m bidi \u202e end"}, "kept", "bells, NUL"),
    ("broken_encoding", {"description": "CafÃ© crÃ¨me â€“ naÃ¯ve \ufffd"}, "kept", "text that was decoded wrongly"),
    ("only_blanks", {"name": " \u00a0\u200b\n\t ", "description": "\u2003"}, "kept", "a name of blanks, like none"),
    ("deep", {"attributes": _deep}, "kept", "an attribute two hundred levels deep"),
    ("many_fields", {"attributes": lambda: {f"code_{n}": n for n in range(5_000)}}, "kept", "five thousand attributes"),
    ("zero_date", {"special_from_date": "0000-00-00 00:00:00"}, "kept", "a date that never was"),
)
