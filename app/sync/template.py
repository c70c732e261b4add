"""The text of a product comes from a declared Jinja2 template: checked before it runs, bounded while it does.

A template may print fields, test them, loop over them and pass them through the filters below. What it may not do is
found by reading its tree, before anything is rendered: calls of any kind (so no `range(...)`), assignments, macros,
includes and imports, attributes that begin with `_`, recursive loops and loops more than two deep, arithmetic, long
constants. So its work is bounded by the product, and what it prints by the bound given to `render`.

How values print: a list one element a line, a missing field, None and an empty list as nothing, numbers without
superfluous zeros. Empty lines vanish, so a template need not care what is missing.
"""

import re
from collections.abc import Callable, Container, Iterator, Mapping
from functools import lru_cache
from math import isfinite
from typing import Any

from jinja2 import ChainableUndefined, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.filters import FILTERS
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_ITEMS = 1_000
"""Elements of one list that a template gets to see; nested loops cost the square of it at most."""

MAX_VALUE = 100_000
"""Characters that one filter may return."""

MAX_CONSTANT = 200
MAX_NODES = 2_000
MAX_LOOPS = 2

ALLOWED_FILTERS = frozenset({
    "abs", "capitalize", "d", "default", "first", "float", "int", "join", "last", "length", "list", "lower", "map",
    "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "select", "selectattr", "sort", "string",
    "striptags", "sum", "title", "trim", "truncate", "unique", "upper", "wordcount",
})  # fmt: skip

_ALLOWED_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.For, nodes.If, nodes.CondExpr,
    nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Filter, nodes.Test, nodes.Compare, nodes.Operand, nodes.And,
    nodes.Or, nodes.Not, nodes.Neg, nodes.Concat, nodes.List, nodes.Tuple, nodes.Keyword,
)  # fmt: skip

_SPECIAL_NAMES = frozenset({"self", "super", "caller", "varargs", "kwargs"})

_WHAT = {
    nodes.Call: "calls are not possible, not even range(): loop over a field instead",
    nodes.CallBlock: "calls are not possible",
    nodes.Macro: "macros are not possible",
    nodes.Assign: "set is not possible: write the expression where it is needed",
    nodes.AssignBlock: "set is not possible: write the expression where it is needed",
    nodes.Include: "include is not possible: a recipe is one template",
    nodes.Import: "import is not possible: a recipe is one template",
    nodes.FromImport: "import is not possible: a recipe is one template",
    nodes.Extends: "extends is not possible: a recipe is one template",
    nodes.Block: "blocks are not possible: a recipe is one template",
}


_MISFITS = (TemplateError, ArithmeticError, TypeError, ValueError, LookupError, AttributeError, RecursionError)
"""What a filter or a comparison raises when a product's values are of another kind than the template expects."""


class Unrenderable(ValueError):
    """This product's values do not fit the template; the text names the reason and never holds the value."""


class Template:
    """A checked template. Raises `ValueError` when `findings` has anything to say."""

    def __init__(self, source: str) -> None:
        wrong = findings(source)
        if wrong:
            raise ValueError("; ".join(wrong))
        environment = _environment()
        self.names: frozenset[str] = names(source)
        self._template = environment.from_string(source)

    def render(self, values: Mapping[str, Any], max_chars: int) -> tuple[str, bool]:
        """The text of one product, at most *max_chars* long, and whether it had to be cut (at a word).

        Raises `Unrenderable`.
        """
        template = self._template
        try:
            chunks = template.root_render_func(template.new_context(dict(values), shared=True))
            text, whole = _collected(chunks, 2 * max_chars + 1_000)
        except Unrenderable:
            raise
        except _MISFITS as error:
            raise Unrenderable(f"the template cannot print this product ({type(error).__name__})") from None
        text = compact(text)
        return cut_at_word(text, max_chars) if len(text) > max_chars else (text, not whole)


def findings(source: str) -> list[str]:
    """Everything that is wrong with a template, as sentences that begin with the line."""
    environment = _environment()
    try:
        tree = environment.parse(source)
        wrong = [f"line {line}: {why}" for line, why in _wrong(tree)]
        if not wrong:
            environment.compile(tree)
    except TemplateSyntaxError as error:
        return [f"line {error.lineno}: {error.message}"]
    except (TemplateError, RecursionError, SyntaxError, ValueError) as error:
        return [f"line 1: the template cannot be compiled ({type(error).__name__})"]
    return list(dict.fromkeys(wrong))


def names(source: str) -> frozenset[str]:
    """The variables that a template takes; empty when it cannot be parsed."""
    try:
        return frozenset(meta.find_undeclared_variables(_environment().parse(source)))
    except (TemplateError, RecursionError):
        return frozenset()


def compact(text: str) -> str:
    """*text* without empty lines and without white space around its lines."""
    return "\n".join([line for raw in text.split("\n") if (line := raw.strip())])


def cut_at_word(text: str, size: int) -> tuple[str, bool]:
    """The first *size* characters of *text* or a few less, at the end of a word where words are of normal length."""
    if len(text) <= size:
        return text, False
    if text[size].isspace():
        return text[:size].rstrip(), True
    match = _LAST_WORD.search(text, max(0, size - 100), size)
    return text[: match.start() if match else size].rstrip() or text[:size], True


