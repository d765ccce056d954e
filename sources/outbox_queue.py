"""The outbox of a service, as a queue.

Every visible row is read in the order of ``seq``, published, and then removed: there is no cursor that a
late commit could slip under. Row locks make ``seq`` the commit order of each entity. Whoever holds the
schema's advisory lock is its relay; the lock lives on the connection that reads and removes, so a relay
that lost it can do neither. Each time the lock is won a new tenure begins, and the log is fenced against
the tenures before it.

Batches share a Kafka transaction, since each one costs the broker the same whatever its size. A row leaves
the outbox once the transaction that holds it is committed; until then it is remembered as published, and
the reads leave it out. A tenure begins carefully, with a transaction for each batch, until it has drained
the outbox: so a record that Kafka refuses, which ends the tenure where it shares a transaction, is found
and put aside by the next one.

A read also yields a watermark when it drained the outbox: all that was committed before the read began
is now published (but for commits that PostgreSQL was just then making visible, a matter of the
milliseconds that flushing takes).
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import psycopg
import structlog
from psycopg import sql

from sources import sql as sql_files
from sources.published_up_to import Published, PublishedUpTo
from syncline.circuit import Circuit
from syncline.model import envelope
from syncline.model.errors import SourceRestored, TransientError, Unavailable
from syncline.model.message import Record
from syncline.model.outbox import OutboxBatch, OutboxRow, Publication
from syncline.postgres import Connection, connect, raise_typed
from syncline.statements import statement

_log = structlog.get_logger()

LOCK_CLASS = 0x53594E43
"""First key of the advisory lock ("SYNC" in ASCII); the second is the hash of the schema's name."""


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    """``poll_interval`` is the safety net under NOTIFY. ``batch_interval`` keeps reads of an outbox that has
    no backlog apart. ``batch_rows`` also bounds what is published and waits for its commit, and
    ``commit_interval`` how long it waits."""

    topic_prefix: str
    generation: int
    batch_rows: int
    batch_interval: timedelta
    commit_interval: timedelta
    poll_interval: timedelta
    watermark_interval: timedelta


class _Statements(NamedTuple):
    lock: bytes
    read: bytes
    read_on: bytes
    remove: bytes

    @classmethod
    def of(cls, schema: str, *, has_commit_times: bool) -> "_Statements":
        outbox = sql.Identifier(schema, "outbox")
        commit_time = sql.SQL("pg_xact_commit_timestamp(transaction_id::xid)" if has_commit_times else "NULL")

        def of_schema(name: str) -> bytes:
            text = sql.SQL(statement(sql_files, name).decode())
            return text.format(outbox=outbox, commit_time=commit_time).as_bytes(None)

        return cls(
            lock=of_schema("outbox_lock"),
            read=of_schema("outbox_read"),
            read_on=of_schema("outbox_read_on"),
            remove=of_schema("outbox_remove"),
        )


class _Round(NamedTuple):
    """A read that did not fit in one batch, and how far it has come.

    Reading on behind ``after`` saves sorting the whole outbox for each batch, and must stop at the newest
    row that the round's first read saw: a row that becomes visible late may have a lower ``seq``, and a
    later change of its entity, drawn when it had committed, has a higher one than ``newest``.
    """

    after: int
    newest: int


class _Read(NamedTuple):
    """What one read found, and whether nothing more was there."""

    rows: list[OutboxRow]
    read_at_us: int
    started_at_us: int
    is_drained: bool


