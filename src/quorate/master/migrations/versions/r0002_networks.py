"""Allocations hold VNIs and subnets, and specs say more: no table changes, but an older master must not take over.

It would lease nothing for what runs, free nothing of it, and could not read the specs.
"""

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Records of before are read as they are: what they lack has defaults."""