_LAST_WORD = re.compile(r"\s\S*\Z")


# --- what may stand in a template ------------------------------------------------------------------------------------


def _wrong(tree: nodes.Template) -> Iterator[tuple[int, str]]:
    count = 0
    for node in _walk(tree):
        count += 1
        yield from ((node.lineno, why) for why in _reasons(node))
    if count > MAX_NODES:
        yield 1, f"the template has more than {MAX_NODES} parts: make it shorter"
    yield from ((line, f"loops can be {MAX_LOOPS} deep at most") for line in _too_deep(tree, 0))


def _walk(node: nodes.Node) -> Iterator[nodes.Node]:
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(node.iter_child_nodes())


def _too_deep(node: nodes.Node, depth: int) -> Iterator[int]:
    depth += isinstance(node, nodes.For)
    if depth > MAX_LOOPS:
        yield node.lineno
        return
    for child in node.iter_child_nodes():
        yield from _too_deep(child, depth)


def _reasons(node: nodes.Node) -> Iterator[str]:
    if isinstance(node, _ALLOWED_NODES):
        return _LOOKS.get(type(node), _fine)(node)
    return iter([_WHAT.get(type(node), f"{type(node).__name__.lower()} is not possible")])


def _fine(_: Any) -> Iterator[str]:
    return iter(())


def _look_at_name(node: nodes.Name) -> Iterator[str]:
    if node.name.startswith("_") or node.name in _SPECIAL_NAMES:
        yield f"{node.name[:40]!r} is no field"


def _look_at_attribute(node: nodes.Getattr) -> Iterator[str]:
    if node.attr.startswith("_"):
        yield f"attributes cannot begin with _: {node.attr[:40]!r}"


def _look_at_constant(node: nodes.Const) -> Iterator[str]:
    if isinstance(node.value, str) and len(node.value) > MAX_CONSTANT:
        yield f"a constant inside an expression has {MAX_CONSTANT} characters at most: write it as plain text"
    if isinstance(node.value, str) and "__" in node.value:
        yield "a constant inside an expression cannot hold __"


def _look_at_loop(node: nodes.For) -> Iterator[str]:
    if node.recursive:
        yield "recursive loops are not possible"


def _look_at_test(node: nodes.Test) -> Iterator[str]:
    if node.name not in _environment().tests:
        yield f"there is no test {node.name[:40]!r}"


def _look_at_filter(node: nodes.Filter) -> Iterator[str]:
    if node.name not in ALLOWED_FILTERS:
        yield f"there is no filter {node.name[:40]!r}: use one of {', '.join(sorted(ALLOWED_FILTERS))}"
    elif node.name == "map" and node.args and not _is_const_of(node.args[0], ALLOWED_FILTERS):
        yield "map takes the name of a filter, or attribute="
    elif node.name in {"select", "reject"} and node.args and not _is_const_of(node.args[0], _environment().tests):
        yield f"{node.name} takes the name of a test"


def _is_const_of(node: nodes.Node, known: Container[str]) -> bool:
    return isinstance(node, nodes.Const) and node.value in known


_LOOKS: Mapping[type[nodes.Node], Callable[[Any], Iterator[str]]] = {
    nodes.Name: _look_at_name,
    nodes.Getattr: _look_at_attribute,
    nodes.Const: _look_at_constant,
    nodes.For: _look_at_loop,
    nodes.Test: _look_at_test,
    nodes.Filter: _look_at_filter,
}


# --- the environment -------------------------------------------------------------------------------------------------


class _Environment(ImmutableSandboxedEnvironment):
    """Without globals, with few filters, each bounded."""

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, undefined=ChainableUndefined, finalize=printed)
        self.globals.clear()
        self.filters = {name: _bounded(FILTERS[name]) for name in ALLOWED_FILTERS}


@lru_cache(maxsize=1)
def _environment() -> _Environment:
    return _Environment()


def _bounded(apply: Callable[..., Any]) -> Callable[..., Any]:
    """The same filter, whose result is a string of bounded length, a bounded list, or something small."""

    def bounded(*args: Any, **kwargs: Any) -> Any:
        result = apply(*args, **kwargs)
        if isinstance(result, str):
            return result[:MAX_VALUE]
        if isinstance(result, Iterator):
            return [item for item, _ in zip(result, range(MAX_ITEMS), strict=False)]
        return result

    bounded.__dict__.update(getattr(apply, "__dict__", {}))
    return bounded


def printed(value: Any) -> Any:
    """How a value prints. Raises `Unrenderable` for objects and numbers that are none."""
    if type(value) is str:
        return value
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return "\n".join([str(printed(item)) for item in value[:MAX_ITEMS]])
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        raise Unrenderable("an object stands where the template prints a value: name one of its members")
    return value


def _number(value: float) -> str:
    if not isfinite(value):
        raise Unrenderable("a number that is not finite stands where the template prints a value")
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _collected(chunks: Iterator[str], bound: int) -> tuple[str, bool]:
    """The chunks joined, until they are longer than *bound*; what is long already is not made longer."""
    parts: list[str] = []
    size = 0
    for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size > bound:
            return "".join(parts)[:bound], False
    return "".join(parts), True
