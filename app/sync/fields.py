"""A field of a document: found in the source by its path, then coerced to the type that the recipe declares.

A path is dotted and goes through lists: `category.category_id` of a list of objects is the list of their ids. With
`where`, only the objects that match are looked at; `take` names the member that is taken. What is missing, empty or
`0000-00-00` is nothing. One element stands for itself: `["a"]` and `"a"` are the same value, as Magento writes the one
for one product and the other for the next.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from app.spec import FieldSpec
from app.sync.cleaning import clean, clean_label

FLOAT_MAX = 3.4028235e38
INTEGER_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1
KEYWORD_BYTES = 32_766
"""Lucene refuses a longer term: the whole document, not just the field."""

_NUMBER = re.compile(r"[+-]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][+-]?\d{1,3})?")
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_NO_DATE = re.compile(r"0{4}-0{2}-0{2}.*|-0001-.*", re.DOTALL)
_DATE_ONLY = re.compile(r"\d{4}-\d{2}-\d{2}")


class Unfit(ValueError):
    """A value that cannot become what the recipe declares; *code* for machines, the text for people, no value in it."""

    def __init__(self, code: str, why: str) -> None:
        self.code = code
        super().__init__(why)


def preview(value: Any) -> str:
    """Enough of a value to recognise it, at most 80 characters."""
    if isinstance(value, str):
        return ascii(value[:60]) if len(value) <= 60 else ascii(value[:50])[:70] + "..."
    if isinstance(value, bool | float) or value is None:
        return repr(value)
    if isinstance(value, int):
        return repr(value) if abs(value) < 10**40 else "a very large number"
    return "a list" if isinstance(value, list) else "an object"


# --- paths -----------------------------------------------------------------------------------------------------------


def at_path(value: Any, steps: Sequence[str]) -> Any:
    """What stands at a path; None when nothing does. A key that holds the dots itself goes first."""
    for number, step in enumerate(steps):
        if isinstance(value, list):
            return [found for item in value if (found := at_path(item, steps[number:])) is not None]
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def as_text(value: Any) -> str:
    """How a value compares with what somebody wrote down: `True` as true, `2.0` as 2, nothing as empty."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value) if isfinite(value) else ""
    return str(value) if isinstance(value, int) and abs(value) < 10**100 else ""


def texts(value: Any) -> Iterator[str]:
    """Each element of a value as text; one empty text for a missing one."""
    if isinstance(value, list):
        yield from map(as_text, value or [None])
    else:
        yield as_text(value)


class Reading:
    """Reads one declared field out of a source document."""

    def __init__(self, name: str, spec: FieldSpec) -> None:
        self.name = name
        self.type = spec.type
        self.root = spec.source or name
        self.steps = tuple(self.root.split("."))
        self.where = [(tuple(key.split(".")), as_text(wanted)) for key, wanted in (spec.where or {}).items()]
        self.take = tuple(spec.take.split(".")) if spec.take else ()
        self.coerce = COERCIONS[spec.type]

    @property
    def wanted(self) -> list[str]:
        """What to fetch for it, and no more of a nested object than that."""
        members = [".".join(key) for key, _ in self.where] + ([".".join(self.take)] if self.take else [])
        return [f"{self.root}.{member}" for member in members] if self.take else [self.root]

    def __call__(self, source: Mapping[str, Any]) -> Any:
        """The raw value, None when there is none."""
        value = source.get(self.root)
        if value is None and len(self.steps) > 1:
            value = at_path(source, self.steps)
        if self.where or self.take:
            items = value if isinstance(value, list) else [value]
            value = [at_path(item, self.take) for item in items if self._matches(item)]
        return single(value) if isinstance(value, list) else value

    def _matches(self, item: Any) -> bool:
        return all(wanted in texts(at_path(item, steps)) for steps, wanted in self.where)


def single(value: list[Any]) -> Any:
    """A list without its empty elements; one element stands for itself, none for nothing."""
    kept = [item for item in value if item is not None and item != ""]
    return (kept[0] if len(kept) == 1 else kept) if kept else None


# --- coercion --------------------------------------------------------------------------------------------------------


