"""Clones, approvals of deletions, the change log."""

import sqlalchemy as sa

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("generation", sa.Column("cloned_from", sa.Text(), nullable=True))
    op.add_column("run", sa.Column("ceiling", sa.Integer(), nullable=True))
    op.add_column("run", sa.Column("approves", sa.Text(), nullable=True))
    op.create_index(op.f("ix_run_approves"), "run", ["approves"], unique=False)
    op.create_index("ix_reject_product", "reject", ["product_id", "id"], unique=False)
    op.create_table(
        "change",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("catalogue", sa.Text(), nullable=False),
        sa.Column("product_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_change")),
    )
    op.create_index("ix_change_newest", "change", ["catalogue", "at", "id"], unique=False)
    op.create_index("ix_change_product", "change", ["catalogue", "product_id", "id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_change_product", table_name="change")
    op.drop_index("ix_change_newest", table_name="change")
    op.drop_table("change")
    op.drop_index("ix_reject_product", table_name="reject")
    op.drop_index(op.f("ix_run_approves"), table_name="run")
    op.drop_column("run", "approves")
    op.drop_column("run", "ceiling")
    op.drop_column("generation", "cloned_from")
