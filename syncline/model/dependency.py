"""What a process depends on, and how it finds it."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


class DependencyState(StrEnum):
    """``degraded``: it answers, and asks for less load."""

    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"


class Dependency(NamedTuple):
    """A target as the process that asks it finds it. Times are in UTC."""

    target: str
    state: DependencyState
    since: datetime
    circuit: str
    """``closed``, ``open`` or ``half_open``."""
    holds_place: bool
    """Whether a flow holds its place in the log until the target is back."""
    last_error: str | None
