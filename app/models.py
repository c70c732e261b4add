"""The tables. All schema changes go through `alembic/`; times are UTC, clocks of leases are the database's own."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, UniqueConstraint, false, text
from sqlmodel import Field, SQLModel

from app.columns import Text, Utc, utc_now

SQLModel.metadata.naming_convention = {
    "pk": "pk_%(table_name)s",
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
}
"""Every constraint has a name, so that a migration can name it on both databases."""

ACTIVE = text("state IN ('queued', 'running')")
"""The condition of `uq_run_one_active`, word for word, so that both databases use that index for it."""


def _where(condition: str) -> dict[str, Any]:
    """A partial index, alike on both databases."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


class Catalogue(SQLModel, table=True):
    """What is kept in step. `number` is the last version given out, `switch_number` the n of `<alias>.switch-n`."""

    name: str = Field(sa_column=Column(Text, primary_key=True))
    tenant: str = Field(sa_type=Text)
    spec: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    engine: str = Field(sa_type=Text)
    alias: str = Field(sa_type=Text)
    held: bool = False
    held_reason: str | None = Field(default=None, sa_type=Text)
    paused: bool = False
    projection: bool = True
    number: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    epoch: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    switch_number: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    progress_seq: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    created_at: datetime = Field(default_factory=utc_now, sa_column=Column(Utc, nullable=False))
    updated_at: datetime = Field(default_factory=utc_now, sa_column=Column(Utc, nullable=False))

    __table_args__ = (UniqueConstraint("engine", "alias", name="uq_catalogue_engine_alias"),)


class Run(SQLModel, table=True):
    """One attempt to bring an alias up to date. `fence` and `lease_until` (ms, database clock) say who may act.

    `ceiling` is how many deletions the approval of another run, `approves`, lets this one make.
    """

    id: str = Field(sa_column=Column(Text, primary_key=True))
    catalogue: str = Field(sa_type=Text)
    strategy: str = Field(sa_type=Text)
    state: str = Field(default="queued", sa_type=Text)
    stage: str | None = Field(default=None, sa_type=Text)
    trigger: str = Field(default="api", sa_type=Text)
    reason: str | None = Field(default=None, sa_type=Text)
    requested_by: str = Field(default="anonymous", sa_type=Text)
    request_id: str | None = Field(default=None, sa_type=Text)
    requested_at: datetime = Field(default_factory=utc_now, sa_column=Column(Utc, nullable=False))
    started_at: datetime | None = Field(default=None, sa_column=Column(Utc))
    finished_at: datetime | None = Field(default=None, sa_column=Column(Utc))
    attempt: int = 1
    retry_of: str | None = Field(default=None, sa_type=Text)
    dry_run: bool = False
    generation: str | None = Field(default=None, sa_type=Text)
    from_generation: str | None = Field(default=None, sa_type=Text)
    recipe: str | None = Field(default=None, sa_type=Text)
    counts: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    plan: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    verdict: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    withheld: list[Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    cost: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    stages: list[Any] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    error: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    cancel_requested: bool = False
    canceled_by: str | None = Field(default=None, sa_type=Text)
    worker: str | None = Field(default=None, sa_type=Text)
    fence: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    lease_until: int | None = Field(default=None, sa_column=Column(BigInteger))
    number: int | None = Field(default=None, sa_column=Column(BigInteger))
    switch_seen: int | None = Field(default=None, sa_column=Column(BigInteger))
    pit: str | None = Field(default=None, sa_type=Text)
    source_index: str | None = Field(default=None, sa_type=Text)
    source_uuid: str | None = Field(default=None, sa_type=Text)
    progress_seq: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    reject_rows: int = 0
    ceiling: int | None = None
    approves: str | None = Field(default=None, sa_column=Column(Text, index=True))

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
    """One target index. `recipe` and `embedder` are its own, so that it can be searched when the catalogue moved on.

    One that is a clone (of the generation `cloned_from`) bears the mark of that one until it is given its own. `since`
    is the catalogue's number at its registration: an event that was claimed under a higher one knew of it.
    """

    id: str = Field(sa_column=Column(Text, primary_key=True))
    catalogue: str = Field(sa_type=Text, index=True)
    engine: str = Field(sa_type=Text)
    index: str = Field(sa_type=Text)
    state: str = Field(default="draft", sa_type=Text)
    origin: str = Field(default="own", sa_type=Text)
    documents: int | None = Field(default=None, sa_column=Column(BigInteger))
    recipe_hash: str | None = Field(default=None, sa_type=Text)
    recipe: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    embedder: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    created_by: str | None = Field(default=None, sa_type=Text)
    cloned_from: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = Field(default_factory=utc_now, sa_column=Column(Utc, nullable=False))
    live_since: datetime | None = Field(default=None, sa_column=Column(Utc))
    retired_at: datetime | None = Field(default=None, sa_column=Column(Utc))
    fed: bool = False
    stale_since: datetime | None = Field(default=None, sa_column=Column(Utc))
    since: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))

    __table_args__ = (
        UniqueConstraint("engine", "index", name="uq_generation_engine_index"),
        Index(
            "uq_generation_one_live",
            "catalogue",
            unique=True,
            **_where("state = 'live'"),
        ),
    )


