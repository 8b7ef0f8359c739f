"""Pure decisions: queue order, gang placement, reservation, and the sentences that explain them."""

from quorate.scheduling.line import decide
from quorate.scheduling.reasons import explain, never_fits
from quorate.scheduling.types import (
    AgentView,
    Apart,
    Decisions,
    Labels,
    Placed,
    PoolPolicy,
    Request,
    Reservation,
    Running,
    View,
    labels_of,
)

__all__ = [
    "AgentView",
    "Apart",
    "Decisions",
    "Labels",
    "Placed",
    "PoolPolicy",
    "Request",
    "Reservation",
    "Running",
    "View",
    "decide",
    "explain",
    "labels_of",
    "never_fits",
]
