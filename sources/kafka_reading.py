"""Reading Kafka by consumers that serve all partitions of a worker, in batches bounded in messages and bytes.

Critical topics have a consumer of their own, so that they can be read while the others are left where they
are: a partition that is paused loses what was fetched ahead.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from sys import intern
from typing import cast

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from sources.kafka_log import Place, check_place
from syncline.clock import Clock
from syncline.kafka import CLIENT_LOG, MAX_RECORD_BYTES, typed
from syncline.model.errors import FatalError, Unavailable
from syncline.model.message import Message
from syncline.room import Pace, Room

_log = structlog.get_logger()

ASK_AGAIN_SECONDS = 1.0
ASK_TIMEOUT_SECONDS = 0.2
BATCH_MAX_BYTES = 8 * 1024 * 1024
"""Of one batch, but that one message always comes whole."""
FETCHED_AHEAD_MAX_KIB = 1024
"""By each consumer, and one answer of the broker more: what waits for a store that is away waits in Kafka."""
FETCH_MAX_BYTES = 256 * 1024
"""Of one partition; a larger message comes whole all the same (KIP-74)."""
BATCH_LASTS_AT_MOST = timedelta(milliseconds=100)
"""Of normal changes so many are read as the worker is done with in this time: then critical ones are read."""
FEWEST_NORMAL = 64
"""At a time, however slow the worker is."""
_LEAST_SHARE = 8
"""So great a part of a batch is left to normal topics, however much of the critical ones there is."""

Offsets = dict[str, int]
"""The next offset to read, by topic."""


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to read: ``poll_ms`` bounds how long one idle poll holds the worker."""

    bootstrap_servers: str
    group: str
    batch_messages: int
    poll_ms: int


