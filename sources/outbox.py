"""Step 1: the outbox of a service, as a queue.

Every visible row is read in the order of ``seq``, published, and then removed: there is no cursor that a
late commit could slip under. Row locks make ``seq`` the commit order of each entity. Whoever holds the
schema's advisory lock is its relay; the lock lives on the connection that reads and removes, so a relay
that lost it can do neither. Each time the lock is won a new tenure begins, and the log is fenced against
the tenures before it.

A read also yields a watermark when it drained the outbox: all that was committed before the read began
is now published (but for commits that PostgreSQL was just then making visible, a matter of the
milliseconds that flushing takes).
"""

import math
import select
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import psycopg
import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from psycopg import sql

from syncline.model import envelope
from syncline.model.errors import TransientError, Unavailable
from syncline.model.message import Record
from syncline.model.outbox import OutboxBatch, OutboxRow, Publication
from syncline.postgres import Connection, connect, raise_typed
from syncline.stopping import Stop

_log = structlog.get_logger()

LOCK_CLASS = 0x53594E43
"""First key of the advisory lock ("SYNC" in ASCII); the second is the hash of the schema's name."""


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    """``poll_interval`` is the safety net under NOTIFY. ``batch_interval`` keeps reads of an outbox that has
    no backlog apart: each batch is a Kafka transaction, which costs the same whatever its size."""

    topic_prefix: str
    generation: int
    batch_rows: int
    batch_interval: timedelta
    poll_interval: timedelta
    watermark_interval: timedelta


_READ = """
WITH here AS MATERIALIZED (
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS floor,
           (extract(epoch FROM statement_timestamp()) * 1000000)::bigint AS started_at_us,
           (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS read_at_us
), row AS MATERIALIZED (
    SELECT seq, id::text, aggregatetype, aggregateid, type, convert_to(payload::text, 'UTF8'),
           (extract(epoch FROM {commit_time}) * 1000000)::bigint,
           (extract(epoch FROM occurred_at) * 1000000)::bigint
    FROM {outbox} WHERE {which} LIMIT %(limit)s
)
SELECT here.floor, here.started_at_us, here.read_at_us,
       CASE WHEN (SELECT count(*) FROM row) = %(limit)s THEN (SELECT max(seq) FROM {outbox}) END,
       row.*
FROM here LEFT JOIN row ON true
ORDER BY row.seq
"""
_COMMIT_TIME = "pg_xact_commit_timestamp(transaction_id::xid)"
_FROM_THE_START = "transaction_id >= %(floor)s::text::xid8 ORDER BY seq + 0"
"""By the index on transactions; the sum keeps the planner from walking dead rows in the order of ``seq``."""
_WITHIN_A_ROUND = "seq > %(after)s AND seq <= %(newest)s ORDER BY seq"
_REMOVE = "DELETE FROM {outbox} WHERE id = ANY(%b::text[]::uuid[])"


class _Statements(NamedTuple):
    read_from_the_start: bytes
    read_within_a_round: bytes
    remove: bytes

    @classmethod
    def of(cls, schema: str, *, has_commit_times: bool) -> "_Statements":
        names = {
            "outbox": sql.Identifier(schema, "outbox"),
            "commit_time": sql.SQL(_COMMIT_TIME if has_commit_times else "NULL"),
        }
        return cls(
            *(
                sql.SQL(text).format(**names).as_bytes(None)
                for text in (
                    _READ.replace("{which}", _FROM_THE_START),
                    _READ.replace("{which}", _WITHIN_A_ROUND),
                    _REMOVE,
                )
            )
        )


class _Round(NamedTuple):
    """A read that did not fit in one batch, and how far it has come.

    Reading on behind ``after`` saves sorting the whole outbox for each batch, and must stop at the newest
    row that the round's first read saw: a row that becomes visible late may have a lower ``seq``, and a
    later change of its entity, drawn when it had committed, has a higher one than ``newest``.
    """

    after: int
    newest: int