class Switch(SQLModel, table=True):
    """One numbered move of an alias, committed before the alias moves; `state` is open, moved or burnt."""

    catalogue: str = Field(sa_column=Column(Text, primary_key=True))
    number: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    kind: str = Field(sa_type=Text)
    state: str = Field(default="open", sa_type=Text)
    from_generation: str | None = Field(default=None, sa_type=Text)
    to_generation: str = Field(sa_type=Text)
    run: str | None = Field(default=None, sa_type=Text)
    requested_by: str | None = Field(default=None, sa_type=Text)
    opened_at: datetime = Field(default_factory=utc_now, sa_column=Column(Utc, nullable=False))
    settled_at: datetime | None = Field(default=None, sa_column=Column(Utc))

    __table_args__ = (
        Index(
            "uq_switch_one_open",
            "catalogue",
            unique=True,
            **_where("state = 'open'"),
        ),
    )


class Progress(SQLModel, table=True):
    """One line of a catalogue's story. `number` counts the catalogue's lines, `seq` those of the run (if any)."""

    catalogue: str = Field(sa_column=Column(Text, primary_key=True))
    number: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    run: str | None = Field(default=None, sa_type=Text)
    seq: int | None = Field(default=None, sa_column=Column(BigInteger))
    at: datetime = Field(default_factory=utc_now, sa_column=Column(Utc, nullable=False))
    kind: str = Field(sa_type=Text)
    data: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))

    __table_args__ = (UniqueConstraint("run", "seq", name="uq_progress_run_seq"),)


class RejectRow(SQLModel, table=True):
    """A product left out of a run, with its reason."""

    __tablename__ = "reject"

    id: int | None = Field(
        default=None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    )
    run: str = Field(sa_type=Text, index=True)
    product_id: str = Field(sa_type=Text)
    by: str = Field(sa_type=Text)
    code: str = Field(sa_type=Text)
    detail: str = Field(sa_type=Text)

    __table_args__ = (Index("ix_reject_product", "product_id", "id"),)


class ChangeRow(SQLModel, table=True):
    """A product that a run found different: one line of the change log."""

    __tablename__ = "change"

    id: int | None = Field(
        default=None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    )
    catalogue: str = Field(sa_type=Text)
    product_id: str = Field(sa_type=Text)
    kind: str = Field(sa_type=Text)
    fields: list[Any] = Field(sa_column=Column(JSON, nullable=False))
    run: str = Field(sa_type=Text)
    at: datetime = Field(default_factory=utc_now, sa_column=Column(Utc, nullable=False))

    __table_args__ = (
        Index("ix_change_newest", "catalogue", "at", "id"),
        Index("ix_change_product", "catalogue", "product_id", "id"),
    )


class Event(SQLModel, table=True):
    """Somebody told us that a product changed: one row of the outbox; times are ms of the database's clock.

    `number` is that of the claim that has it or had it last, and its fence. A row goes back to `pending` by being
    deleted and accepted anew under its `seq`, so that at most one waits for a product.
    """

    seq: int | None = Field(
        default=None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    )
    catalogue: str = Field(sa_type=Text)
    product_id: str = Field(sa_type=Text)
    action: str = Field(sa_type=Text)
    lane: str = Field(sa_type=Text)
    status: str = Field(default="pending", sa_type=Text)
    attempts: int = Field(default=0)
    lives: int = Field(default=0)
    merged: int = Field(default=0)
    looks: int = Field(default=0)
    replay_count: int = Field(default=0)
    reason_code: str | None = Field(default=None, sa_type=Text)
    detail: str | None = Field(default=None, sa_type=Text)
    received_at: int = Field(sa_type=BigInteger)
    due_at: int = Field(sa_type=BigInteger)
    not_before: int = Field(default=0, sa_type=BigInteger)
    missing_since: int | None = Field(default=None, sa_type=BigInteger)
    done_at: int | None = Field(default=None, sa_type=BigInteger)
    number: int | None = Field(default=None, sa_type=BigInteger)
    lease_until: int | None = Field(default=None, sa_type=BigInteger)
    worker: str | None = Field(default=None, sa_type=Text)
    deleted: bool = False

    __table_args__ = (
        Index("uq_event_one_pending", "catalogue", "product_id", unique=True, **_where("status = 'pending'")),
        Index("ix_event_due", "catalogue", "lane", "due_at", **_where("status = 'pending'")),
        Index("ix_event_processing", "catalogue", "product_id", **_where("status = 'processing'")),
        Index("ix_event_deleted", "catalogue", "number", **_where("deleted")),
        Index("ix_event_number", "catalogue", "number"),
        Index("ix_event_status", "catalogue", "status", "seq"),
        Index("ix_event_product", "catalogue", "product_id", "seq"),
        {"sqlite_autoincrement": True},
    )


class EventKey(SQLModel, table=True):
    """The `id` under which somebody sent an event: a repeat is known by it."""

    __tablename__ = "event_key"

    catalogue: str = Field(sa_column=Column(Text, primary_key=True))
    id: str = Field(sa_column=Column(Text, primary_key=True))
    at: int = Field(sa_column=Column(BigInteger, nullable=False, index=True))


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

    id: int | None = Field(
        default=None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    )
    at: datetime = Field(default_factory=utc_now, sa_column=Column(Utc, nullable=False))
    who: str = Field(sa_type=Text)
    act: str = Field(sa_type=Text)
    catalogue: str | None = Field(default=None, sa_type=Text)
    subject: str | None = Field(default=None, sa_type=Text)
    reason: str | None = Field(default=None, sa_type=Text)
    detail: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class Installation(SQLModel, table=True):
    """Who we are: one row, made with the tables. Its id stands in the mark of every index this database knows of.

    `read_only`: nothing is built and nothing applied, for the reason that `message` tells.
    """

    id: str = Field(sa_column=Column(Text, primary_key=True))
    read_only: bool = Field(default=False, sa_column=Column(Boolean, nullable=False, server_default=false()))
    message: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = Field(default_factory=utc_now, sa_column=Column(Utc, nullable=False))