class Reader:
    """One consumer."""

    def __init__(self, settings: KafkaSettings, clock: Clock, *, until_end: bool) -> None:
        self._clock = clock
        self._at_end: set[tuple[str | None, int | None]] = set()
        self._held: deque[Message] = deque()
        """Fetched, and more than fitted in the batch."""
        self._usual_bytes = 1024.0
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
                "queued.max.messages.kbytes": FETCHED_AHEAD_MAX_KIB,
                # By default the next fetch waits a second where the queue was full.
                "fetch.queue.backoff.ms": 10,
                "message.max.bytes": MAX_RECORD_BYTES,
                "fetch.max.bytes": MAX_RECORD_BYTES,
                "fetch.message.max.bytes": FETCH_MAX_BYTES,
                "error_cb": self._tell,
            },
            logger=CLIENT_LOG,
        )

    def _tell(self, error: KafkaError) -> None:
        tell(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            self._is_away = True

    def add(self, partition: int, offsets: Offsets) -> None:
        self._consumer.incremental_assign(
            [TopicPartition(topic, partition, offset) for topic, offset in offsets.items()]
        )

    def commit(self, offsets: Offsets, partition: int) -> None:
        self._consumer.commit(
            offsets=[TopicPartition(topic, partition, offset) for topic, offset in offsets.items()],
            asynchronous=True,
        )

    def remove(self, partition: int, topics: Iterable[str]) -> None:
        self._consumer.incremental_unassign([TopicPartition(topic, partition) for topic in topics])

    def close(self) -> None:
        self._consumer.close()

    def is_at_end(self, topic: str, partition: int) -> bool:
        """Whether the end of the log was met. Offsets cannot tell: transaction markers take some too."""
        return not self._held and (topic, partition) in self._at_end

    def read(self, most: int, most_bytes: int, wait_seconds: float = 0) -> list[Message]:
        """So much of what is at hand; waits for the first message only."""
        if most <= 0 or most_bytes <= 0:
            return []
        if not self._held:
            self._fetch(most, most_bytes, wait_seconds)
        held = self._held
        batch: list[Message] = []
        while held and len(batch) < most:
            most_bytes -= size_bytes(held[0])
            if most_bytes < 0 and batch:
                break
            batch.append(held.popleft())
        return batch

    def _fetch(self, most: int, most_bytes: int, wait_seconds: float) -> None:
        # Wait for the first message only: consume() with a time-out would wait for a full batch.
        first = self._consumer.poll(wait_seconds)
        if first is None:
            return
        # The client takes a number of messages. More bytes than were asked for stay at hand for the next
        # time, and are never more than what was fetched ahead.
        likely = min(most, int(most_bytes / self._usual_bytes)) - 1
        rest = self._consumer.consume(likely, timeout=0) if likely > 0 else []
        received_at_us = self._clock()
        read = []
        for message in (first, *rest):
            if (error := message.error()) is not None:
                self._check(error, message)
            else:
                read.append(as_message(message, received_at_us))
        if read:
            self._is_away = False
            self._held.extend(read)
            self._usual_bytes = (self._usual_bytes + sum(map(size_bytes, read)) / len(read)) / 2

    def is_there(self) -> bool:
        """Whether Kafka can be read: one that is lost looks like an idle log."""
        if self._is_away and time.monotonic() >= self._ask_at:
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
            self._check_place(message)
            raise typed(error, doing)
        except Unavailable as passing:
            # The client reconnects by itself; until then there is nothing to read.
            _log.warning("holding the place", doing=doing, error=str(passing))

    def _check_place(self, unread: KafkaMessage) -> None:
        """Say exactly what is gone, where the place that is next to be read is."""
        topic, partition, offset = unread.topic(), unread.partition(), unread.offset()
        if topic is None or partition is None or offset is None or offset < 0:
            return
        with suppress(KafkaException):
            place = TopicPartition(topic, partition)
            begin, end = self._consumer.get_watermark_offsets(place, timeout=ASK_TIMEOUT_SECONDS)
            check_place(topic, partition, offset, begin, end)


class Poller:
    """All that a worker reads, by partition: of critical topics first, of others what there is room for."""

    def __init__(
        self,
        settings: KafkaSettings,
        critical: Collection[str],
        room: Room,
        on_poll: Callable[[], None],
        clock: Clock,
        *,
        until_end: bool,
    ) -> None:
        self._settings = settings
        self._critical = critical
        self._room = room
        self._on_poll = on_poll
        self._clock = clock
        self._until_end = until_end
        self._readers: dict[bool, Reader] = {}
        """By whether their topics are critical; one without topics is never made."""
        self._offsets: dict[int, Offsets] = {}
        self._buffers: dict[int, list[Message]] = {}
        self._rounds: dict[int, int] = {}
        self._round = 0
        self._pace = Pace(settings.batch_messages, FEWEST_NORMAL, BATCH_LASTS_AT_MOST)
        self._under_way = 0
        """Normal messages of the last round."""
        self._handed_on_at = 0.0

    def add(self, partition: int, offsets: Offsets) -> None:
        """Read from these; the caller moves them on with what it has taken."""
        self._offsets[partition] = offsets
        self._buffers[partition] = []
        self._rounds[partition] = self._round
        for is_critical, own in self._by_reader(offsets).items():
            if is_critical not in self._readers:
                self._readers[is_critical] = Reader(self._settings, self._clock, until_end=self._until_end)
            self._readers[is_critical].add(partition, own)

    def remove(self, partition: int) -> None:
        del self._buffers[partition]
        for is_critical, own in self._by_reader(self._offsets.pop(partition)).items():
            self._readers[is_critical].remove(partition, own)
        if not self._buffers:
            for reader in self._readers.values():
                reader.close()

    @property
    def next_offsets(self) -> dict[Place, int]:
        """Of all that is read. Another thread than the worker's may ask."""
        return {
            (topic, partition): offset
            for partition, offsets in [*self._offsets.items()]
            for topic, offset in offsets.items()
        }

    def take(self, partition: int) -> list[Message]:
        """All that is at hand for the partition; polls when it has been served since the last poll."""
        if self._rounds[partition] == self._round:
            self._poll()
        self._rounds[partition] = self._round
        messages, self._buffers[partition] = self._buffers[partition], []
        return messages

    def is_at_end(self, partition: int) -> bool:
        return not self._buffers[partition] and all(
            self._readers[topic in self._critical].is_at_end(topic, partition)
            for topic in self._offsets[partition]
        )

    def commit(self, offsets: Offsets, partition: int) -> None:
        """Show the group's progress; losing one commit costs nothing."""
        for is_critical, own in self._by_reader(offsets).items():
            self._readers[is_critical].commit(own, partition)

    def _by_reader(self, offsets: Offsets) -> dict[bool, Offsets]:
        by_reader: dict[bool, Offsets] = {}
        for topic, offset in offsets.items():
            by_reader.setdefault(topic in self._critical, {})[topic] = offset
        return by_reader

    def _poll(self) -> None:
        self._round += 1
        if self._under_way:
            self._pace.took(self._under_way, timedelta(seconds=time.monotonic() - self._handed_on_at))
        messages = self._read(0) or self._read(self._settings.poll_ms / 1000 / len(self._readers))
        if all(reader.is_there() for reader in self._readers.values()):
            self._on_poll()
        for message in messages:
            self._buffers[message.partition].append(message)
        self._handed_on_at = time.monotonic()

    def _read(self, wait_seconds: float) -> list[Message]:
        """One batch of both; waits for the first message of either."""
        most = self._settings.batch_messages
        critical, normal = self._readers.get(True), self._readers.get(False)
        messages = [] if critical is None else critical.read(most, BATCH_MAX_BYTES, wait_seconds)
        if normal is None:
            return messages
        left = max(most - len(messages), most // _LEAST_SHARE, 1)
        left_bytes = max(BATCH_MAX_BYTES - sum(map(size_bytes, messages)), BATCH_MAX_BYTES // _LEAST_SHARE)
        room, room_bytes = self._room.left
        wait_seconds = 0 if messages else wait_seconds
        others = normal.read(min(left, room, self._pace.fitting), min(left_bytes, room_bytes), wait_seconds)
        self._under_way = len(others)
        return messages + others


def tell(error: KafkaError) -> None:
    _log.warning("Kafka", error=error.str())


def size_bytes(message: Message) -> int:
    return len(message.value or b"")


def as_message(message: KafkaMessage, received_at_us: int) -> Message:
    """A record of Kafka, which is no error."""
    _, appended_at_ms = message.timestamp()
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    if topic is None or partition is None or offset is None:
        raise FatalError(f"Kafka's client returned a message without a position: {message!r}")
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    return Message(
        # All messages have the same few names; pending ones would keep a copy each.
        intern(topic), partition, offset, message.key(), message.value(),
        tuple([(intern(name), value) for name, value in headers]),
        appended_at_ms * 1000, received_at_us,
    )  # fmt: skip
