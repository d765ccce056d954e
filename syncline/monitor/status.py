"""How the flows are doing: what runs, how far behind it is, what went wrong, what to do next."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from syncline.model.dependency import Dependency
from syncline.model.errors import SynclineError, remedy_of
from syncline.model.steps import END_TO_END
from syncline.monitor import sql
from syncline.monitor.dependencies import Sign, as_sentence, read_signs, what_holds, worst_of_each
from syncline.monitor.freshness import read_freshness
from syncline.monitor.latency_report import read_counts, read_step_latencies
from syncline.monitor.log_lag import LogLag, log_lag
from syncline.monitor.servers import ServerAnswer, ask_servers
from syncline.policies.documents import DOCUMENTS
from syncline.policies.reading import load_policies
from syncline.policies.reentry import topics_read
from syncline.postgres import Connection, connect, raise_typed
from syncline.settings import Settings
from syncline.statements import statement

RELAY = "outbox_relay"
COPIES = tuple(DOCUMENTS)
"""Flows that keep a copy."""
NEVER_RAN = "never ran"
SIGN_OF_LIFE = timedelta(seconds=10)
"""A worker writes about every second; one that has not for so long is no longer at work."""
LAST_MINUTE = timedelta(minutes=1)

_READING = "reading the flows' status"
_OUTBOX = "SELECT count(*), extract(epoch FROM min(occurred_at)) FROM {outbox}"


@dataclass(frozen=True, slots=True)
class FlowStatus:
    """``None`` stands for what is not known, or does not exist for this flow. Times are in UTC."""

    flow: str
    state: str
    """``running``, ``stopped``, ``failed``, ``never ran``."""
    since: datetime | None
    waiting: dict[str, int | None]
    """Changes that wait for the flow, by where: an outbox, or Kafka."""
    uncounted_records: int
    """Records in Kafka beyond those that were counted; changes may be among them."""
    oldest_waiting_seconds: float | None
    freshness_seconds: float | None
    freshness_by_owner: dict[str, float | None]
    """In seconds. It grows while the flow does not get on."""
    held_by: str | None
    """For what the flow holds its place in the log: which server, since when, and what is wrong with it."""
    dependencies: list[Dependency]
    last_minute: dict[str, int]
    """Changes by decision."""
    changes_per_second: float
    latency_ms: dict[str, float | None]
    """Percentiles from commit to acknowledged write, of the last minute."""
    quarantined: int
    retrying: int
    """Changes that the store could not take for now."""
    escalated: int
    """Changes that no retry got in."""
    last_error: str | None
    last_error_at: datetime | None
    next_command: str


@dataclass(frozen=True, slots=True)
class Status:
    servers: list[ServerAnswer]
    flows: list[FlowStatus] = field(default_factory=list)

    @property
    def silent_servers(self) -> list[ServerAnswer]:
        return [server for server in self.servers if server.error is not None]


@dataclass(frozen=True, slots=True)
class _Life:
    state: str
    since: datetime | None
    last_error: str | None
    last_error_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Waiting:
    changes: dict[str, int | None]
    oldest_commit: datetime | None
    uncounted_records: int = 0


def read_status(settings: Settings) -> Status:
    """Ask the servers, then look at each flow as far as they answered."""
    servers = ask_servers(settings)
    silent = {server.name for server in servers if server.error is not None}
    if "postgres" in silent:
        return Status(servers)
    with connect(settings.postgres_dsn.get_secret_value(), "syncline-status") as connection:
        try:
            return Status(servers, _flows(connection, settings, kafka_answers="kafka" not in silent))
        except psycopg.Error as error:
            raise_typed(error, _READING)


def _flows(connection: Connection, settings: Settings, *, kafka_answers: bool) -> list[FlowStatus]:
    now = _now(connection)
    signs = {flow: read_signs(connection, flow) for flow in (RELAY, *COPIES)}
    lives = {flow: _life(connection, flow, signs[flow], now) for flow in signs}
    running = {flow for flow, life in lives.items() if life.state == "running"}
    reached = _relay_reached(connection, settings, now) if RELAY in running else {}
    flows = [_flow(connection, RELAY, lives, signs[RELAY], _waiting_in_outboxes(settings), reached, now)]
    for flow in COPIES:
        if lives[flow].state == NEVER_RAN:
            # The whole log would count as waiting for a flow that perhaps nobody wants here.
            waiting = _Waiting({}, None)
        else:
            waiting = _waiting_in_kafka(flow, settings) if kafka_answers else _Waiting({"Kafka": None}, None)
        reached = read_freshness(connection, flow, settings)
        flows.append(_flow(connection, flow, lives, signs[flow], waiting, reached, now))
    return flows


def _flow(
    connection: Connection,
    flow: str,
    lives: dict[str, _Life],
    signs: list[Sign],
    waiting: _Waiting,
    reached: dict[str, datetime | None],
    now: datetime,
) -> FlowStatus:
    life = lives[flow]
    decided = read_counts(connection, flow, now - LAST_MINUTE)
    latencies = read_step_latencies(connection, flow, now - LAST_MINUTE)
    whole = next((latency for latency in latencies if latency.step is END_TO_END), None)
    oldest = waiting.oldest_commit
    retrying, escalated = _one(connection, "retries_count", flow, (0, 0))
    freshness = {
        owner: None if as_of is None else max(0.0, (now - as_of).total_seconds())
        for owner, as_of in reached.items()
    }
    known = [seconds for seconds in freshness.values() if seconds is not None]
    dependencies = worst_of_each(sign.dependency for sign in signs) if life.state == "running" else []
    holding = what_holds(dependencies)
    return FlowStatus(
        flow=flow,
        state=life.state,
        since=life.since,
        waiting=waiting.changes,
        uncounted_records=waiting.uncounted_records,
        oldest_waiting_seconds=None if oldest is None else max(0.0, (now - oldest).total_seconds()),
        freshness_seconds=max(known) if known and len(known) == len(freshness) else None,
        freshness_by_owner=freshness,
        held_by=None if holding is None else as_sentence(holding),
        dependencies=dependencies,
        last_minute={decision: count for decision, count in decided.items() if count},
        changes_per_second=round(sum(decided.values()) / LAST_MINUTE.total_seconds(), 1),
        latency_ms={
            "p50": whole.p50_ms if whole else None,
            "p95": whole.p95_ms if whole else None,
            "p99": whole.p99_ms if whole else None,
        },
        quarantined=_one(connection, "quarantine_count", flow)[0],
        retrying=retrying,
        escalated=escalated,
        last_error=life.last_error,
        last_error_at=life.last_error_at,
        next_command="syncline config check" if holding else _next_command(flow, lives),
    )


def _now(connection: Connection) -> datetime:
    """The database's clock: it is the one that the rows were stamped by."""
    (now,) = connection.execute("SELECT clock_timestamp()").fetchone() or (datetime.now(UTC),)
    return _utc(now)


