"""Kafka topics as a Bytewax source, all partitions of a worker through one consumer.

A source partition stands for one partition number of all its topics, so topics with the same key and
the same number of partitions stay together. The stock source polls each partition by itself, which costs
about 1 ms for every one that is idle; here whoever comes round first polls for all.

Offsets are committed to the consumer group after the snapshot that holds them, for people and tools to
see the lag; recovery reads the snapshot alone.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from syncline.clock import Clock, system_clock_us
from syncline.kafka import CLIENT_LOG, MAX_RECORD_BYTES, typed
from syncline.model.errors import (
    FatalError,
    MissingResource,
    Unavailable,
)
from syncline.model.message import Message
from syncline.retrying import hold_place
from syncline.stopping import Stop

_log = structlog.get_logger()

SNAPSHOT_FORMAT = 1
ASK_AGAIN_SECONDS = 1.0
ASK_TIMEOUT_SECONDS = 0.2
METADATA_TIMEOUT_SECONDS = 3.0
"""Short, since a stop that is requested meanwhile waits for it."""
NEW_TOPIC_SECONDS = 2.0
"""How long after its creation a topic may still be unknown to the broker that is asked."""

Offsets = dict[str, int]
"""The next offset to read, by topic."""
State = dict[str, Any]


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to read: ``poll_ms`` bounds how long one idle poll holds the worker."""

    bootstrap_servers: str
    group: str
    batch_messages: int
    poll_ms: int


