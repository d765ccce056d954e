"""Where a change that cannot go on waits for a person, whole and replayable: ``sync.quarantine``.

All failures of an entity are one row, which holds the newest change that failed.
"""

from hashlib import blake2b
from typing import Any

import structlog
from prometheus_client import Counter

from sinks.postgres import PostgresSink, PostgresWriter
from syncline.circuit import Circuit
from syncline.model.failure import Failure
from syncline.model.message import Message

QUARANTINED_TOTAL = Counter("syncline_quarantined", "Changes put in quarantine, by step.", ["flow", "step"])

_log = structlog.get_logger()


def quarantine(flow: str, dsn: str, circuit: Circuit) -> PostgresSink[Failure]:
    """A sink for failures of the flow."""

    def row(failure: Failure) -> dict[str, Any]:
        message, change = failure.message, failure.change
        QUARANTINED_TOTAL.labels(flow, failure.step).inc()
        _log.warning(
            "quarantined",
            flow=flow,
            step=failure.step,
            entity=None if change is None else str(change.entity),
            event_id=None if change is None else change.event_id,
            position=message.position,
            reason=str(failure.error),
        )
        return {
            "flow": flow,
            **what_failed(failure),
            **whole(message),
            "fingerprint": _fingerprint(failure),
        }

    return PostgresSink(PostgresWriter(dsn, "quarantine", f"syncline-{flow}-quarantine"), row, circuit)


def whole(message: Message) -> dict[str, Any]:
    """The columns that hold the message, as it came and where; bytes in hexadecimal."""
    return {
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "message_key": None if message.key is None else message.key.hex(),
        "message_value": None if message.value is None else message.value.hex(),
        "headers": [[name, None if value is None else value.hex()] for name, value in message.headers],
    }


def what_failed(failure: Failure) -> dict[str, Any]:
    """The columns that tell where and why, and of which change as far as it was decoded."""
    change = failure.change
    return {
        "step": failure.step,
        "error": type(failure.error).__name__,
        # PostgreSQL keeps no U+0000 in text; the raw bytes stand beside it.
        "reason": str(failure.error).replace("\0", "\\0"),
        "entity_type": None if change is None else change.entity.type,
        "entity_id": None if change is None else change.entity.id,
        "version": None if change is None else list(change.version),
    }


def _fingerprint(failure: Failure) -> str:
    """Names what failures of one row have in common: the entity, or the bytes that were never decoded."""
    message, change = failure.message, failure.change
    if change is not None:
        return blake2b(str(change.entity).encode(), digest_size=16).hexdigest()
    return blake2b(message.value or b"", key=(message.key or b"")[:64], digest_size=16).hexdigest()
