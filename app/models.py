"""The tables. All schema changes go through `alembic/`; times are UTC, clocks of leases are the database's own."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy import Text as SqlText
from sqlmodel import Field, SQLModel

from app.errors import Invalid

SQLModel.metadata.naming_convention = {
    "pk": "pk_%(table_name)s",
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
}
"""Every constraint has a name, so that a migration can name it on both databases."""

ACTIVE = text("state IN ('queued', 'running')")
"""The condition of `uq_run_one_active`, word for word, so that both databases use that index for it."""


class Text(TypeDecorator[str]):
    """Text that both databases can hold: Postgres refuses NUL, and an unpaired surrogate cannot be encoded at all."""

    impl = SqlText
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        """Raise `Invalid` for such text, also where it is only compared with a column."""
        if value is not None and ("\x00" in value or not _encodable(value)):
            raise Invalid("A text holds a NUL or an unpaired surrogate: remove that character.", code="invalid_text")
        return value


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class Utc(TypeDecorator[datetime]):
    """An aware UTC datetime; SQLite forgets the zone, so it is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Refuse naive values: a wrong hour is worse than an error."""
        if value is not None and value.tzinfo is None:
            raise ValueError("naive datetime")
        return value.astimezone(UTC) if value else value

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Aware again."""
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


def utc_now() -> datetime:
    """The process's clock, for times that people read; never for a lease."""
    return datetime.now(UTC)