class Outbox:
    """One schema's outbox. All calls come from one worker's thread.

    ``fence`` is called after the lock is won and before the first read: a relay that was paused in
    between can then no longer publish.
    """

    def __init__(
        self,
        schema: str,
        dsn: str,
        topics: tuple[str, ...],
        settings: OutboxSettings,
        fence: Callable[[], None],
    ) -> None:
        self.schema = schema
        self.in_flight = False
        self.is_well = True
        """Whether the last thing that was tried worked; standing by is well too."""
        self._dsn = dsn
        self._topics = topics
        self._settings = settings
        self._fence = fence
        self._connection: Connection | None = None
        self._tenure: int | None = None
        self._statements = _Statements.of(schema, has_commit_times=False)
        self._floor = "0"
        self._round: _Round | None = None
        self._has_news = True
        self._next_poll = 0.0
        self._not_before = 0.0
        self._next_watermark = 0.0

    @property
    def socket(self) -> int | None:
        """What becomes readable when there is news; ``None`` while standing by, and once there is."""
        if self._connection is None or self._tenure is None or self._has_news:
            return None
        return self._connection.fileno()

    def tell_news(self) -> None:
        self._has_news = True

    @property
    def due_in_seconds(self) -> float:
        """Until the next read; infinite while what was read is not settled."""
        if self.in_flight:
            return math.inf
        due = self._not_before if self._has_news else max(self._not_before, self._next_poll)
        return max(0.0, due - time.monotonic())

    def read(self) -> OutboxBatch | None:
        """The next rows, or ``None`` when there are none, or another relay holds the lock.

        Loses the lock and the place on an error that may pass; the next read starts over.
        """
        try:
            batch = self._read()
        except (psycopg.Error, TransientError) as error:
            self._let_go(error)
            return None
        self.is_well = True
        return batch

    def _read(self) -> OutboxBatch | None:
        now = time.monotonic()
        self._has_news = False
        self._next_poll = now + self._settings.poll_interval.total_seconds()
        self._not_before = now + self._settings.batch_interval.total_seconds()
        connection = self._connection or self._connect()
        tenure = self._tenure or self._win_lock(connection)
        if tenure is None:
            return None
        limit = self._settings.batch_rows
        statement, where = (
            (self._statements.read_from_the_start, {"floor": self._floor})
            if self._round is None
            else (self._statements.read_within_a_round, self._round._asdict())
        )
        found = connection.execute(statement, {**where, "limit": limit}, prepare=True, binary=True).fetchall()
        floor, started_at_us, read_at_us, newest = found[0][:4]
        rows = [OutboxRow(*row[4:]) for row in found if row[4] is not None]
        is_drained = self._round is None and len(rows) < limit
        if is_drained:
            self._floor = floor
        else:
            self._has_news = True
            self._not_before = 0.0
            newest = newest if self._round is None else self._round.newest
            self._round = _Round(rows[-1].seq, newest) if len(rows) == limit else None
        watermark_us = self._watermark(started_at_us) if is_drained else None
        if not rows and watermark_us is None:
            return None
        self.in_flight = True
        return self._batch(rows, tenure, read_at_us, watermark_us)

    def _watermark(self, started_at_us: int) -> int | None:
        now = time.monotonic()
        if now < self._next_watermark:
            return None
        self._next_watermark = now + self._settings.watermark_interval.total_seconds()
        return started_at_us

    def _batch(
        self, rows: list[OutboxRow], tenure: int, read_at_us: int, watermark_us: int | None
    ) -> OutboxBatch:
        generation = str(self._settings.generation).encode()
        detected = str(read_at_us).encode()
        records = tuple(
            Record(
                topic=f"{self._settings.topic_prefix}.{self.schema}.{row.aggregatetype}",
                key=row.aggregateid.encode(),
                value=row.payload,
                headers=(
                    (envelope.EVENT_ID, row.id.encode()),
                    (envelope.EVENT_TYPE, row.type.encode()),
                    (envelope.COMMITTED_AT_US, str(row.committed_at_us or row.occurred_at_us).encode()),
                    (envelope.COMMIT_TIME_IS_ESTIMATED, b"0" if row.committed_at_us else b"1"),
                    (envelope.DETECTED_AT_US, detected),
                    (envelope.GENERATION, generation),
                    (envelope.SEQUENCE, str(row.seq).encode()),
                    (envelope.TENURE, str(tenure).encode()),
                ),
            )
            for row in rows
        )
        return OutboxBatch(
            schema=self.schema,
            tenure=tenure,
            rows=tuple(rows),
            records=records,
            read_at_us=read_at_us,
            watermark_us=watermark_us,
            topics=self._topics,
        )

    def settle(self, publication: Publication) -> None:
        """Take published rows out of the queue; what fails is published again by the next tenure."""
        batch = publication.batch
        self.in_flight = False
        if publication.error is not None:
            self._let_go(publication.error)
            return
        if self._connection is None or batch.tenure != self._tenure or not batch.rows:
            return
        try:
            self._connection.execute(self._statements.remove, ([row.id for row in batch.rows],), prepare=True)
        except psycopg.Error as error:
            self._let_go(error)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._tenure = None

    def _connect(self) -> Connection:
        connection = connect(self._dsn, application_name=f"syncline-relay-{self.schema}")
        # A removal that a crash of the server undoes is only published once more.
        connection.execute("SET synchronous_commit = off")
        # The statistics of a queue tell nothing of its next moment: plan for any values, by index.
        connection.execute("SET plan_cache_mode = force_generic_plan")
        # The driver hands on what LISTEN brings by this; the wait goes by the socket alone.
        connection.add_notify_handler(lambda _notification: None)
        self._connection = connection
        return connection

    def _win_lock(self, connection: Connection) -> int | None:
        won = connection.execute(
            # The number of a transaction, since it only ever grows; none is taken while standing by.
            "SELECT CASE WHEN pg_try_advisory_lock(%s, hashtext(%s)) "
            "THEN pg_current_xact_id()::text::bigint END",
            (LOCK_CLASS, self.schema),
        ).fetchone()
        if won is None or won[0] is None:
            return None
        self._fence()
        # Before the first read: news between the two would be missed.
        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(f"syncline_outbox_{self.schema}")))
        self._tenure = int(won[0])
        self._floor = "0"
        self._round = None
        tracked = connection.execute("SHOW track_commit_timestamp").fetchone()
        self._statements = _Statements.of(self.schema, has_commit_times=tracked == ("on",))
        _log.info("the outbox is ours", schema=self.schema, tenure=self._tenure)
        return self._tenure

    def _let_go(self, error: Exception) -> None:
        self.close()
        self.in_flight = False
        self.is_well = False
        self._has_news = False
        self._next_poll = time.monotonic() + self._settings.poll_interval.total_seconds()
        if isinstance(error, psycopg.Error):
            try:
                raise_typed(error, f"reading the outbox of {self.schema}")
            except Unavailable as passing:
                error = passing
        _log.warning("holding the place", doing=f"reading the outbox of {self.schema}", error=str(error))