class Poller:
    """One consumer for all source partitions of a worker."""

    def __init__(
        self, settings: KafkaSettings, on_poll: Callable[[], None], clock: Clock, *, until_end: bool
    ) -> None:
        self._settings = settings
        self._on_poll = on_poll
        self._clock = clock
        self._at_end: set[tuple[str | None, int | None]] = set()
        self._buffers: dict[int, deque[Message]] = {}
        self._rounds: dict[int, int] = {}
        self._round = 0
        self._is_away = False
        self._ask_at = 0.0
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.bootstrap_servers,
                "group.id": settings.group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                # A change in the log is committed where it counts, in its owner's database. The relay's
                # transactions only shut out its predecessors; an aborted batch is published again.
                "isolation.level": "read_uncommitted",
                "enable.partition.eof": until_end,
                # The end of an idle partition is told when the broker has waited so long.
                "fetch.wait.max.ms": 20 if until_end else 500,
                "fetch.min.bytes": 1,
                "queued.max.messages.kbytes": 65_536,
                "message.max.bytes": MAX_RECORD_BYTES,
                "fetch.message.max.bytes": MAX_RECORD_BYTES,
                "error_cb": self._tell,
            },
            logger=CLIENT_LOG,
        )

    def _tell(self, error: KafkaError) -> None:
        _tell(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            self._is_away = True

    def add(self, partition: int, offsets: Offsets) -> None:
        self._buffers[partition] = deque()
        self._rounds[partition] = self._round
        self._consumer.incremental_assign(
            [TopicPartition(topic, partition, offset) for topic, offset in offsets.items()]
        )

    def remove(self, partition: int, topics: Sequence[str]) -> None:
        del self._buffers[partition]
        self._consumer.incremental_unassign([TopicPartition(topic, partition) for topic in topics])
        if not self._buffers:
            self._consumer.close()

    def take(self, partition: int) -> list[Message]:
        """All that is at hand for the partition; polls when it has been served since the last poll."""
        if self._rounds[partition] == self._round:
            self._poll()
        self._rounds[partition] = self._round
        buffer = self._buffers[partition]
        messages = list(buffer)
        buffer.clear()
        return messages

    def is_at_end(self, partition: int, topics: Iterable[str]) -> bool:
        """Whether the end of the log was met. Offsets cannot tell: transaction markers take some too."""
        return not self._buffers[partition] and all((topic, partition) in self._at_end for topic in topics)

    def commit(self, offsets: Offsets, partition: int) -> None:
        """Show the group's progress; losing one commit costs nothing."""
        if offsets:
            self._consumer.commit(
                offsets=[TopicPartition(topic, partition, offset) for topic, offset in offsets.items()],
                asynchronous=True,
            )

    def _poll(self) -> None:
        self._round += 1
        # Wait for the first message only: consume() with a time-out would wait for a full batch.
        first = self._consumer.poll(self._settings.poll_ms / 1000)
        if self._is_there(first):
            self._on_poll()
        if first is None:
            return
        rest = self._consumer.consume(self._settings.batch_messages - 1, timeout=0)
        received_at_us = self._clock()
        for message in (first, *rest):
            if (error := message.error()) is not None:
                self._check(error, message)
            else:
                read = as_message(message, received_at_us)
                self._buffers[read.partition].append(read)

    def _is_there(self, message: KafkaMessage | None) -> bool:
        """Whether Kafka can be read: one that is lost looks like an idle log."""
        if message is not None and message.error() is None:
            self._is_away = False
        elif self._is_away and time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + ASK_AGAIN_SECONDS
            with suppress(KafkaException):
                self._consumer.list_topics(timeout=ASK_TIMEOUT_SECONDS)
                self._is_away = False
        return not self._is_away

    def _check(self, error: KafkaError, message: KafkaMessage) -> None:
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            self._at_end.add((message.topic(), message.partition()))
            return
        doing = f"reading {message.topic()}/{message.partition()}"
        try:
            raise typed(error, doing)
        except Unavailable as passing:
            # The client reconnects by itself; until then there is nothing to read.
            _log.warning("holding the place", doing=doing, error=str(passing))


def _tell(error: KafkaError) -> None:
    _log.warning("Kafka", error=error.str())


def as_message(message: KafkaMessage, received_at_us: int) -> Message:
    """A record of Kafka, which is no error."""
    _, appended_at_ms = message.timestamp()
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    if topic is None or partition is None or offset is None:
        raise FatalError(f"Kafka's client returned a message without a position: {message!r}")
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    return Message(
        topic, partition, offset, message.key(), message.value(), tuple(headers),
        appended_at_ms * 1000, received_at_us,
    )  # fmt: skip


class _Partition(StatefulSourcePartition[Message, State]):
    def __init__(self, number: int, poller: Poller, offsets: Offsets, stop: Stop, *, until_end: bool) -> None:
        self._number = number
        self._poller = poller
        self._offsets = offsets
        self._until_end = until_end
        self._stop = stop
        self._snapshot: Offsets = {}
        poller.add(number, offsets)

    def next_batch(self) -> list[Message]:
        if self._stop.requested or self._is_at_end():
            raise StopIteration
        messages = self._poller.take(self._number)
        for message in messages:
            self._offsets[message.topic] = message.offset + 1
        return messages

    def _is_at_end(self) -> bool:
        return self._until_end and self._poller.is_at_end(self._number, self._offsets)

    def snapshot(self) -> State:
        # The epoch of the snapshot before this one is complete, or this epoch would not have begun.
        self._poller.commit(self._snapshot, self._number)
        self._snapshot = {topic: offset for topic, offset in self._offsets.items() if offset >= 0}
        return {"format": SNAPSHOT_FORMAT, "offsets": dict(self._snapshot)}

    def close(self) -> None:
        self._poller.commit(self._snapshot, self._number)
        self._poller.remove(self._number, list(self._offsets))


class KafkaSource(FixedPartitionedSource[Message, State]):
    """Reads topics from their beginning, or from where a snapshot says.

    ``until_end`` makes it end at what the log holds when it is opened, for loads and tests.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[str],
        stop: Stop,
        *,
        until_end: bool = False,
        on_poll: Callable[[], None] = lambda: None,
        clock: Clock = system_clock_us,
    ) -> None:
        self._settings = settings
        self._topics = tuple(topics)
        self._stop = stop
        self._until_end = until_end
        self._on_poll = on_poll
        self._clock = clock
        self._worker = threading.local()

    def list_parts(self) -> list[str]:
        counts = self._partition_counts
        return [f"{number:05}" for number in range(max(counts.values()))]

    def build_part(
        self, step_id: str, for_part: str, resume_state: State | None
    ) -> StatefulSourcePartition[Message, State]:
        number = int(for_part)
        counts = self._partition_counts
        offsets = {topic: OFFSET_BEGINNING for topic in self._topics if number < counts[topic]}
        if resume_state is not None:
            if resume_state["format"] != SNAPSHOT_FORMAT:
                raise FatalError(f"the snapshot of {step_id} has another format; remove the recovery folder")
            offsets.update(
                {topic: offset for topic, offset in resume_state["offsets"].items() if topic in offsets}
            )
        if not hasattr(self._worker, "poller"):
            self._worker.poller = Poller(
                self._settings, self._on_poll, self._clock, until_end=self._until_end
            )
        return _Partition(number, self._worker.poller, offsets, self._stop, until_end=self._until_end)

    @cached_property
    def _partition_counts(self) -> dict[str, int]:
        consumer = Consumer(
            {
                "bootstrap.servers": self._settings.bootstrap_servers,
                "group.id": self._settings.group,
                "error_cb": _tell,
            },
            logger=CLIENT_LOG,
        )

        def ask() -> dict[str, int]:
            try:
                topics = consumer.list_topics(timeout=METADATA_TIMEOUT_SECONDS).topics
            except KafkaException as error:
                raise typed(error.args[0], "asking Kafka about its topics") from error
            return {name: len(topics[name].partitions) for name in self._topics if name in topics}

        try:
            known = hold_place(self._stop, "asking Kafka about its topics")(ask)
            deadline = time.monotonic() + NEW_TOPIC_SECONDS
            while len(known) < len(self._topics) and time.monotonic() < deadline and not self._stop.requested:
                self._stop.wait(0.1)
                known = hold_place(self._stop, "asking Kafka about its topics")(ask)
        finally:
            consumer.close()
        missing = [topic for topic in self._topics if topic not in known]
        if missing:
            raise MissingResource(f"Kafka has no topic {', '.join(missing)}; run: syncline setup")
        return known