def iso(value: datetime | None) -> str | None:
    """*value* as clients read it: UTC, milliseconds, `Z`."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if value else None


class Catalogue(SQLModel, table=True):
    """What is kept in step. `number` is the last version given out, `switch_number` the n of `<alias>.switch-n`."""

    name: str = Field(sa_column=Column(Text, primary_key=True))
    tenant: str = Field(sa_type=Text)
    spec: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    engine: str = Field(sa_type=Text)
    alias: str = Field(sa_type=Text)
    held: bool = False
    held_reason: str | None = Field(None, sa_type=Text)
    paused: bool = False
    projection: bool = True
    number: int = Field(0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    epoch: int = Field(0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    switch_number: int = Field(0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    progress_seq: int = Field(0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    created_at: datetime = Field(default_factory=utc_now, sa_column=Column(Utc, nullable=False))
    updated_at: datetime = Field(default_factory=utc_now, sa_column=Column(Utc, nullable=False))

    __table_args__ = (UniqueConstraint("engine", "alias", name="uq_catalogue_engine_alias"),)


class Run(SQLModel, table=True):
    """One attempt to bring an alias up to date. `fence` and `lease_until` (ms, database clock) say who may act."""

    id: str = Field(sa_column=Column(Text, primary_key=True))
    catalogue: str = Field(sa_type=Text)
    strategy: str = Field(sa_type=Text)
    state: str = Field("queued", sa_type=Text)
    stage: str | None = Field(None, sa_type=Text)
    trigger: str = Field("api", sa_type=Text)
    reason: str | None = Field(None, sa_type=Text)
    requested_by: str = Field("anonymous", sa_type=Text)
    request_id: str | None = Field(None, sa_type=Text)
    requested_at: datetime = Field(default_factory=utc_now, sa_column=Column(Utc, nullable=False))
    started_at: datetime | None = Field(None, sa_column=Column(Utc))
    finished_at: datetime | None = Field(None, sa_column=Column(Utc))
    attempt: int = 1
    retry_of: str | None = Field(None, sa_type=Text)
    dry_run: bool = False
    generation: str | None = Field(None, sa_type=Text)
    from_generation: str | None = Field(None, sa_type=Text)
    recipe: str | None = Field(None, sa_type=Text)
    counts: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    plan: dict[str, Any] | None = Field(None, sa_column=Column(JSON(none_as_null=True)))
    verdict: dict[str, Any] | None = Field(None, sa_column=Column(JSON(none_as_null=True)))
    withheld: list[Any] | None = Field(None, sa_column=Column(JSON(none_as_null=True)))
    cost: dict[str, Any] | None = Field(None, sa_column=Column(JSON(none_as_null=True)))
    stages: list[Any] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    error: dict[str, Any] | None = Field(None, sa_column=Column(JSON(none_as_null=True)))
    cancel_requested: bool = False
    canceled_by: str | None = Field(None, sa_type=Text)
    worker: str | None = Field(None, sa_type=Text)
    fence: int = Field(0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    lease_until: int | None = Field(None, sa_column=Column(BigInteger))
    number: int | None = Field(None, sa_column=Column(BigInteger))
    switch_seen: int | None = Field(None, sa_column=Column(BigInteger))
    pit: str | None = Field(None, sa_type=Text)
    source_index: str | None = Field(None, sa_type=Text)
    source_uuid: str | None = Field(None, sa_type=Text)
    progress_seq: int = Field(0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    reject_rows: int = 0

    __table_args__ = (
        Index(
            "uq_run_one_active",
            "catalogue",
            unique=True,
            sqlite_where=ACTIVE,
            postgresql_where=ACTIVE,
        ),
        Index("ix_run_newest", "catalogue", "requested_at", "id"),
    )


class Generation(SQLModel, table=True):
    """One target index. `recipe` and `embedder` are its own, so that it can be searched when the catalogue moved on."""

    id: str = Field(sa_column=Column(Text, primary_key=True))
    catalogue: str = Field(sa_type=Text, index=True)
    engine: str = Field(sa_type=Text)
    index: str = Field(sa_type=Text)
    state: str = Field("draft", sa_type=Text)
    origin: str = Field("own", sa_type=Text)
    documents: int | None = Field(None, sa_column=Column(BigInteger))
    recipe_hash: str | None = Field(None, sa_type=Text)
    recipe: dict[str, Any] | None = Field(None, sa_column=Column(JSON(none_as_null=True)))
    embedder: dict[str, Any] | None = Field(None, sa_column=Column(JSON(none_as_null=True)))
    created_by: str | None = Field(None, sa_type=Text)
    created_at: datetime = Field(default_factory=utc_now, sa_column=Column(Utc, nullable=False))
    live_since: datetime | None = Field(None, sa_column=Column(Utc))
    retired_at: datetime | None = Field(None, sa_column=Column(Utc))
    fed: bool = False
    stale_since: datetime | None = Field(None, sa_column=Column(Utc))

    __table_args__ = (
        UniqueConstraint("engine", "index", name="uq_generation_engine_index"),
        Index(
            "uq_generation_one_live",
            "catalogue",
            unique=True,
            sqlite_where=text("state = 'live'"),
            postgresql_where=text("state = 'live'"),
        ),
    )


class Switch(SQLModel, table=True):
    """One numbered move of an alias, committed before the alias moves; `state` is open, moved or burnt."""

    catalogue: str = Field(sa_column=Column(Text, primary_key=True))
    number: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    kind: str = Field(sa_type=Text)
    state: str = Field("open", sa_type=Text)
    from_generation: str | None = Field(None, sa_type=Text)
    to_generation: str = Field(sa_type=Text)
    run: str | None = Field(None, sa_type=Text)
    requested_by: str | None = Field(None, sa_type=Text)
    opened_at: datetime = Field(default_factory=utc_now, sa_column=Column(Utc, nullable=False))
    settled_at: datetime | None = Field(None, sa_column=Column(Utc))

    __table_args__ = (
        Index(
            "uq_switch_one_open",
            "catalogue",
            unique=True,
            sqlite_where=text("state = 'open'"),
            postgresql_where=text("state = 'open'"),
        ),
    )


class Progress(SQLModel, table=True):
    """One line of a catalogue's story. `number` counts the catalogue's lines, `seq` those of the run (if any)."""

    catalogue: str = Field(sa_column=Column(Text, primary_key=True))
    number: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    run: str | None = Field(None, sa_type=Text)
    seq: int | None = Field(None, sa_column=Column(BigInteger))
    at: datetime = Field(default_factory=utc_now, sa_column=Column(Utc, nullable=False))
    kind: str = Field(sa_type=Text)
    data: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))

    __table_args__ = (UniqueConstraint("run", "seq", name="uq_progress_run_seq"),)


class RejectRow(SQLModel, table=True):
    """A product left out of a run, with its reason."""

    __tablename__ = "reject"

    id: int | None = Field(None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True))
    run: str = Field(sa_type=Text, index=True)
    product_id: str = Field(sa_type=Text)
    by: str = Field(sa_type=Text)
    code: str = Field(sa_type=Text)
    detail: str = Field(sa_type=Text)


class IdempotencyKey(SQLModel, table=True):
    """A key that a caller sent with an order, and the run it became."""

    __tablename__ = "idempotency_key"

    scope: str = Field(sa_column=Column(Text, primary_key=True))
    key: str = Field(sa_column=Column(Text, primary_key=True))
    body_hash: str = Field(sa_type=Text)
    run: str = Field(sa_type=Text)
    created_at: datetime = Field(default_factory=utc_now, sa_column=Column(Utc, nullable=False))


class AuditEntry(SQLModel, table=True):
    """Who did what administrative act, when, why."""

    __tablename__ = "audit_entry"

    id: int | None = Field(None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True))
    at: datetime = Field(default_factory=utc_now, sa_column=Column(Utc, nullable=False))
    who: str = Field(sa_type=Text)
    act: str = Field(sa_type=Text)
    catalogue: str | None = Field(None, sa_type=Text)
    subject: str | None = Field(None, sa_type=Text)
    reason: str | None = Field(None, sa_type=Text)
    detail: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
