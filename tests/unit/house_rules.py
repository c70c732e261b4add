"""The house rules as functions: each takes a text and gives its violations, one line each."""

import ast
import re
from collections.abc import Callable, Iterator

LONGEST_FUNCTION = 50
LONGEST_MODULE = 350
LONGEST_TEST_FILE = 500
MOST_POSITIONAL = 5

# Words that mean something else here, or nothing; `task` in the compounds of anyio is no noun of ours.
WORDS = frozenset({"job", "jobs", "task", "tasks", "collection", "collections"})
ALLOWED = re.compile(r"task_?(group|status)", re.IGNORECASE)
EMPTY = ("service", "services", "util", "utils", "helper", "helpers", "common", "core", "manager", "managers")
MODULES = frozenset(EMPTY)
UNSTRUCTURED = frozenset({"create_task", "ensure_future", "gather"})
BANNED_FROM = {"asyncio": {"Queue", *UNSTRUCTURED}, "time": {"sleep"}}
EVASIONS = frozenset({"skip", "skipif", "skipUnless", "skipIf", "skipTest", "xfail", "importorskip", "expectedFailure"})

# Put together from pieces, so that this file does not break the rules it states.
_HOSTS = (
    "pypi org, pythonhosted org, repo1 maven, repo maven, npmjs org, npmjs com, crates io, proxy golang, "
    "deb debian, security debian, docker io, docker elastic"
)
HOSTS = tuple(host.replace(" ", ".") for host in _HOSTS.split(", "))
PATHS = re.compile("|".join(("/wo" + r"rk/\w", "/ro" + r"ot/\w", "/ho" + r"me/\w", "/Us" + r"ers/\w")))
SCRATCH = re.compile("/tm" + r"p/\w")
LATER = re.compile("|".join(rf"\b{word}\b" for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")))
ADDRESSES = re.compile(r"://|--(extra-)?index-url|--find-links| @ ")

Function = ast.FunctionDef | ast.AsyncFunctionDef


# --- sizes -----------------------------------------------------------------------------------------------------------


def long_functions(source: str) -> list[str]:
    """Functions of more lines than allowed, decorators not counted."""
    return [
        f"{function.lineno}: {function.name} has {lines} lines, {LONGEST_FUNCTION} are allowed"
        for function in _functions(ast.parse(source))
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > LONGEST_FUNCTION
    ]


def crowded_functions(source: str) -> list[str]:
    """Functions with too many positional parameters; those that a framework fills (`Annotated`) do not count."""
    return [
        f"{function.lineno}: {function.name} has {count} positional parameters, {MOST_POSITIONAL} are allowed"
        for function in _functions(ast.parse(source))
        if (count := _positional(function)) > MOST_POSITIONAL
    ]


def long_file(source: str, limit: int) -> list[str]:
    lines = len(source.splitlines())
    return [f"1: the file has {lines} lines, {limit} are allowed"] if lines > limit else []


def _functions(tree: ast.AST) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node


def _positional(function: Function) -> int:
    arguments = [*function.args.posonlyargs, *function.args.args]
    ours = [a for a in arguments if a.arg not in ("self", "cls") and not _filled(a.annotation)]
    return len(ours)


def _filled(annotation: ast.expr | None) -> bool:
    return isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).endswith("Annotated")


# --- words -----------------------------------------------------------------------------------------------------------


def foreign_words(source: str) -> list[str]:
    """Names that are given here, and routes, that use a word which is not ours."""
    found = [(line, name) for line, name in _given_names(ast.parse(source)) if _parts(ALLOWED.sub("", name)) & WORDS]
    found += [(line, text) for line, text in _texts(ast.parse(source)) if set(re.findall(r"/([a-z]+)", text)) & WORDS]
    return [f"{line}: '{name}' is not one of our words" for line, name in found]


def foreign_module(path: str) -> list[str]:
    parts = path.removesuffix(".py").split("/")
    return [f"a module called '{part}' says nothing" for part in parts if part in MODULES]


def _parts(name: str) -> set[str]:
    return {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def _given_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr


def _texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("/"):
            yield node.lineno, node.value


# --- concurrency and evasions ----------------------------------------------------------------------------------------


def unstructured(source: str) -> list[str]:
    """Ways to start work that nobody waits for, or to hold the loop."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(attr=attr) if attr in UNSTRUCTURED:
                found.append((node.lineno, attr))
            case ast.Attribute(value=ast.Name(id=module), attr=attr) if attr in BANNED_FROM.get(module, ()):
                found.append((node.lineno, f"{module}.{attr}"))
            case ast.ImportFrom(module=str(module)):
                names = {alias.name for alias in node.names} & BANNED_FROM.get(module, set())
                found += [(node.lineno, f"{module}.{name}") for name in sorted(names)]
    return [f"{line}: {name} is not used here: anyio's groups and streams are" for line, name in found]


def evasions(source: str) -> list[str]:
    """Tests that do not run, or may fail."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=value, attr=attr) if attr in EVASIONS and _is_testing(value):
                found.append((node.lineno, attr))
            case ast.ImportFrom(module="pytest" | "unittest"):
                found += [(node.lineno, alias.name) for alias in node.names if alias.name in EVASIONS]
    return [f"{line}: {name}: a test runs and passes, or it is not there" for line, name in found]


def _is_testing(value: ast.expr) -> bool:
    return ast.unparse(value).split(".")[0] in ("pytest", "unittest", "self")


# --- texts -----------------------------------------------------------------------------------------------------------


def addresses(text: str) -> list[str]:
    """Hosts of package registries."""
    return _lines(text, lambda line: any(host in line for host in HOSTS), "names a package registry's host")


def machine_paths(text: str) -> list[str]:
    """Paths that exist on one machine only."""
    return _lines(text, lambda line: bool(PATHS.search(line)), "names a path of one machine")


def scratch_paths(text: str) -> list[str]:
    """Fixed names in the folder that everybody may write to; inside a container they are nobody else's."""
    return _lines(text, lambda line: bool(SCRATCH.search(line)), "names a file that others may have made")


def later(text: str) -> list[str]:
    """Marks of unfinished work."""
    return _lines(text, lambda line: bool(LATER.search(line)), "puts something off")


def lock_addresses(text: str) -> list[str]:
    """Addresses in a lock file, which would bind it to one registry."""
    return _lines(text, lambda line: bool(ADDRESSES.search(line)), "has an address")


def _lines(text: str, broken: Callable[[str], bool], what: str) -> list[str]:
    return [f"{number}: {what}" for number, line in enumerate(text.splitlines(), 1) if broken(line)]
