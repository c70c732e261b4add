"""A hit becomes a document or a reject: pure computing, no I/O, the same answer for the same product every time.

In this order, so that little is done for what is left out and nothing is parsed that is too large:

1. the id; rules (`exclude_when`, the skeletons that Magento leaves of products that are out of stock);
2. the raw input that the recipe takes, and no more of it: too large a field is a reject. Its canonical form (keys and
   unordered lists sorted, numbers in one spelling) gives `input_hash`, before anything is cleaned;
   Whoever holds a product with this hash already needs nothing more of it: it is unchanged, and goes no further;
3. the fields, coerced; the variables of the template, cleaned; the text, rendered and cut at a word;
4. `text_hash` over the text, `content_hash` over fields and text. All three are SHA-256 in hexadecimal.

A reject by data names the field and the reason and shows at most 80 characters of the value. One product's trouble is
never another's: what cannot be prepared is left out alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeVar

import orjson

from app.errors import Invalid
from app.spec import RecipeSpec
from app.sync.collected import WANTED, out_of_stock
from app.sync.fields import Unfit, as_text, at_path, texts
from app.sync.inputs import FieldInput, Taken, VariableInput, dumped, named
from app.sync.recipe import check_recipe
from app.sync.template import Template, Unrenderable
from app.sync.words import Batch, Document, Hit, ModelStamp, Page, Reject

One = TypeVar("One", Hit, "Input")
Made = TypeVar("Made")

MAX_ID = 512
"""Bytes of an id: what both engines accept."""


@dataclass(frozen=True, slots=True)
class Input:
    """What a recipe takes of one product, raw, and the hash of it."""

    id: str
    fields: list[Any]
    variables: list[Any]
    hash: str


Known = Callable[[Sequence[Input]], Sequence[bool]]
"""For each input, whether the product is held with just this one already."""


class Preparer:
    """One resolved recipe at work. Raises `Invalid` when template or fields are missing or wrong."""

    def __init__(self, spec: RecipeSpec) -> None:
        if spec.template is None or spec.fields is None:
            raise Invalid("The recipe is not resolved: it has no template or no fields.")
        if wrong := check_recipe(spec):
            raise Invalid("The recipe cannot be used: see errors.", errors=wrong)
        self._template = Template(spec.template)
        self._max_chars = spec.max_chars
        self._rules = [Rule(path, values) for path, values in spec.exclude_when.items()]
        self._fields = [FieldInput(name, declared) for name, declared in spec.fields.items()]
        self._variables = [VariableInput(name) for name in sorted(self._template.names)]
        gathered = {field.root: place for place, field in enumerate(self._fields) if field.gathers}
        self._told = [(variable, gathered.get(variable.name)) for variable in self._variables]
        self._unordered = [field.name for field in self._fields if field.type != "text"]
        taken: list[Taken] = [*self._fields, *self._variables]
        self._has_name = any(one.root == "name" for one in taken)
        self.wanted: Sequence[str] = self._patterns(taken)

    def _patterns(self, taken: Sequence[Taken]) -> list[str]:
        patterns = [pattern for one in taken for pattern in one.wanted]
        patterns += [rule.path for rule in self._rules]
        patterns += WANTED["is_out_of_stock"] if self._has_name else ()
        return sorted(set(patterns))

    def prepare(self, page: Page, known: Known | None = None) -> Batch:
        """Every hit of a page, as a document or as a reject; those that are *known* are only counted."""
        rejects: list[Reject] = []
        inputs = _tried(self.take, page.hits, rejects)
        fresh = inputs if known is None else [one for one, held in zip(inputs, known(inputs), strict=True) if not held]
        documents = _tried(self.document, fresh, rejects)
        return Batch(page.part, len(page.hits), documents, rejects, page.size, unchanged=len(inputs) - len(fresh))

    def take(self, hit: Hit) -> Input:
        """What the recipe takes of a product. Raises `LeftOut` (by rule) or `Unfit` (by its data)."""
        source = hit.source
        _check_id(hit.id)
        self._apply_rules(source)
        one: Taken | None = None
        raws: list[Any] = []
        inputs: list[Any] = []
        try:
            for one in self._fields:
                raws.append(one.raw(source))  # noqa: PERF401 - `one` tells whose trouble it was
            for one, place in self._told:
                inputs.append(one.raw(source) if place is None else one.told(raws[place]))
        except Unfit as unfit:
            assert one is not None
            raise Unfit(unfit.code, f"{one.name}: {unfit}") from None
        return Input(hit.id, raws, inputs, self._input_hash(raws, inputs))

    def document(self, taken: Input) -> Document:
        """One product's document. Raises `Unfit`."""
        fields = self._coerced(taken.fields)
        text, truncated = self._text(taken.variables)
        text_hash = sha256(text.encode()).hexdigest()
        content_hash = self._content_hash(fields, text_hash)
        return Document(taken.id, fields, text, text_hash, content_hash, taken.hash, truncated)

    def _apply_rules(self, source: Mapping[str, Any]) -> None:
        for rule in self._rules:
            if rule.matches(source):
                raise LeftOut("excluded", f"{rule.path} is one of the values that exclude_when names")
        if self._has_name and not source.get("name") and as_text(out_of_stock(source)) in {"1", "true"}:
            raise LeftOut("skeleton", "out of stock and without a name: what is left of a product that is not shown")

    def _input_hash(self, raws: list[Any], inputs: list[Any]) -> str:
        fields = {
            field.name: raw if raw is None else named(field.name, field.canonical, raw)
            for field, raw in zip(self._fields, raws, strict=True)
        }
        values = {variable.name: raw for variable, raw in zip(self._variables, inputs, strict=True)}
        data = dumped(fields, values)
        return sha256(data).hexdigest()

    def _coerced(self, raws: list[Any]) -> dict[str, Any]:
        fields = {}
        for field, raw in zip(self._fields, raws, strict=True):
            if raw is not None and (value := named(field.name, field.value, raw)) is not None:
                fields[field.name] = value
        return fields

    def _text(self, inputs: list[Any]) -> tuple[str, bool]:
        values = {}
        for variable, raw in zip(self._variables, inputs, strict=True):
            if raw is not None:
                values[variable.name] = variable.value(raw)
        try:
            text, truncated = self._template.render(values, self._max_chars)
        except Unrenderable as error:
            raise Unfit("unrenderable", f"template: {error}") from None
        if not text:
            raise Unfit("empty_text", "template: it prints nothing for this product, and nothing cannot be embedded")
        return text, truncated

    def _content_hash(self, fields: dict[str, Any], text_hash: str) -> str:
        told = {**fields, "text_hash": text_hash}
        for name in self._unordered:
            value = told.get(name)
            if isinstance(value, list):
                told[name] = sorted(value, key=as_text)
        return sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()


