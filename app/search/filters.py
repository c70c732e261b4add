"""Filters as people write them become clauses of a query, checked against the fields of the generation they narrow.

Everything that is wrong is said at once. Nothing of the caller reaches the engine but values of the declared type.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from app.errors import Invalid

ALWAYS: Mapping[str, str] = {
    "source_id": "keyword",
    "tenant": "keyword",
    "lang": "keyword",
    "embed_model_version": "keyword",
    "updated_at": "date",
}
"""Fields that every document of ours has and that can be filtered by."""

VALUES = 200
"""Values in one list."""

LONGEST = 1000
"""Characters of one value."""

ORDERED = frozenset({"integer", "long", "float", "double", "date"})
"""Types that have a range."""

DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

Clause = dict[str, Any]


def clauses(wanted: Mapping[str, Any] | None, fields: Mapping[str, str]) -> list[Clause]:
    """Query clauses for *wanted*, given the generation's *fields* as name to type. Raises `Invalid` with findings."""
    known, made, wrong = {**ALWAYS, **fields}, [], []
    for name, value in (wanted or {}).items():
        try:
            made.append(_clause(name, value, known))
        except ValueError as error:
            wrong.append({"where": f"body.filter.{name[:100]}", "why": str(error)})
    if wrong:
        raise Invalid("The filter does not fit the fields of this generation: see errors.", errors=wrong)
    return made


def _clause(name: str, value: Any, known: Mapping[str, str]) -> Clause:
    kind = known.get(name)
    if kind is None:
        raise ValueError(f"is no field of this generation; there are: {', '.join(sorted(known))}"[:1000])
    if kind == "text":
        raise ValueError("is full text: search for its words in the query, filter by other fields")
    if isinstance(value, dict):
        return {"range": {name: dict(_bounds(value, kind))}}
    if isinstance(value, list):
        return {"terms": {name: _list(value, kind)}}
    return {"term": {name: _value(value, kind)}}


def _bounds(value: Mapping[str, Any], kind: str) -> Iterator[tuple[str, Any]]:
    if kind not in ORDERED:
        raise ValueError(f"has the type {kind}, which has no range")
    if not value or not value.keys() <= {"gte", "lte"}:
        raise ValueError("a range has gte, lte or both, and nothing else")
    for bound, limit in value.items():
        yield bound, _value(limit, f"{kind} bound" if kind in ("integer", "long") else kind)


def _list(values: list[Any], kind: str) -> list[Any]:
    if not 0 < len(values) <= VALUES:
        raise ValueError(f"a list has 1 to {VALUES} values")
    return [_value(value, kind) for value in values]


def _value(value: Any, kind: str) -> Any:
    try:
        return TYPES[kind](value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"needs a value of the type {kind.split()[0]}") from None


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float) or len(str(value)) > LONGEST:
        raise ValueError
    return str(value)


def _truth(value: Any) -> bool:
    found = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}
    if not isinstance(value, bool | int | str) or value not in found:
        raise ValueError
    return found[value]


def _whole(value: Any, beyond: int) -> int:
    if not _number(value, beyond).is_integer():
        raise ValueError
    return int(value)


def _number(value: Any, beyond: float = math.inf) -> float:
    """Engines refuse what the field could not hold instead of finding nothing: *beyond* is the first such number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    if not abs(number := float(value)) < beyond:
        raise ValueError
    return number


def _moment(value: Any) -> str:
    """As every engine reads it: ISO dates differ in what they allow. A day alone means all of it."""
    moment = datetime.fromisoformat(value)
    if DAY.fullmatch(value):
        return str(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


TYPES: Mapping[str, Callable[[Any], Any]] = {
    "keyword": _word,
    "boolean": _truth,
    "integer": partial(_whole, beyond=2**31),
    "integer bound": partial(_number, beyond=2**31),
    "long": partial(_whole, beyond=2**63),
    "long bound": partial(_number, beyond=2**63),
    "float": partial(_number, beyond=3.4e38),
    "double": _number,
    "date": _moment,
}
