"""What travels through the relay: rows of an outbox, and what became of them."""

from typing import NamedTuple

from syncline.model.errors import TransientError
from syncline.model.failure import Failure
from syncline.model.message import Record


class OutboxRow(NamedTuple):
    """One row as it was read. Times are the database's, in microseconds since the epoch."""

    seq: int
    id: str
    aggregatetype: str
    aggregateid: str
    type: str
    payload: bytes
    committed_at_us: int | None
    occurred_at_us: int


class OutboxBatch(NamedTuple):
    """Rows of one outbox in the order of ``seq``, and the record to publish for each."""

    schema: str
    tenure: int
    """Which holding of the outbox's lock read them."""
    rows: tuple[OutboxRow, ...]
    records: tuple[Record, ...]
    read_at_us: int
    watermark_us: int | None
    """Set when the outbox was drained and a watermark is due."""
    topics: tuple[str, ...]
    """All topics of the outbox's service, for the watermark."""
    commit: bool
    """Whether the Kafka transaction ends with this batch: its rows, and those of the batches that shared the
    transaction, are then removed."""


class Publication(NamedTuple):
    """A batch that was published but for what the log refuses, or failed as a whole."""

    batch: OutboxBatch
    refused: tuple[Failure, ...] = ()
    error: TransientError | None = None
    published_at_us: int = 0
    """When the log had it. From then on readers see it, whenever it is committed."""
