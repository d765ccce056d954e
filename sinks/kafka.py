"""Step 2: appending records to Kafka, and only by the one who may.

Records are appended in Kafka transactions under a fixed ``transactional.id`` (KIP-98): whoever initialises
it last shuts out every producer before it, such as a relay that was paused and took no notice of losing its
lock. A transaction holds as many batches as the outbox says. Readers need not wait for its commit: what is
in the log is committed in its owner's database.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from functools import partial

import bytewax.operators as op
import structlog
from bytewax.dataflow import Stream, operator
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from syncline.circuit import Circuit
from syncline.clock import Clock, system_clock_us
from syncline.kafka import CLIENT_LOG, MAX_RECORD_BYTES, typed
from syncline.model import envelope
from syncline.model.errors import (
    Fenced,
    Refused,
    TransientError,
    Unavailable,
)
from syncline.model.failure import Failure
from syncline.model.message import Message, Record
from syncline.model.outbox import OutboxBatch, Publication

_log = structlog.get_logger()

TIMEOUT_SECONDS = 30
FENCE_TIMEOUT_SECONDS = 3
"""Short, since a stop that is requested meanwhile waits for it."""
_BY_KEY = -1

_PURGED = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})  # noqa: SLF001
_TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})


class KafkaTransactions:
    """Appends records as the holder of one transactional id; not thread-safe."""

    def __init__(self, bootstrap_servers: str, transactional_id: str, circuit: Circuit) -> None:
        self._circuit = circuit
        self._configuration = {
            "bootstrap.servers": bootstrap_servers,
            "transactional.id": transactional_id,
            "transaction.timeout.ms": TIMEOUT_SECONDS * 1000,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 1,
            # The partitioner of Kafka's own clients, Debezium among them: topics stay co-partitioned.
            "partitioner": "murmur2_random",
            "message.max.bytes": MAX_RECORD_BYTES,
            "queue.buffering.max.messages": 1_000_000,
            "error_cb": lambda error: _log.warning("Kafka", error=error.str()),
        }
        self._doing = f"publishing as {transactional_id}"
        self._producer: Producer | None = None
        self._is_open = False
        """Whether a transaction is."""
        self._partitions: dict[str, int] = {}

    def fence(self) -> None:
        """Shut out every earlier holder of the transactional id, and undo what it left unfinished."""
        self._producer = None
        self._is_open = False
        self._partitions.clear()
        producer = Producer(self._configuration, logger=CLIENT_LOG)
        with self._typed_errors():
            producer.init_transactions(FENCE_TIMEOUT_SECONDS)
        self._producer = producer

    def partition_count(self, topic: str) -> int:
        if topic not in self._partitions:
            with self._typed_errors():
                answer = self._held.list_topics(topic, timeout=TIMEOUT_SECONDS).topics[topic]
            if answer.error is not None:
                raise typed(answer.error, self._doing)
            self._partitions[topic] = len(answer.partitions)
        return self._partitions[topic]

    def append(self, records: Sequence[Record]) -> dict[int, Refused]:
        """Append the records to the open transaction, or to a new one, and wait until the broker has them.

        Returns, by index, those that Kafka will never take. They can be told from the others only by undoing
        the transaction: where it holds more than these records, one that is too large is ``Unavailable``.

        On ``Unavailable`` it is not known what was taken: fence before the next try.
        """
        refused: dict[int, Refused] = {}
        if not records:
            return refused
        is_shared = self._is_open
        suspects: set[int] = set()
        may_purge = False
        while True:
            candidates = [pair for pair in enumerate(records) if pair[0] not in refused]
            failed = self._append(candidates, suspects)
            if not failed:
                return refused
            too_large = {index for index, error in failed.items() if error.code() in _TOO_LARGE}
            for error in failed.values():
                # With one that is too large the client drops what it has not sent yet, and after it one
                # transaction more, by which it gets its numbering right again.
                if error.code() not in _TOO_LARGE and not (
                    error.code() in _PURGED and (too_large or may_purge)
                ):
                    raise typed(error, self._doing)
            if is_shared:
                raise Unavailable(f"{self._doing}: a record is too large, in a transaction that holds others")
            self._abort()
            for index in too_large & suspects:
                refused[index] = Refused(f"Kafka takes no record of {_size(records[index])} bytes")
            suspects |= too_large
            may_purge = bool(too_large)

    def commit(self) -> None:
        """Commit the open transaction. On ``Unavailable`` it is not known whether it was: fence."""
        with self._typed_errors():
            self._held.commit_transaction(TIMEOUT_SECONDS)
        self._is_open = False

    def _abort(self) -> None:
        with self._typed_errors():
            self._held.abort_transaction(TIMEOUT_SECONDS)
        self._is_open = False

    def _append(self, records: Sequence[tuple[int, Record]], alone: Set[int]) -> dict[int, KafkaError]:
        """Append to the transaction; return the errors by index.

        The broker refuses a request as a whole, whichever of its records is too large: those ``alone``
        get a request each.
        """
        producer = self._held
        for topic in {record.topic for _, record in records}:
            # A missing one is told at once; the client would look for it until the transaction times out.
            self.partition_count(topic)
        failed: dict[int, KafkaError] = {}

        def check(index: int, error: KafkaError | None, _message: KafkaMessage) -> None:
            if error is not None:
                failed[index] = error

        with self._typed_errors():
            if not self._is_open:
                producer.begin_transaction()
                self._is_open = True
            for index, record in records:
                if index in alone:
                    self._await_acknowledgements(producer)
                try:
                    _produce(producer, record, partial(check, index))
                except KafkaException as error:
                    failed[index] = error.args[0]
                if index in alone:
                    self._await_acknowledgements(producer)
                    if failed:
                        break
            self._await_acknowledgements(producer)
        return failed

    def _await_acknowledgements(self, producer: Producer) -> None:
        if waiting := producer.flush(TIMEOUT_SECONDS):
            raise Unavailable(f"{self._doing}: {waiting} records without an answer in {TIMEOUT_SECONDS} s")

    @contextmanager
    def _typed_errors(self) -> Iterator[None]:
        """The relay starts over by itself after each failure, so the circuit only tells of them."""
        try:
            yield
        except (KafkaException, SystemError) as error:
            failure = typed(_kafka_error(error), self._doing)
            if isinstance(failure, Unavailable):
                self._circuit.failed(failure)
            raise failure from error
        except Unavailable as error:
            self._circuit.failed(error)
            raise
        self._circuit.succeeded()

    @property
    def _held(self) -> Producer:
        if self._producer is None:
            raise Fenced(f"{self._doing}: nothing may be appended before fence()")
        return self._producer


def _kafka_error(error: KafkaException | SystemError) -> KafkaError:
    """The client raises what is fatal to it from whatever calls back next; where that is a delivery report,
    Python makes a ``SystemError`` of it."""
    cause = error if isinstance(error, KafkaException) else error.__cause__
    if not isinstance(cause, KafkaException):
        raise error
    fatal: KafkaError = cause.args[0]
    return fatal


def _produce(
    producer: Producer, record: Record, on_delivery: Callable[[KafkaError | None, KafkaMessage], None]
) -> None:
    while True:
        try:
            producer.produce(
                record.topic,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
                on_delivery=on_delivery,
                partition=_BY_KEY if record.partition is None else record.partition,
            )
        except BufferError:
            # The client's queue is full: let it send.
            producer.poll(0.1)
        else:
            return


def _size(record: Record) -> int:
    return len(record.value or b"")


class Publish:
    """Publishes batches of outboxes, each schema by its own transactions; commits where a batch says so."""

    def __init__(self, transactions: Mapping[str, KafkaTransactions], clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    def __call__(self, batch: OutboxBatch) -> Publication:
        transactions = self._transactions[batch.schema]
        try:
            watermarks = _watermarks(batch, transactions)
            refused = transactions.append([*batch.records, *watermarks])
            published_at_us = self._clock()
            if batch.commit:
                transactions.commit()
        except TransientError as error:
            return Publication(batch, error=error)
        failures = tuple(
            Failure("publish", self._as_message(batch, index), error) for index, error in refused.items()
        )
        return Publication(batch, failures, published_at_us=published_at_us)

    def _as_message(self, batch: OutboxBatch, index: int) -> Message:
        """For quarantine: the outbox stands in for the log that did not take the record."""
        record, now_us = batch.records[index], self._clock()
        return Message(
            f"{batch.schema}.outbox", 0, batch.rows[index].seq, record.key, record.value, record.headers,
            now_us, now_us,
        )  # fmt: skip


def _watermarks(batch: OutboxBatch, transactions: KafkaTransactions) -> list[Record]:
    if batch.watermark_us is None:
        return []
    headers = (
        (envelope.WATERMARK_US, str(batch.watermark_us).encode()),
        (envelope.TENURE, str(batch.tenure).encode()),
    )
    return [
        Record(topic, None, None, headers, partition)
        for topic in batch.topics
        for partition in range(transactions.partition_count(topic))
    ]


@operator
def publish(
    step_id: str,
    up: Stream[OutboxBatch],
    transactions: Mapping[str, KafkaTransactions],
    clock: Clock = system_clock_us,
) -> Stream[Publication]:
    """Publish each batch, and tell what became of it. Stays in the worker that read the batch."""
    return op.map("map", up, Publish(transactions, clock))
