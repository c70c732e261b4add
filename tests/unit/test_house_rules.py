"""The house rules hold for every tracked file, and each rule turns red on a planted violation."""

import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.unit import house_rules as rules

ROOT = Path(__file__).parents[2]

Rule = Callable[[str], list[str]]


@cache
def tracked() -> tuple[str, ...]:
    """Every tracked file that is there and is text."""
    said = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(name for name in said.split("\0") if name and (ROOT / name).is_file() and text(name) is not None)


@cache
def text(name: str) -> str | None:
    try:
        return (ROOT / name).read_text("utf-8")
    except UnicodeDecodeError:
        return None


def python(*folders: str) -> list[str]:
    return [name for name in tracked() if name.endswith(".py") and name.split("/")[0] in folders]


def broken(rule: Rule, names: list[str]) -> list[str]:
    return [f"{name}:{finding}" for name in names for finding in rule(text(name) or "")]


def none(found: list[str]) -> None:
    assert not found, "\n" + "\n".join(found)


# --- the rules hold --------------------------------------------------------------------------------------------------


def test_functions_are_short():
    none(broken(rules.long_functions, python("app", "engines", "tests", "benchmarks")))


def test_functions_take_few_parameters():
    none(broken(rules.crowded_functions, python("app", "engines")))


def test_modules_are_short():
    none(broken(lambda source: rules.long_file(source, rules.LONGEST_MODULE), python("app", "engines")))


def test_test_files_are_short():
    none(broken(lambda source: rules.long_file(source, rules.LONGEST_TEST_FILE), python("tests")))


def test_names_and_routes_use_our_words():
    none(broken(rules.foreign_words, python("app")))


def test_modules_are_called_by_what_they_hold():
    found = [f"{name}: {finding}" for name in python("app", "engines") for finding in rules.foreign_module(name)]
    none(found)


def test_nothing_in_the_service_is_started_without_being_awaited_or_holds_the_loop():
    none(broken(rules.unstructured, python("app")))


def test_no_test_is_left_out():
    none(broken(rules.evasions, python("tests")))


@pytest.mark.parametrize("rule", [rules.addresses, rules.machine_paths, rules.later])
def test_no_tracked_file_names_a_registry_or_a_machine_or_puts_something_off(rule):
    none(broken(rule, list(tracked())))


def test_no_code_or_page_names_a_scratch_file():
    none(broken(rules.scratch_paths, [name for name in tracked() if name.endswith((".py", ".md", ".sh", "Makefile"))]))


def test_lock_files_have_exact_versions_with_hashes_and_no_addresses():
    locks = [name for name in tracked() if name.endswith(".lock")]
    assert {"requirements.lock", "requirements-dev.lock"} <= set(locks)
    none(broken(rules.lock_addresses, locks))
    assert all("--hash=sha256:" in (text(name) or "") for name in locks)


# --- the rules bite --------------------------------------------------------------------------------------------------

LONG = "def f():\n" + "    pass\n" * rules.LONGEST_FUNCTION
PLANTED: list[tuple[Rule, str]] = [
    (rules.long_functions, LONG),
    (rules.long_functions, LONG.replace("def", "async def")),
    (rules.crowded_functions, "def f(a, b, c, d, e, g): ..."),
    (rules.crowded_functions, "class C:\n    async def f(self, a, b, /, c, d, e, g): ..."),
    (lambda source: rules.long_file(source, 2), "a\nb\nc\n"),
    (rules.foreign_words, "class SyncJob: ..."),
    (rules.foreign_words, "def run_tasks(): ..."),
    (rules.foreign_words, "def f(collection): ..."),
    (rules.foreign_words, "current_job = 1"),
    (rules.foreign_words, "self.task = 1"),
    (rules.foreign_words, "router.get('/jobs/{id}')"),
    (rules.foreign_module, "app/core/runs.py"),
    (rules.foreign_module, "app/utils.py"),
    (rules.unstructured, "import asyncio\nasyncio.create_task(f())"),
    (rules.unstructured, "loop.create_task(f())"),
    (rules.unstructured, "asyncio.gather(f(), g())"),
    (rules.unstructured, "queue = asyncio.Queue()"),
    (rules.unstructured, "from asyncio import Queue"),
    (rules.unstructured, "import time\ntime.sleep(1)"),
    (rules.unstructured, "from time import sleep"),
    (rules.evasions, "pytest." + "skip('later')"),
    (rules.evasions, "@pytest.mark." + "xfail\ndef test_x(): ..."),
    (rules.evasions, "@pytest.mark." + "skipif(True)\ndef test_x(): ..."),
    (rules.evasions, "numpy = pytest." + "importorskip('numpy')"),
    (rules.evasions, "from pytest import skip"),
    *((rules.addresses, f"fetch from {host}") for host in rules.HOSTS),
    (rules.machine_paths, "see /ro" + "ot/notes"),
    (rules.machine_paths, "data = '/ho" + "me/somebody/data'"),
    (rules.scratch_paths, "open('/tm" + "p/x')"),
    (rules.later, "# TO" + "DO: think"),
    (rules.later, "// FIX" + "ME"),
    (rules.lock_addresses, "--index-" + "url x"),
    (rules.lock_addresses, "name @ file:" + "//x"),
]


@pytest.mark.parametrize(("rule", "example"), PLANTED)
def test_a_planted_violation_turns_red(rule, example):
    assert len(rule(example)) == 1


INNOCENT: list[tuple[Rule, str]] = [
    (rules.long_functions, LONG.removesuffix("    pass\n")),
    (rules.crowded_functions, "def f(self, a, b, c, d, e, *, g, h): ..."),
    (rules.crowded_functions, "def f(a, b, c, d, e, g: Annotated[int, Query()]): ..."),
    (rules.foreign_words, "from collections.abc import Mapping\nasync with create_task_group() as task_group: ..."),
    (rules.foreign_words, "answer['task']; get('/_tasks/{id}')"),
    (rules.foreign_module, "app/switches.py"),
    (rules.unstructured, "await anyio.sleep(1)\nqueue.Queue()"),
    (rules.evasions, "rows.skip(3)"),
    (rules.lock_addresses, "anyio==4.9.0 ; python_version >= '3.11'"),
    (rules.later, "a todo list"),
]


@pytest.mark.parametrize(("rule", "example"), INNOCENT)
def test_what_is_allowed_stays_green(rule, example):
    assert rule(example) == []
