"""The outbox of events, the maintenance mode, the number under which a generation was registered."""

import sqlalchemy as sa

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("generation", sa.Column("since", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("installation", sa.Column("read_only", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("installation", sa.Column("message", sa.Text(), nullable=True))
    op.create_table(
        "event",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("catalogue", sa.Text(), nullable=False),
        sa.Column("product_id", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lives", sa.Integer(), nullable=False),
        sa.Column("merged", sa.Integer(), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("replay_count", sa.Integer(), nullable=False),
        sa.Column("reason_code", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("missing_since", sa.BigInteger(), nullable=True),
        sa.Column("done_at", sa.BigInteger(), nullable=True),
        sa.Column("number", sa.BigInteger(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_event")),
        sqlite_autoincrement=True,
    )
    for name, columns, where in INDEXES:
        condition = sa.text(where) if where else None
        unique = name.startswith("uq_")
        op.create_index(name, "event", columns, unique=unique, sqlite_where=condition, postgresql_where=condition)
    op.create_table(
        "event_key",
        sa.Column("catalogue", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("catalogue", "id", name=op.f("pk_event_key")),
    )
    op.create_index(op.f("ix_event_key_at"), "event_key", ["at"])


INDEXES = (
    ("uq_event_one_pending", ["catalogue", "product_id"], "status = 'pending'"),
    ("ix_event_due", ["catalogue", "lane", "due_at"], "status = 'pending'"),
    ("ix_event_processing", ["catalogue", "product_id"], "status = 'processing'"),
    ("ix_event_deleted", ["catalogue", "number"], "deleted"),
    ("ix_event_number", ["catalogue", "number"], None),
    ("ix_event_status", ["catalogue", "status", "seq"], None),
    ("ix_event_product", ["catalogue", "product_id", "seq"], None),
)


def downgrade() -> None:
    op.drop_table("event_key")
    op.drop_table("event")
    op.drop_column("installation", "message")
    op.drop_column("installation", "read_only")
    op.drop_column("generation", "since")
