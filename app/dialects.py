"""What differs between SQLite and Postgres: URLs, connections, the beginning of a transaction, the clock, failures."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any
from weakref import WeakSet

import aiosqlite
import anyio
import orjson
from asyncpg import PostgresError  # raised bare while connecting
from sqlalchemy import BigInteger, Table, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from app.errors import Invalid, Problem, Unavailable

BUSY_SECONDS = 10.0
"""How long one writer waits for another; also Postgres' `lock_timeout`."""

PAUSE_SECONDS = 0.05
"""Between two looks at a lock for which SQLite does not wait by itself."""


def make_engine(url: str) -> AsyncEngine:
    """The engine for *url*, with everything this module promises. Raises `Invalid(code="database_url")`."""
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    return create_async_engine(
        parsed,
        json_serializer=_dump,
        json_deserializer=orjson.loads,
        pool_pre_ping=True,
        pool_size=10,
        max_overflow=10,
        pool_timeout=BUSY_SECONDS,
        connect_args={"timeout": 10, "command_timeout": 30, "server_settings": _SERVER_SETTINGS},
    )


_SERVER_SETTINGS = {
    "application_name": "reshelve",
    "lock_timeout": str(int(BUSY_SECONDS * 1000)),
    "idle_in_transaction_session_timeout": "60000",
    "jit": "off",
}


def _parse(url: str) -> URL:
    drivers = {"sqlite": "sqlite+aiosqlite", "postgres": "postgresql+asyncpg", "postgresql": "postgresql+asyncpg"}
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise _bad_url() from None
    parsed = parsed.set(drivername=drivers.get(parsed.drivername, parsed.drivername))
    if parsed.drivername not in drivers.values() or not parsed.database or parsed.database == ":memory:":
        raise _bad_url()
    if mode := parsed.query.get("sslmode"):
        parsed = parsed.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
    return parsed


def _bad_url() -> Invalid:
    return Invalid(
        "RESHELVE_DATABASE_URL must be sqlite+aiosqlite:///FILE or postgresql+asyncpg://USER:PASSWORD@HOST/DATABASE.",
        code="database_url",
    )


def _sqlite(url: URL) -> AsyncEngine:
    threads: WeakSet[Thread] = WeakSet()

    def connect(*args: Any, **settings: Any) -> aiosqlite.Connection:
        connection = aiosqlite.connect(*args, **settings)
        connection._thread.daemon = True  # as SQLAlchemy does: a stuck statement must not hold the process
        threads.add(connection._thread)
        return connection

    engine = create_async_engine(
        url,
        json_serializer=_dump,
        json_deserializer=orjson.loads,
        pool_size=5,
        max_overflow=15,
        pool_timeout=BUSY_SECONDS,
        connect_args={"timeout": BUSY_SECONDS, "async_creator_fn": connect},
        execution_options={"reshelve_threads": threads},
    )
    event.listen(engine.sync_engine, "connect", _sqlite_connected)
    event.listen(engine.sync_engine, "begin", _sqlite_begin)
    return engine


def _sqlite_connected(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself: `_sqlite_begin` does
    connection.run_async(_pragmas)


async def _pragmas(connection: aiosqlite.Connection) -> None:
    """What every connection is set to. SQLite itself does not wait for the lock that turns a new file to WAL."""
    await connection.execute("PRAGMA synchronous=FULL")
    await connection.execute("PRAGMA foreign_keys=ON")
    for pause in (*[PAUSE_SECONDS] * round(BUSY_SECONDS / PAUSE_SECONDS), None):
        try:
            await connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if pause is None or error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
        await anyio.sleep(pause)


def _sqlite_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("reshelve_writes", False)
    connection.exec_driver_sql(f"PRAGMA query_only={'OFF' if writes else 'ON'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def wait_for_threads(engine: AsyncEngine, seconds: float) -> None:
    """Wait for the threads of SQLite's connections after `dispose`. Blocks: to be called in a thread.

    One that was cut off while it connected or read answers later, to an event loop that must still run then.
    """
    for thread in list(engine.get_execution_options().get("reshelve_threads", ())):
        thread.join(seconds)


def _dump(value: object) -> str:
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY).decode()
    except orjson.JSONEncodeError as error:
        if "surrogates" in str(error) or "64-bit" in str(error):
            raise Invalid(
                "A value holds an unpaired surrogate or a number over 64 bits.", code="invalid_text"
            ) from None
        raise


# --- the clock -------------------------------------------------------------------------------------------------------


class now_ms(FunctionElement[int]):  # noqa: N801 - read as SQL
    """The database's clock in milliseconds, as an SQL expression. It goes on while a transaction is open."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_ms, "sqlite")
def _sqlite_clock(_element: now_ms, _compiler: SQLCompiler, **_kw: Any) -> str:
    return "CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)"


@compiles(now_ms, "postgresql")
def _postgres_clock(_element: now_ms, _compiler: SQLCompiler, **_kw: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"


# --- failures --------------------------------------------------------------------------------------------------------

_PASSING = re.compile(r"08|53|57|58|40001|40P01|55P03|25P0[34]|28|3D")
"""SQLSTATEs that pass or are mended outside: connection, resources, shutdown, system, serialization, deadlock, lock
time-out, idle time-out, password, unknown database."""

_NO_TABLE = re.compile(r"no such (table|column)|has no column")


@contextmanager
def plain_failures() -> Iterator[None]:
    """Failures of the database as `Unavailable`; what a type of ours refused as it was raised; bugs as they are."""
    try:
        yield
    except StatementError as error:
        if isinstance(error.orig, Problem):
            raise error.orig from None
        raise _problem(error) or error from error
    except (PostgresError, PoolTimeout, OSError) as error:
        raise unavailable(error) from error


def unavailable(error: BaseException) -> Unavailable:
    """The database is out of reach, told by the kind of *error* only: its words may hold SQL or a password."""
    return Unavailable(
        f"The database did not answer ({type(error.__cause__ or error).__name__}): see that it runs and has room.",
        code="database_unavailable",
    )


def _problem(error: StatementError) -> Problem | None:
    state = str(getattr(error.orig, "sqlstate", None) or "")
    lite = isinstance(error, OperationalError) and not state
    if state in ("42P01", "42703") or (lite and _NO_TABLE.search(str(error.orig))):
        return Unavailable("The tables are not of this version; run: reshelve db upgrade", code="database_outdated")
    gone = isinstance(error, DBAPIError) and error.connection_invalidated
    return unavailable(error.orig or error) if gone or lite or _PASSING.match(state) else None


# --- inserting what may be there -------------------------------------------------------------------------------------


def upsert(session: AsyncSession, table: Table) -> Any:
    """An `INSERT` into *table* that takes `ON CONFLICT`; both databases spell it alike, SQLAlchemy does not."""
    assert session.bind is not None
    return (sqlite if session.bind.dialect.name == "sqlite" else postgresql).insert(table)