def body(
    document: Document, stamp: ModelStamp, tenant: str, lang: str, updated_at: datetime | str | None
) -> Mapping[str, Any]:
    """The document as the target stores it, but for its vector."""
    if isinstance(updated_at, datetime):
        updated_at = updated_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        **document.fields,
        "text": document.text,
        "text_hash": document.text_hash,
        "content_hash": document.content_hash,
        "input_hash": document.input_hash,
        "embed_model_alias": stamp.alias,
        "embed_model_version": stamp.version,
        "source_id": document.id,
        "tenant": tenant,
        "lang": lang,
        "updated_at": updated_at,
    }


# --- rules -----------------------------------------------------------------------------------------------------------


class LeftOut(Exception):
    """A product that should not be there, by rule."""

    def __init__(self, code: str, why: str) -> None:
        self.code = code
        super().__init__(why)


class Rule:
    """One line of `exclude_when`: it matches when any element of the field, as text, is one of the values."""

    def __init__(self, path: str, values: Sequence[Any]) -> None:
        self.path = path
        self._steps = tuple(path.split("."))
        self._values = frozenset(map(as_text, values))

    def matches(self, source: Mapping[str, Any]) -> bool:
        """Whether this product is to be left out."""
        value = source.get(self.path)
        if value is None and len(self._steps) > 1:
            value = at_path(source, self._steps)
        if type(value) is list:
            return not self._values.isdisjoint(texts(value))
        return as_text(value) in self._values


def _tried(make: Callable[[One], Made], ones: Sequence[One], rejects: list[Reject]) -> list[Made]:
    """What *make* makes of each; one that it refuses becomes a reject."""
    made = []
    for one in ones:
        try:
            made.append(make(one))
        except LeftOut as left:
            rejects.append(Reject(_safe_id(one.id), "rule", left.code, str(left)))
        except Unfit as unfit:
            rejects.append(Reject(_safe_id(one.id), "data", unfit.code, str(unfit)))
    return made


# --- ids -------------------------------------------------------------------------------------------------------------


def _check_id(product_id: Any) -> None:
    if not isinstance(product_id, str) or not product_id:
        raise Unfit("no_id", "the product has no id")
    if product_id.isascii() and len(product_id) <= MAX_ID and product_id.isprintable():
        return
    if len(product_id.encode(errors="replace")) > MAX_ID or not product_id.isprintable():
        raise Unfit("bad_id", f"an id has at most {MAX_ID} bytes and no control characters")


def _safe_id(product_id: Any) -> str:
    """An id that any database can keep, also when the product was rejected for it."""
    text = product_id if isinstance(product_id, str) else as_text(product_id)
    return text[:MAX_ID] if text.isprintable() else ascii(text[:100])[1:-1]
