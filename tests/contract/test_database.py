"""The database as everything else relies on it: sessions, schema, durability, clock; SQLite and Postgres."""

import base64
import os
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import anyio
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel, select

from app import audit, generations, paging, schema
from app.db import Database, clock_ms, ensure_schema, heard, open_database
from app.errors import Invalid, Problem, Unavailable
from app.models import AuditEntry, Catalogue, Installation
from tests.contract.world import opened, spec

pytestmark = pytest.mark.anyio


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as made:
        yield made


def catalogue(name: str = "shop") -> Catalogue:
    declared = spec(f"{name}-live")
    return Catalogue(
        name=name, tenant="default", spec=declared.model_dump(mode="json"), engine="main", alias=declared.target.alias
    )


async def names(db: Database) -> list[str]:
    async with db.reading() as session:
        return list((await session.exec(select(Catalogue.name).order_by(Catalogue.name))).all())


# --- sessions --------------------------------------------------------------------------------------------------------


async def test_a_writing_block_that_ends_cleanly_is_committed_and_any_other_is_not(db: Database) -> None:
    async with db.writing() as session:
        session.add(catalogue("kept"))
    with suppress(ZeroDivisionError):
        async with db.writing() as session:
            session.add(catalogue("lost"))
            await session.flush()
            raise ZeroDivisionError
    with anyio.CancelScope() as scope:
        async with db.writing() as session:
            session.add(catalogue("canceled"))
            await session.flush()
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert await names(db) == ["kept"]


LONG = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) SELECT max(i) FROM n"


async def test_closing_waits_for_a_read_that_was_cut_off(tmp_path: Path) -> None:
    """Its thread answers to this event loop: one that answered to a closed loop would die with a stack."""
    before = set(threading.enumerate())
    async with opened(f"sqlite+aiosqlite:///{tmp_path}/slow.db") as slow:
        with anyio.move_on_after(0.05) as cut:
            async with slow.reading() as session:
                await session.exec(text(LONG))  # type: ignore[call-overload]
    left = [thread for thread in set(threading.enumerate()) - before if "connection_worker" in thread.name]
    assert (cut.cancelled_caught, left) == (True, [])


async def test_a_reading_block_cannot_write(db: Database) -> None:
    async with db.reading() as session:
        session.add(catalogue())
        with pytest.raises((DBAPIError, Problem)):
            await session.flush()
    assert await names(db) == []
    async with db.writing() as session:
        session.add(catalogue())
    assert await names(db) == ["shop"]


async def test_writers_that_read_first_do_not_lose_each_other_s_updates(db: Database) -> None:
    async with db.writing() as session:
        session.add(catalogue())

    async def raise_number() -> None:
        async with db.writing() as session:
            query = select(Catalogue).with_for_update()
            (await session.exec(query)).one().number += 1

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(raise_number)
    async with db.reading() as session:
        assert (await session.exec(select(Catalogue.number))).one() == 20


async def test_a_bell_rings_after_the_commit_and_not_without_one(db: Database) -> None:
    rung = db.bell.listen("x")
    with suppress(ZeroDivisionError):
        async with db.writing() as session:
            session.ring("x")
            raise ZeroDivisionError
    assert not await heard(rung, 0)
    async with db.writing() as session:
        session.ring("x")
        assert not rung.is_set()
    assert await heard(rung, 0)


@pytest.mark.parametrize("bad", ["a\x00b", "\ud800"])
async def test_text_no_database_could_hold_is_refused_also_where_it_is_only_compared(db: Database, bad: str) -> None:
    with pytest.raises(Invalid):
        async with db.writing() as session:
            await audit.record(session, bad, "act")
    with pytest.raises(Invalid):
        async with db.reading() as session:
            await audit.listed(session, catalogue=bad)


# --- schema ----------------------------------------------------------------------------------------------------------


async def test_the_schema_goes_up_and_down_and_up_again(db: Database) -> None:
    def tables(connection: Connection) -> set[str]:
        from sqlalchemy import inspect

        return set(inspect(connection).get_table_names()) - {"alembic_version"}

    async def walk(step: object) -> set[str]:
        async with db.engine.execution_options(reshelve_writes=True).begin() as connection:
            if step:
                await connection.run_sync(step)
            return await connection.run_sync(tables)

    everything = set(SQLModel.metadata.tables)
    assert await walk(None) == everything
    assert await walk(schema.downgrade) == set()
    assert await walk(schema.upgrade) == everything
    assert await db.revision() == ("0003", "0003")


async def test_the_tables_are_what_the_models_say(db: Database) -> None:
    def drift(connection: Connection) -> list[object]:
        options = {"compare_type": True, "compare_server_default": True}
        return compare_metadata(MigrationContext.configure(connection, opts=options), SQLModel.metadata)

    async with db.engine.connect() as connection:
        assert await connection.run_sync(drift) == []


async def test_an_installation_has_one_id_and_keeps_it(db: Database, database_url: str) -> None:
    async with db.reading() as session:
        mine = await generations.owner(session)
        assert len((await session.exec(select(Installation))).all()) == 1
    await db.upgrade()
    async with opened(database_url) as again, again.reading() as session:
        assert await generations.owner(session) == mine