def coerced(value: Any, coerce: Callable[[Any], Any]) -> Any:
    """*value* as the declared type, element by element; None when nothing is left. Raises `Unfit`."""
    if isinstance(value, list):
        return single([coerce(item) for item in value])
    return None if value is None else coerce(value)


def _unfit(value: Any, kind: str) -> Unfit:
    return Unfit("wrong_type", f"{preview(value)} cannot be read as {kind}")


def _written(value: Any, kind: str) -> str:
    """A scalar as a string, before cleaning."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not isfinite(value):
        raise Unfit("not_finite", f"{value!r} is no {kind} and no number")
    if isinstance(value, bool | int | float):
        return as_text(value)
    raise _unfit(value, kind)


def as_prose(value: Any) -> str | None:
    """A cleaned text."""
    return clean(_written(value, "text")) or None


def as_title(value: Any) -> str | None:
    """A cleaned text that is a name: its words stay as they are."""
    return clean_label(_written(value, "text")) or None


def as_keyword(value: Any) -> str | None:
    """A cleaned label on one line. Raises `Unfit` when it is longer than an engine takes."""
    text = clean_label(_written(value, "keyword"))
    if "\n" in text:
        text = text.replace("\n", " ")
    if len(text) > KEYWORD_BYTES // 4 and len(text.encode()) > KEYWORD_BYTES:
        raise Unfit("keyword_too_long", f"a keyword has at most {KEYWORD_BYTES} bytes: declare the field as text")
    return text or None


def as_double(value: Any) -> float | None:
    """A finite number; `"52.000000"` is one, a boolean is none."""
    if isinstance(value, str):
        value = value.strip()
        if not value:
            return None
        if not _NUMBER.fullmatch(value):
            code = "not_finite" if value.lower().lstrip("+-") in {"nan", "inf", "infinity"} else "wrong_type"
            raise Unfit(code, f"{preview(value)} cannot be read as a number")
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise _unfit(value, "a number")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not isfinite(number):
        raise Unfit("not_finite", f"{preview(value)} is not a finite number")
    return number


def as_float(value: Any) -> float | None:
    """A finite number that fits into 32 bits."""
    number = as_double(value)
    if number is not None and abs(number) > FLOAT_MAX:
        raise Unfit("out_of_range", f"{preview(value)} is too large for a float: declare the field as double")
    return number


def _whole(value: Any, limit: int, kind: str) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        whole = value
    elif isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,25}\s*", value):
        whole = int(value)
    else:
        number = as_double(value)
        if number is None:
            return None
        if not number.is_integer():
            raise _unfit(value, f"{kind} without losing its fraction")
        whole = int(number)
    if not -limit - 1 <= whole <= limit:
        raise Unfit("out_of_range", f"{preview(value)} does not fit into {kind}")
    return whole


def as_integer(value: Any) -> int | None:
    """A whole number of 32 bits."""
    return _whole(value, INTEGER_MAX, "an integer")


def as_long(value: Any) -> int | None:
    """A whole number of 64 bits."""
    return _whole(value, LONG_MAX, "a long")


def as_boolean(value: Any) -> bool | None:
    """True or false, also written 0, 1, yes, no, on, off."""
    if isinstance(value, bool):
        return value
    word = as_text(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    if word or isinstance(value, list | dict):
        raise _unfit(value, "a boolean")
    return None


def as_date(value: Any) -> str | None:
    """An ISO date or moment in UTC; a number is milliseconds since 1970. Magento's zero dates are nothing."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _moment(datetime.fromtimestamp(value / 1000, UTC))
        if not isinstance(value, str):
            raise _unfit(value, "a date")
        text = value.strip()
        if not text or _NO_DATE.fullmatch(text):
            return None
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        raise _unfit(value, "a date (2025-01-31 or 2025-01-31T08:00:00Z)") from None
    return text if _DATE_ONLY.fullmatch(text) else _moment(moment)


def _moment(moment: datetime) -> str:
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return aware.isoformat(timespec="milliseconds" if aware.microsecond else "seconds").replace("+00:00", "Z")


COERCIONS: Mapping[str, Callable[[Any], Any]] = {
    "keyword": as_keyword,
    "text": as_prose,
    "double": as_double,
    "float": as_float,
    "long": as_long,
    "integer": as_integer,
    "boolean": as_boolean,
    "date": as_date,
}
