"""The first schema: a table for each kind of record, the cluster's row, and the marks of its epochs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the tables."""
    for name in ("jobs", "specs", "allocations", "members", "agents", "tokens", "settings"):
        op.create_table(
            name,
            sa.Column("key", sa.Text, primary_key=True),
            sa.Column("body", sa.LargeBinary),
        )
    op.create_table(
        "cluster",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("restored", sa.Boolean, nullable=False),
    )
    op.create_table(
        "epochs",
        sa.Column("epoch", sa.Integer, primary_key=True),
        sa.Column("mark", sa.Text, nullable=False),
        sa.Column("first_generation", sa.Integer, nullable=False),
    )