async def test_several_processes_may_upgrade_at_once(database_url: str) -> None:
    """By the `alembic` command, which reads the settings like the service does."""
    command = [sys.executable, "-m", "alembic", "upgrade", "head"]
    environment = {**os.environ, "RESHELVE_DATABASE_URL": database_url}

    async def upgrade() -> None:
        await anyio.run_process(command, cwd=schema.SCRIPTS.parent, env=environment)

    async with anyio.create_task_group() as group:
        group.start_soon(upgrade)
        group.start_soon(upgrade)
    async with opened(database_url) as db:
        assert await db.revision() == ("0003", "0003")


async def test_a_new_sqlite_file_that_somebody_writes_to_is_waited_for(tmp_path: Path) -> None:
    """The lock that turns a file to WAL is one for which SQLite does not wait by itself."""
    file = tmp_path / "new.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE theirs (id)")
        async with anyio.create_task_group() as group:

            async def connects() -> None:
                async with opened(f"sqlite+aiosqlite:///{file}") as db:
                    await db.upgrade()

            group.start_soon(connects)
            await anyio.sleep(0.3)
            other.execute("COMMIT")


@pytest.mark.postgres
async def test_a_postgres_without_tables_is_refused_with_the_command_to_run(postgres_url: str) -> None:
    db = await open_database(postgres_url)
    try:
        with pytest.raises(Problem) as refused:
            await ensure_schema(db)
        assert (refused.value.code, "reshelve db upgrade" in refused.value.detail) == ("database_outdated", True)
        with pytest.raises(Unavailable) as late:
            async with db.reading() as session:
                await session.exec(select(Catalogue))
        assert late.value.code == "database_outdated"
    finally:
        await db.close()


async def test_a_sqlite_without_tables_is_migrated_by_itself(tmp_path: Path) -> None:
    db = await open_database(f"sqlite+aiosqlite:///{tmp_path}/new.db")
    try:
        await ensure_schema(db)
        assert await names(db) == []
    finally:
        await db.close()


async def test_a_schema_newer_than_the_code_is_left_alone(db: Database) -> None:
    async with db.writing() as session:
        await session.exec(text("UPDATE alembic_version SET version_num = '9999'"))  # type: ignore[call-overload]
    with pytest.raises(Problem) as refused:
        await ensure_schema(db)
    assert refused.value.code == "database_newer"


# --- promises --------------------------------------------------------------------------------------------------------


async def test_the_clock_is_the_database_s_and_goes_on_within_a_transaction(db: Database) -> None:
    async with db.reading() as session:
        first = await clock_ms(session)
        assert abs(first - time.time() * 1000) < 60_000
        with anyio.fail_after(5):
            while await clock_ms(session) == first:
                await anyio.lowlevel.checkpoint()


async def test_a_database_that_forgets_at_a_power_cut_is_refused(db: Database) -> None:
    await db.check_durable()
    weak = "PRAGMA synchronous=NORMAL" if db.dialect == "sqlite" else "SET synchronous_commit = off"
    from sqlalchemy import event

    @event.listens_for(db.engine.sync_engine, "begin")
    def _weaken(connection: Connection) -> None:
        if db.dialect != "sqlite":
            connection.exec_driver_sql(weak)

    if db.dialect == "sqlite":
        async with db.engine.connect() as connection:
            raw = await connection.get_raw_connection()
            await raw.driver_connection.rollback()
            await raw.driver_connection.execute(weak)
    with pytest.raises(Problem) as refused:
        await db.check_durable()
    assert refused.value.code == "not_durable"


@pytest.mark.parametrize("url", ["mysql://h/d", "sqlite://", "nonsense", "postgresql://h", "sqlite:///:memory:"])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        await open_database(url)
    assert refused.value.code == "database_url"


@pytest.mark.parametrize("url", ["postgresql://u:secret@127.0.0.1:9/d", "sqlite+aiosqlite:////no/such/folder/x.db"])
async def test_a_database_out_of_reach_is_a_transient_trouble_without_its_password(url: str) -> None:
    with pytest.raises(Unavailable) as refused:
        await open_database(url)
    assert (refused.value.code, "secret" in refused.value.detail) == ("database_unavailable", False)


# --- pages -----------------------------------------------------------------------------------------------------------


async def test_pages_join_to_the_whole_list_and_a_cursor_is_checked(db: Database) -> None:
    async with db.writing() as session:
        for number in range(7):
            await audit.record(session, "me", f"act {number}")
    seen, cursor = [], None
    while True:
        async with db.reading() as session:
            rows, cursor = await audit.listed(session, limit=3, cursor=cursor)
        seen += [row.act for row in rows]
        if cursor is None:
            break
    assert seen == [f"act {number}" for number in range(6, -1, -1)]
    for bad in (
        "x",
        "bm9wZQ",
        paging.encode(["text"]),
        base64.b64encode(b"[18446744073709551616]").decode(),
        paging.encode([1, 2]),
        "é",
    ):
        with pytest.raises(Invalid) as refused:
            async with db.reading() as session:
                await audit.listed(session, cursor=bad)
        assert refused.value.code == "cursor"
    assert audit.view(AuditEntry(id=5, who="a", act="b"))["id"] == "5"
