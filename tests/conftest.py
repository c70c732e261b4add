"""Fixtures of all tests: real engines, a real Postgres, a real browser, each started when a test first asks for it.

A server is taken from `RESHELVE_TEST_<NAME>` when that names one, else one of the launcher's that runs already is used,
else it is started, and stopped and wiped by the last session that uses it, unless RESHELVE_KEEP_ENGINES is set. Nothing
is skipped: a server that cannot start is an error of the tests that need it.
"""

import asyncio
import os
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

import engines
from engines.programs import find_chromium

ENGINES = {
    "elasticsearch9": "elasticsearch-9",
    "elasticsearch8": "elasticsearch-8",
    "opensearch3": "opensearch-3",
    "opensearch2": "opensearch-2",
}
FOLDERS = ("unit", "contract", "soak", "e2e", "failure", "api")
MARKS = {"engine": {"engine_url", *ENGINES}, "postgres": {"postgres_url"}, "browser": {"chromium"}}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that asks for a server carries the mark that says so.

    What is fast comes first; short files come last, so that processes that share the work end together.
    """
    here = Path(__file__).parent
    for item in items:
        names = {*getattr(item, "fixturenames", ()), *_asked_by_name(item)}
        for mark, fixtures in MARKS.items():
            if names & fixtures:
                item.add_marker(mark)
    items.sort(key=lambda item: _rank(item.path.relative_to(here).parts[0]))


def _asked_by_name(item: pytest.Item) -> set[str]:
    """Servers that a parameter names."""
    callspec = getattr(item, "callspec", None)
    return {value for value in callspec.params.values() if isinstance(value, str)} if callspec else set()


def _rank(folder: str) -> int:
    return FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


# --- engines ---------------------------------------------------------------------------------------------------------


def _served(name: str) -> Iterator[str]:
    named = os.environ.get("RESHELVE_TEST_" + name.upper().replace("-", "_"))
    if named:
        yield named.rstrip("/")
        return
    with engines.shared(name, keep=bool(os.environ.get("RESHELVE_KEEP_ENGINES"))) as server:
        yield server.url


@pytest.fixture(scope="session")
def elasticsearch9() -> Iterator[str]:
    yield from _served("elasticsearch-9")


@pytest.fixture(scope="session")
def elasticsearch8() -> Iterator[str]:
    yield from _served("elasticsearch-8")


@pytest.fixture(scope="session")
def opensearch3() -> Iterator[str]:
    yield from _served("opensearch-3")


@pytest.fixture(scope="session")
def opensearch2() -> Iterator[str]:
    yield from _served("opensearch-2")


@pytest.fixture(scope="session", params=[pytest.param(name, marks=pytest.mark.engine) for name in ENGINES])
def engine_url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(request.param)


def _engines(*, now: str, later: str) -> list[Any]:
    """Engines as parameters: those that every run asks, then those of the long suites."""
    long = [pytest.param(name, marks=[pytest.mark.engine, pytest.mark.long]) for name in later.split()]
    return [*(pytest.param(name, marks=pytest.mark.engine) for name in now.split()), *long]


@pytest.fixture(scope="session", params=_engines(now="elasticsearch9 opensearch3", later="elasticsearch8 opensearch2"))
def newer_engine_url(request: pytest.FixtureRequest) -> str:
    """The newer engine of each product; the older ones, which differ in what other tests cover, in the long suites."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture(scope="session", params=_engines(now="elasticsearch9", later="opensearch3 elasticsearch8 opensearch2"))
def each_engine_url(request: pytest.FixtureRequest) -> str:
    """For what builds on the contract that every engine keeps in every run: the others are for the long suites."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture(scope="session", params=_engines(now="elasticsearch9", later="opensearch3"))
def any_engine_url(request: pytest.FixtureRequest) -> str:
    """For what is a matter of rules, processes and databases: the second engine is for the long suites."""
    return str(request.getfixturevalue(request.param))


# --- databases -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A server in which we may create databases, as `postgresql://user@host:port/name`."""
    for url in _served("postgres"):
        yield url.replace("postgresql+asyncpg://", "postgresql://")


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A fresh, empty database that is gone after the test."""
    name = f"test_{uuid4().hex}"
    _execute(postgres_server, f'CREATE DATABASE "{name}" TEMPLATE template0')
    yield postgres_server.replace("postgresql://", "postgresql+asyncpg://").rpartition("/")[0] + f"/{name}"
    _execute(postgres_server, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/reshelve.db"
    return request.getfixturevalue("postgres_url")


def _execute(server: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(server)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    _apart(run())


def _apart(work: Coroutine[None, None, None]) -> None:
    """Run it in a thread with a loop of its own: the one that asks may be running in a loop already."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


# --- browser ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def chromium() -> str:
    return str(find_chromium())