class _Waiter:
    """Waits for news of all outboxes of a worker at once, when each has been asked since the last wait."""

    def __init__(self, idle_wait: timedelta) -> None:
        self._idle_wait_seconds = idle_wait.total_seconds()
        self._asked: set[str] = set()

    def before_asking(self, schema: str, outboxes: Mapping[str, Outbox]) -> None:
        if schema not in self._asked:
            self._asked.add(schema)
            return
        self._asked = {schema}
        due_in_seconds = min(outbox.due_in_seconds for outbox in outboxes.values())
        if due_in_seconds == 0 or any(outbox.in_flight for outbox in outboxes.values()):
            return
        sockets = {outbox.socket: outbox for outbox in outboxes.values() if outbox.socket is not None}
        readable, _, _ = select.select(list(sockets), [], [], min(due_in_seconds, self._idle_wait_seconds))
        for socket in readable:
            sockets[socket].tell_news()


class _Partition(StatefulSourcePartition[OutboxBatch, None]):
    def __init__(
        self,
        outbox: Outbox,
        outboxes: Mapping[str, Outbox],
        waiter: _Waiter,
        stop: Stop,
        on_poll: Callable[[], None],
    ) -> None:
        self._outbox = outbox
        self._outboxes = outboxes
        self._waiter = waiter
        self._stop = stop
        self._on_poll = on_poll

    def next_batch(self) -> list[OutboxBatch]:
        if all(outbox.is_well for outbox in self._outboxes.values()):
            self._on_poll()
        if self._stop.requested and not self._outbox.in_flight:
            raise StopIteration
        self._waiter.before_asking(self._outbox.schema, self._outboxes)
        if self._outbox.due_in_seconds > 0 or self._stop.requested:
            return []
        batch = self._outbox.read()
        return [] if batch is None else [batch]

    def snapshot(self) -> None:
        return None

    def close(self) -> None:
        self._outbox.close()


class OutboxSource(FixedPartitionedSource[OutboxBatch, None]):
    """The outboxes of several schemas; each is a partition, and holds nothing but a lock."""

    def __init__(
        self,
        outboxes: Mapping[str, Outbox],
        idle_wait: timedelta,
        stop: Stop,
        on_poll: Callable[[], None] = lambda: None,
    ) -> None:
        self._outboxes = outboxes
        self._on_poll = on_poll
        self._stop = stop
        self._idle_wait = idle_wait
        self._workers = threading.local()

    def list_parts(self) -> list[str]:
        return list(self._outboxes)

    def build_part(
        self, step_id: str, for_part: str, resume_state: None
    ) -> StatefulSourcePartition[OutboxBatch, None]:
        if not hasattr(self._workers, "outboxes"):
            self._workers.outboxes = {}
            self._workers.waiter = _Waiter(self._idle_wait)
        self._workers.outboxes[for_part] = self._outboxes[for_part]
        return _Partition(
            self._outboxes[for_part], self._workers.outboxes, self._workers.waiter, self._stop, self._on_poll
        )


class OutboxRemoval(DynamicSink[Publication]):
    """Removes what was published. Runs in the worker that read it: nothing between may re-key."""

    def __init__(self, outboxes: Mapping[str, Outbox]) -> None:
        self._outboxes = outboxes

    def build(
        self, step_id: str, worker_index: int, worker_count: int
    ) -> StatelessSinkPartition[Publication]:
        return _Removal(self._outboxes)


class _Removal(StatelessSinkPartition[Publication]):
    def __init__(self, outboxes: Mapping[str, Outbox]) -> None:
        self._outboxes = outboxes

    def write_batch(self, items: list[Publication]) -> None:
        for publication in items:
            self._outboxes[publication.batch.schema].settle(publication)