class Outbox:
    """One schema's outbox. All calls come from one worker's thread.

    ``topics`` go by aggregate type. ``fence`` is called after the lock is won and before the first read: a
    relay that was paused in between can then no longer publish. ``fill`` is called before each read of
    what is there, while the lock is held. ``published`` remembers how far the outbox came, where a restore of
    the database does not reach.
    """

    def __init__(
        self,
        schema: str,
        dsn: str,
        topics: Mapping[str, str],
        settings: OutboxSettings,
        circuit: Circuit,
        fence: Callable[[], None],
        published: PublishedUpTo,
        fill: Callable[[Connection], None] | None = None,
    ) -> None:
        self.schema = schema
        self.in_flight = False
        self.is_well = True
        """Whether the last thing that was tried worked; standing by is well too."""
        self._dsn = dsn
        self._topics = topics
        self._settings = settings
        self._fence = fence
        self._published_up_to = published
        self._circuit = circuit
        """Of the database; it only tells, since a tenure that failed starts over by itself."""
        self._fill = fill
        self._connection: Connection | None = None
        self._statements = _Statements.of(schema, has_commit_times=False)
        self._has_news = True
        self._next_poll = 0.0
        self._not_before = 0.0
        self._next_watermark = 0.0
        self._newest = Published(settings.generation, 0)
        self._begin_tenure(None)

    def _begin_tenure(self, tenure: int | None) -> None:
        self._tenure = tenure
        self._is_careful = True
        self._floor = "0"
        self._round: _Round | None = None
        self._published: list[int] = []
        """What was published in the open transaction, by ``seq``."""
        self._commit_due = math.inf
        """When the open transaction must be committed; infinite where there is none."""

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
        return max(0.0, min(due, self._commit_due) - time.monotonic())

    def read(self) -> OutboxBatch | None:
        """The next rows, or ``None`` when there is nothing to publish or to commit, or another relay holds
        the lock.

        Loses the lock and the place on an error that may pass; the next read starts over.
        """
        try:
            batch = self._next_batch()
        except (psycopg.Error, TransientError) as error:
            self._let_go(error)
            return None
        self.is_well = True
        self._circuit.succeeded()
        return batch

    def last_batch(self) -> OutboxBatch | None:
        """An empty batch that commits what is published, before a stop; ``None`` where nothing is."""
        if self._tenure is None or not self._published:
            return None
        return self._batch(self._tenure, [], read_at_us=0, watermark_us=None, commit=True)

    def _next_batch(self) -> OutboxBatch | None:
        now = time.monotonic()
        self._has_news = False
        self._next_poll = now + self._settings.poll_interval.total_seconds()
        self._not_before = now + self._settings.batch_interval.total_seconds()
        connection = self._connection or self._connect()
        tenure = self._tenure or self._win_lock(connection)
        if tenure is None:
            return None
        if self._round is None:
            if self._fill is not None:
                self._fill(connection)
            found = self._read(connection)
        else:
            found = self._read_on(connection, self._round)
        watermark_us = None
        if found.is_drained:
            watermark_us = self._watermark(found.started_at_us)
        else:
            self._has_news = True
            self._not_before = 0.0
        if found.rows:
            self._commit_due = min(self._commit_due, now + self._settings.commit_interval.total_seconds())
        commit = self._is_commit_due(found, watermark_us, now)
        if found.is_drained:
            self._is_careful = False
        if not found.rows and not commit:
            return None
        return self._batch(tenure, found.rows, found.read_at_us, watermark_us, commit=commit)

    def _read(self, connection: Connection) -> _Read:
        """Read all rows that are visible and not published, as far as they fit in one batch."""
        limit = self._settings.batch_rows
        found = connection.execute(
            self._statements.read,
            {"floor": self._floor, "published": _array(self._published), "limit": limit},
            prepare=True,
            binary=True,
        ).fetchall()
        floor, started_at_us, read_at_us, newest = found[0][:4]
        rows = [OutboxRow(*row[4:]) for row in found if row[4] is not None]
        is_drained = len(rows) < limit
        if is_drained:
            self._floor = floor
        else:
            self._round = _Round(rows[-1].seq, newest)
        return _Read(rows, read_at_us, started_at_us, is_drained)

    def _read_on(self, connection: Connection, place: _Round) -> _Read:
        """Read the next rows of a round."""
        limit = self._settings.batch_rows
        found = connection.execute(
            self._statements.read_on, {**place._asdict(), "limit": limit}, prepare=True, binary=True
        ).fetchall()
        rows = [OutboxRow(*row[1:]) for row in found]
        self._round = place._replace(after=rows[-1].seq) if len(rows) == limit else None
        return _Read(rows, read_at_us=found[0][0] if found else 0, started_at_us=0, is_drained=False)

    def _watermark(self, started_at_us: int) -> int | None:
        now = time.monotonic()
        if now < self._next_watermark:
            return None
        self._next_watermark = now + self._settings.watermark_interval.total_seconds()
        return started_at_us

    def _is_commit_due(self, found: _Read, watermark_us: int | None, now: float) -> bool:
        """Whether the transaction ends with what was found; where it would hold nothing, none is open."""
        if watermark_us is not None:
            return True  # it is for those as well who read only what is committed
        held = len(self._published) + len(found.rows)
        return held > 0 and (
            self._is_careful
            or not found.is_drained
            or held >= self._settings.batch_rows
            or now >= self._commit_due
        )

    def _batch(
        self, tenure: int, rows: list[OutboxRow], read_at_us: int, watermark_us: int | None, *, commit: bool
    ) -> OutboxBatch:
        self.in_flight = True
        return OutboxBatch(
            schema=self.schema,
            tenure=tenure,
            rows=tuple(rows),
            records=tuple(self._records(tenure, rows, read_at_us)),
            read_at_us=read_at_us,
            watermark_us=watermark_us,
            topics=tuple(self._topics.values()),
            commit=commit,
        )

    def _records(self, tenure: int, rows: list[OutboxRow], read_at_us: int) -> Iterator[Record]:
        of_all = (
            (envelope.DETECTED_AT_US, str(read_at_us).encode()),
            (envelope.GENERATION, str(self._settings.generation).encode()),
            (envelope.TENURE, str(tenure).encode()),
        )
        for row in rows:
            yield Record(
                topic=self._topics.get(row.aggregatetype)
                or f"{self._settings.topic_prefix}.{self.schema}.{row.aggregatetype}",
                key=row.aggregateid.encode(),
                value=row.payload,
                headers=(
                    (envelope.EVENT_ID, row.id.encode()),
                    (envelope.EVENT_TYPE, row.type.encode()),
                    (envelope.COMMITTED_AT_US, str(row.committed_at_us or row.occurred_at_us).encode()),
                    (envelope.COMMIT_TIME_IS_ESTIMATED, b"0" if row.committed_at_us else b"1"),
                    (envelope.SEQUENCE, str(row.seq).encode()),
                    *of_all,
                ),
            )

    def settle(self, publication: Publication) -> None:
        """Remember what was published, and take it out of the queue once it is committed; what fails is
        published again by the next tenure."""
        batch = publication.batch
        self.in_flight = False
        if publication.error is not None:
            self._let_go(publication.error)
            return
        if batch.rows:
            newest = Published(self._settings.generation, max(row.seq for row in batch.rows))
            self._newest = max(self._newest, newest)
        if batch.commit and self._newest.seq:
            self._published_up_to.note(self._newest)
        if self._connection is None or batch.tenure != self._tenure:
            return
        self._published += [row.seq for row in batch.rows]
        if batch.commit:
            self._remove_published(self._connection)

    def _remove_published(self, connection: Connection) -> None:
        self._commit_due = math.inf
        if not self._published:
            return
        try:
            connection.execute(self._statements.remove, {"published": _array(self._published)}, prepare=True)
        except psycopg.Error as error:
            self._let_go(error)
        self._published = []

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._published_up_to.close()
        self._begin_tenure(None)

    def _connect(self) -> Connection:
        try:
            connection = connect(self._dsn, application_name=f"syncline-relay-{self.schema}")
        except Unavailable as error:
            self._circuit.failed(error)
            raise
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
            self._statements.lock, {"lock_class": LOCK_CLASS, "schema": self.schema}
        ).fetchone()
        if won is None or won[0] is None:
            return None
        self._check_source(connection)
        self._fence()
        # Before the first read: news between the two would be missed.
        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(f"syncline_outbox_{self.schema}")))
        self._begin_tenure(int(won[0]))
        tracked = connection.execute("SHOW track_commit_timestamp").fetchone()
        self._statements = _Statements.of(self.schema, has_commit_times=tracked == ("on",))
        _log.info("the outbox is ours", schema=self.schema, tenure=self._tenure)
        return self._tenure

    def _check_source(self, connection: Connection) -> None:
        """Raises ``SourceRestored`` where the outbox has gone back behind what was published of it."""
        known, generation = self._published_up_to.recall(), self._settings.generation
        row = connection.execute(
            statement(sql_files, "outbox_newest"), {"outbox": f"{self.schema}.outbox"}
        ).fetchone()
        if known is None or row is None or row[0] is None or known.generation < generation:
            return
        if known.generation > generation:
            raise SourceRestored(
                f"generation is {generation}, and {self.schema} was published with {known.generation}: "
                f"all copies would take its changes for old; set generation to {known.generation}"
            )
        if row[0] < known.seq:
            raise SourceRestored(
                f"the outbox of {self.schema} has come to {row[0]}, and {known.seq} was published: the "
                "database was restored to an earlier point, and all copies would take its changes for old; "
                f"set generation to {generation + 1}, then send rows again: docs/failures.md, 'Sending rows "
                "again'"
            )
        self._newest = known

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
                self._circuit.failed(passing)
                error = passing
        _log.warning("holding the place", doing=f"reading the outbox of {self.schema}", error=str(error))


def _array(numbers: Iterable[int]) -> str:
    """As PostgreSQL reads it: for the driver each element is an object to adapt, which costs ten times as
    much."""
    return f"{{{','.join(map(str, numbers))}}}"
