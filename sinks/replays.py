"""What became of a replay, on the row of ``sync.quarantine`` that was replayed."""

from typing import Any

import structlog

from sinks.postgres import PostgresSink, PostgresWriter
from sinks.quarantine import what_failed
from syncline.circuit import Circuit
from syncline.model.reentry import ReplayEnd

_log = structlog.get_logger()


def replay_ends(flow: str, dsn: str, circuit: Circuit) -> PostgresSink[ReplayEnd]:
    """A sink for the ends of the flow's replays. Told again, they change nothing."""

    def row(end: ReplayEnd) -> dict[str, Any]:
        quarantine_id, attempt = end.replay_of
        failed = {} if end.failure is None else what_failed(end.failure)
        _log.info(
            "replay ended", flow=flow, entry=quarantine_id, state=end.state, reason=failed.get("reason")
        )
        return {"id": quarantine_id, "attempt": attempt, "state": end.state, **failed}

    return PostgresSink(PostgresWriter(dsn, "replays", f"syncline-{flow}-replays"), row, circuit)