def _life(connection: Connection, flow: str, signs: list[Sign], now: datetime) -> _Life:
    """What the rows of the flow's last ten seconds of life say, and the signs of its processes: who holds a
    place confirms nothing.

    A failure ends a flow unless one of its workers writes after it, as another relay does that took over.
    """
    workers = connection.execute(statement(sql, "flow_workers"), {"flow": flow}).fetchall()
    failed_id, failed_at, error = _one(connection, "flow_failure", flow, (0, None, None))
    last_error_at = None if failed_at is None else _utc(failed_at)
    at_work = [
        began
        for state, row_id, recorded_at, _, _, began in workers
        if state == "running" and row_id > failed_id and now - recorded_at <= SIGN_OF_LIFE
    ]
    at_work += [sign.started_at for sign in signs if failed_at is None or sign.updated_at > failed_at]
    if at_work:
        return _Life("running", _utc(min(at_work)), error, last_error_at)
    if failed_at is not None and all(first_id < failed_id for _, _, _, _, first_id, _ in workers):
        return _Life("failed", last_error_at, error, last_error_at)
    if workers:
        last_seen = max(recorded_at for _, _, recorded_at, _, _, _ in workers)
        return _Life("stopped", _utc(last_seen), error, last_error_at)
    return _Life(NEVER_RAN, None, None, None)


def _relay_reached(connection: Connection, settings: Settings, now: datetime) -> dict[str, datetime | None]:
    """The time up to which each outbox is published. Whichever relay said the latest is right."""
    reached: dict[str, int] = {}
    workers = connection.execute(statement(sql, "flow_workers"), {"flow": RELAY})
    for _, _, recorded_at, watermarks, _, _ in workers:
        if now - recorded_at <= SIGN_OF_LIFE:
            for outbox, time_us in watermarks.items():
                reached[outbox] = max(time_us, reached.get(outbox, time_us))
    return {
        schema: None if reached_us is None else datetime.fromtimestamp(reached_us / 1e6, UTC)
        for schema in _outbox_dsns(settings)
        for reached_us in [reached.get(f"{schema}.outbox")]
    }


def _waiting_in_outboxes(settings: Settings) -> _Waiting:
    changes: dict[str, int | None] = {}
    oldest: list[datetime] = []
    for schema, dsn in _outbox_dsns(settings).items():
        try:
            with connect(dsn, "syncline-status") as connection:
                query = SQL(_OUTBOX).format(outbox=Identifier(schema, "outbox"))
                count, oldest_epoch = connection.execute(query).fetchone() or (0, None)
        except (SynclineError, psycopg.Error):
            # The server's own line tells why; a missing table shows as unknown here.
            changes[schema] = None
            continue
        changes[schema] = count
        if oldest_epoch is not None:
            oldest.append(datetime.fromtimestamp(float(oldest_epoch), UTC))
    return _Waiting(changes, min(oldest, default=None))


def _outbox_dsns(settings: Settings) -> dict[str, str]:
    return settings.outbox_dsns(load_policies(settings.policies_dir).owners)


def _waiting_in_kafka(flow: str, settings: Settings) -> _Waiting:
    topics = topics_read(load_policies(settings.policies_dir).flow(flow), settings.topic_prefix)
    lag: LogLag = log_lag(settings.kafka_bootstrap_servers, f"{settings.topic_prefix}-{flow}", topics)
    oldest_us = lag.oldest_commit_us
    oldest = None if oldest_us is None else datetime.fromtimestamp(oldest_us / 1e6, UTC)
    return _Waiting({"Kafka": lag.changes}, oldest, lag.uncounted_records)


def _next_command(flow: str, lives: dict[str, _Life]) -> str:
    life = lives[flow]
    if life.state == "failed":
        return f"{remedy_of(life.last_error or '')}, then: syncline run {flow}"
    copies = [copy for copy in COPIES if lives[copy].state != NEVER_RAN] or COPIES[:1]
    if flow in COPIES:
        copies = [flow]
    idle = _first_not_running((flow, RELAY, *copies), lives)
    return f"syncline run {idle}" if idle else f"syncline verify {copies[0]}"


def _first_not_running(flows: Iterable[str], lives: dict[str, _Life]) -> str | None:
    return next((flow for flow in flows if lives[flow].state != "running"), None)


def _one(connection: Connection, name: str, flow: str, default: Sequence[Any] = (0,)) -> Sequence[Any]:
    return connection.execute(statement(sql, name), {"flow": flow}).fetchone() or default


def _utc(time: datetime) -> datetime:
    return time.astimezone(UTC)
