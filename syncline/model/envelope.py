"""How a change travels on the log: the shape of Debezium's outbox event router.

Key: the outbox row's ``aggregateid``. Value: its ``payload``, JSON. Headers: ``id`` is the row's id, as
the router sets it; the others are what Syncline's own relay adds, and what a router adds by
``table.fields.additional.placement`` or ``InsertHeader``. All headers are text; a missing one has a
default that is correct, if less telling.
"""

EVENT_ID = "id"
EVENT_TYPE = "eventType"
"""``created``, ``updated`` or ``deleted``."""
COMMITTED_AT_US = "committedAt"
"""Microseconds since the epoch, by the source database's clock."""
COMMIT_TIME_IS_ESTIMATED = "committedAtEstimated"
"""``1`` where the database keeps no commit times and the row's own time stands in."""
DETECTED_AT_US = "detectedAt"
"""When the relay read the row, by the source database's clock."""
GENERATION = "generation"
SEQUENCE = "seq"
"""The row's place in its outbox."""
TENURE = "tenure"
"""Which holder of the outbox's lock published this; repeats occur only where it changes."""
WATERMARK_US = "watermark"
"""Its presence makes the message a watermark and no change."""

CREATED = "created"
