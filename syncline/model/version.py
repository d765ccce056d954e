"""The total order of the changes of one entity."""

from enum import IntEnum
from typing import NamedTuple


class OpRank(IntEnum):
    """A delete stands above the upsert that it ends: both carry the row's last version."""

    UPSERT = 0
    DELETE = 1


class Version(NamedTuple):
    """Compared element by element; never by a clock.

    ``generation`` is raised by hand when a source is restored to an earlier point, ``row`` is the row's
    own version column, and ``correction`` counts the corrections of a quarantined change: a corrected
    version 6 beats 6 and loses to 7.
    """

    generation: int
    row: int
    op_rank: int
    correction: int = 0
