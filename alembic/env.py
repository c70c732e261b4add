"""Runs migrations on the database of the settings, or on the connection it was given (`app.schema`)."""

from typing import Literal

import anyio
from sqlalchemy import TypeDecorator, text
from sqlalchemy.engine import Connection
from sqlmodel import SQLModel

import app.models  # noqa: F401 - the tables register themselves
from alembic import context
from app.config import load_settings
from app.dialects import make_engine

MIGRATION_LOCK = 7_351_823_310
"""Any number, the same in every process: Postgres lets one migrate at a time."""


def render(kind: str, item: object, _autogen: object) -> str | Literal[False]:
    """Types of ours appear in a migration as what they are in the database: a migration outlives their code."""
    return f"sa.{item.impl!r}" if kind == "type" and isinstance(item, TypeDecorator) else False


def migrate(connection: Connection) -> None:
    """Everything in one transaction, that of *connection*; batch mode because SQLite alters by copying a table."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        compare_type=True,
        compare_server_default=True,
        render_item=render,
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def migrate_settings_database() -> None:
    """What the `alembic` command does."""
    engine = make_engine(load_settings().database_url.get_secret_value()).execution_options(reshelve_writes=True)
    async with engine.begin() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


if context.is_offline_mode():
    raise SystemExit("Offline mode (--sql) is not offered: migrations look at the database they change.")
given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    anyio.run(migrate_settings_database)
