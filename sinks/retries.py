"""Where a change waits that a store could not take for now, whole, until it comes back: ``sync.retries``.

Each change is a row of its own: if only the newest of an entity waited and were refused when it comes back,
the one before it, which could have stood, would be gone.
"""

from hashlib import blake2b
from typing import Any

import structlog
from prometheus_client import Counter

from sinks.postgres import PostgresSink, PostgresWriter
from sinks.quarantine import what_failed, whole
from syncline.circuit import Circuit
from syncline.jitter import JITTER
from syncline.kafka import LARGEST_CARRIED_BYTES
from syncline.model.failure import Failure
from syncline.model.reentry import RetryEnd, RetryState
from syncline.model.retry_schedule import wait_before_retry

RETRIES_TOTAL = Counter(
    "syncline_retries",
    "Changes that a store could not take for now, by what became of them.",
    ["flow", "state"],
)
_log = structlog.get_logger()


def postponed_changes(flow: str, dsn: str, circuit: Circuit, attempts: int) -> PostgresSink[Failure]:
    """A sink for changes that were turned back for the first time. Told again, they change nothing."""

    def row(failure: Failure) -> dict[str, Any]:
        return {
            "flow": flow,
            **what_failed(failure),
            **whole(failure.message),
            **_outlook(flow, failure, attempts, turned_back=1),
            "appended_at_us": failure.message.appended_at_us,
            "fingerprint": _fingerprint(failure),
        }

    return PostgresSink(PostgresWriter(dsn, "postponed", f"syncline-{flow}-postponed"), row, circuit)


def retry_ends(flow: str, dsn: str, circuit: Circuit, attempts: int) -> PostgresSink[RetryEnd]:
    """A sink for what became of changes that came back. Told again, it changes nothing."""

    def row(end: RetryEnd) -> dict[str, Any]:
        retry_id, attempt, turned_back = end.retry_of
        told = {"id": retry_id, "attempt": attempt}
        if end.state is RetryState.WAITING and end.failure is not None:
            failed = what_failed(end.failure)
            return {**told, **failed, **_outlook(flow, end.failure, attempts, turned_back + 1)}
        RETRIES_TOTAL.labels(flow, end.state).inc()
        _log.info("retry ended", flow=flow, entry=retry_id, state=end.state)
        return {**told, "state": end.state, "turned_back": turned_back}

    return PostgresSink(PostgresWriter(dsn, "retries", f"syncline-{flow}-retries"), row, circuit)


def _outlook(flow: str, failure: Failure, attempts: int, turned_back: int) -> dict[str, Any]:
    """The columns that say when the change comes back, or that it does not by itself any more."""
    change = failure.change
    is_too_large = len(failure.message.value or b"") > LARGEST_CARRIED_BYTES
    state = RetryState.ESCALATED if turned_back > attempts or is_too_large else RetryState.WAITING
    wait = wait_before_retry(turned_back, JITTER.random())
    RETRIES_TOTAL.labels(flow, state).inc()
    _log.warning(
        "postponed",
        flow=flow,
        entity=None if change is None else str(change.entity),
        event_id=None if change is None else change.event_id,
        state=state,
        turned_back=turned_back,
        reason=str(failure.error),
    )
    return {"state": state, "turned_back": turned_back, "wait_seconds": wait.total_seconds()}


def _fingerprint(failure: Failure) -> str:
    """Names this very change: what it says of its entity, at which version."""
    change = failure.change
    said = (
        failure.message.position
        if change is None
        else f"{change.entity} {list(change.version)} {change.content_hash}"
    )
    return blake2b(said.encode(), digest_size=16).hexdigest()
