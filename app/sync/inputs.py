"""What a recipe takes of a source document: raw, in canonical form, and as the value that is stored or rendered.

The canonical form is what `input_hash` is made of: keys and unordered lists sorted, numbers in one spelling, nothing
cleaned. A product that was re-indexed without a change has the same one, whatever order or spelling it came back in.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import orjson

from app.spec import FieldSpec
from app.sync.cleaning import clean, clean_label
from app.sync.collected import COLLECTED, LABEL_PREFIX, LABEL_SUFFIX, WANTED, Gather, Lines
from app.sync.fields import Reading, Unfit, as_text, as_title, coerced, single
from app.sync.template import MAX_ITEMS

MAX_FIELD = 1_000_000
"""Bytes of one source field, as JSON; above it the product is a reject."""

MAX_DEPTH = 50

_PLAIN: tuple[Gather | None, Lines | None] = (None, None)
_TEXTUAL = frozenset({"text", "keyword"})
_LABELS = frozenset({"name", "sku", "url_key", "manufacturer", "brand", "title"})


def is_label(name: str) -> bool:
    """Whether a source field holds names or labels, where capitals inside words belong there, and no prose."""
    return name in _LABELS or name.endswith(LABEL_SUFFIX) or name.startswith(LABEL_PREFIX)


class Taken:
    """Something that the recipe takes: its own name, the source field behind it, the patterns to fetch."""

    name: str
    root: str
    wanted: Sequence[str]


class FieldInput(Taken):
    """One declared field: its raw value, the canonical form of that, and the coerced value."""

    def __init__(self, name: str, declared: FieldSpec) -> None:
        reading = Reading(name, declared)
        self.name, self.type, self.root = name, declared.type, reading.root
        self._coerce = as_title if declared.type == "text" and is_label(self.root) else reading.coerce
        self._textual = declared.type in _TEXTUAL
        gather, self._lines = COLLECTED.get(self.root, _PLAIN) if not declared.take else _PLAIN
        self._read, self.gathers = gather or reading, gather is not None
        self.wanted = WANTED.get(self.root, reading.wanted) if gather else reading.wanted

    def raw(self, source: Mapping[str, Any]) -> Any:
        """What the document holds for it, None for nothing. Raises `Unfit` for a text over `MAX_FIELD`."""
        value = self._read(source)
        return _weighed(value) if type(value) is str else value

    def canonical(self, raw: Any) -> Any:
        """Numbers, booleans and dates as what they become; texts as they are; unordered lists in order."""
        if raw is None or (self._textual and type(raw) is str):
            return raw
        if not self._textual:
            raw = coerced(raw, self._coerce)
        if type(raw) is not list:
            return canonical(raw)
        return canonical(raw) if self.type == "text" else sorted(map(as_text, raw))

    def value(self, raw: Any) -> Any:
        """The coerced value, None when nothing is left. Raises `Unfit`."""
        if self._lines is not None:
            raw = self._lines(raw)
        return coerced(raw, self._coerce)


class VariableInput(Taken):
    """One name that the template takes: its raw value, canonical already, and the cleaned one."""

    def __init__(self, name: str) -> None:
        self.name = self.root = name
        self._gather, self._lines = COLLECTED.get(name, _PLAIN)
        self.wanted = WANTED.get(name, (name,))
        self._clean = clean_label if is_label(name) else clean

    def raw(self, source: Mapping[str, Any]) -> Any:
        """What the document holds for it, in canonical form. Raises `Unfit` for a text over `MAX_FIELD`."""
        return self.told(source.get(self.name) if self._gather is None else self._gather(source))

    def told(self, value: Any) -> Any:
        """The canonical form of what was gathered, perhaps for a field of the same name."""
        if type(value) is str:
            return _weighed(value)
        return canonical(single(value) if type(value) is list else value)

    def value(self, raw: Any) -> Any:
        """What the template gets to see: cleaned texts, lists without empty elements."""
        if type(raw) is str and self._lines is None:
            return self._clean(raw)
        return self._lines(raw) if self._lines is not None else self._cleaned(raw)

    def _cleaned(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._clean(value)
        if isinstance(value, list):
            cleaned = [self._cleaned(item) for item in value[:MAX_ITEMS]]
            return [item for item in cleaned if item is not None and item != ""]
        if isinstance(value, dict):
            return {key: self._cleaned(item) for key, item in value.items()}
        return value


def canonical(value: Any, depth: int = 0) -> Any:
    """*value* with one spelling for each number. Raises `Unfit` for what is nested too deep."""
    if type(value) is float and value.is_integer() and abs(value) < 1e15:
        return int(value)
    if type(value) is list or type(value) is dict:
        if depth > MAX_DEPTH:
            raise Unfit("too_deep", f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict):
            if all(type(item) is str for item in value.values()):
                return value
            return {key: item if type(item) is str else canonical(item, depth + 1) for key, item in value.items()}
        return [item if type(item) is str else canonical(item, depth + 1) for item in value]
    return value


def _weighed(text: str) -> str:
    if len(text) > MAX_FIELD:
        raise Unfit("field_too_large", f"{len(text)} characters are more than a field may have ({MAX_FIELD} bytes)")
    return text


def named(name: str, act: Any, value: Any) -> Any:
    """What *act* makes of *value*; an `Unfit` it raises says which field it is about."""
    try:
        return act(value)
    except Unfit as unfit:
        raise Unfit(unfit.code, f"{name}: {unfit}") from None


# --- the canonical input ---------------------------------------------------------------------------------------------


def dumped(fields: Mapping[str, Any], values: Mapping[str, Any]) -> bytes:
    """The canonical bytes of the whole input. Raises `Unfit` for what is too large or cannot be written as JSON."""
    try:
        data = orjson.dumps([fields, values], option=orjson.OPT_SORT_KEYS)
    except TypeError:
        raise _unwritable(fields, values) from None
    if len(data) > MAX_FIELD:
        _check_sizes(fields, values)
    return data


def _entries(group: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Name and raw value; what is an object, attributes for one, member by member."""
    for name, value in group.items():
        if isinstance(value, dict):
            yield from _entries(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _check_sizes(*groups: Mapping[str, Any]) -> None:
    for name, value in chain.from_iterable(map(_entries, groups)):
        if (size := len(orjson.dumps(value))) > MAX_FIELD:
            raise Unfit("field_too_large", f"{name[:120]}: {size} bytes are more than a field may have ({MAX_FIELD})")


def _unwritable(*groups: Mapping[str, Any]) -> Unfit:
    for name, value in chain.from_iterable(map(_entries, groups)):
        try:
            orjson.dumps([name, value])
        except TypeError as error:
            code, why = _why_unwritable(str(error))
            return Unfit(code, f"{ascii(name[:120])[1:-1]}: {why}")
    return Unfit("wrong_type", "a key of this product is no text")


def _why_unwritable(error: str) -> tuple[str, str]:
    if "surrogate" in error or "UTF-8" in error:
        return "bad_unicode", "holds half a surrogate pair: no engine can store it"
    if "64-bit" in error:
        return "out_of_range", "a number has more than 64 bits"
    return "wrong_type", "cannot be written as JSON"
