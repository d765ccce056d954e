"""How many changes a flow has yet to read from Kafka.

Offsets alone cannot tell: transaction markers take some, and so do the watermarks that the relay sends
every second. So the records between the group's committed offsets and the end of the log are read and
counted, as far as that goes in a short time.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from syncline.kafka import typed
from syncline.model import envelope
from syncline.model.errors import MissingResource, Unavailable

TIMEOUT_SECONDS = 5.0
COORDINATOR_SECONDS = 10.0
"""A broker makes its topic of the groups' offsets at the first question for them: until that is up, on a
busy machine some seconds, it coordinates no group and says so at once."""
COUNT_FOR_SECONDS = 2.0
_ASKING = "asking Kafka how far the flow has read"
_BATCH = 5_000
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class LogLag:
    changes: int
    """Waiting in the log, as of the flow's last snapshot."""
    uncounted_records: int
    """Records that there was no time to look at: changes, watermarks and markers."""
    oldest_commit_us: int | None
    """When the oldest of the changes was committed."""


def log_lag(bootstrap_servers: str, group: str, topics: Sequence[str]) -> LogLag:
    """Count what the group has not read of these topics. Joins no group and commits nothing."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_uncommitted",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,
            "log_level": 0,
        }
    )
    try:
        return _count(consumer, _places(consumer, topics))
    except KafkaException as error:
        raise typed(error.args[0], _ASKING) from error
    finally:
        consumer.close()


def _places(consumer: Consumer, topics: Sequence[str]) -> list[TopicPartition]:
    """Where the group goes on reading."""
    known = consumer.list_topics(timeout=TIMEOUT_SECONDS).topics
    if missing := [topic for topic in topics if topic not in known]:
        raise MissingResource(f"Kafka has no topic {', '.join(missing)}; run: syncline setup")
    wanted = [TopicPartition(topic, number) for topic in topics for number in known[topic].partitions]
    return [
        TopicPartition(place.topic, place.partition, place.offset if place.offset >= 0 else OFFSET_BEGINNING)
        for place in _committed(consumer, wanted)
    ]


def _committed(consumer: Consumer, wanted: list[TopicPartition]) -> list[TopicPartition]:
    def ask() -> list[TopicPartition]:
        try:
            return consumer.committed(wanted, timeout=TIMEOUT_SECONDS)
        except KafkaException as error:
            raise typed(error.args[0], _ASKING) from error

    patient = Retrying(
        retry=retry_if_exception_type(Unavailable),
        wait=wait_fixed(_POLL_SECONDS),
        stop=stop_after_delay(COORDINATOR_SECONDS),
        reraise=True,
    )
    return patient(ask)


def _count(consumer: Consumer, places: list[TopicPartition]) -> LogLag:
    consumer.assign(places)
    next_offsets = {(place.topic, place.partition): place.offset for place in places}
    unread = set(next_offsets)
    changes, oldest_commit_us = 0, None
    deadline = time.monotonic() + COUNT_FOR_SECONDS
    while unread and time.monotonic() < deadline:
        for message in consumer.consume(_BATCH, timeout=_POLL_SECONDS):
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            if topic is None or partition is None or offset is None:
                continue
            if (error := message.error()) is not None:
                if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - it has no other name
                    raise typed(error, "counting what waits in Kafka")
                unread.discard((topic, partition))
                continue
            next_offsets[topic, partition] = offset + 1
            unread.add((topic, partition))
            if (committed_at_us := _commit_time_us(message)) is not None:
                changes += 1
                oldest_commit_us = min(committed_at_us, oldest_commit_us or committed_at_us)
    uncounted = sum(_rest(consumer, place, next_offsets[place]) for place in unread)
    return LogLag(changes, uncounted, oldest_commit_us)


def _commit_time_us(message: KafkaMessage) -> int | None:
    """When the change was committed; ``None`` where the message is no change."""
    headers = dict(message.headers() or [])
    if envelope.WATERMARK_US in headers:
        return None
    try:
        return int(headers.get(envelope.COMMITTED_AT_US) or b"")
    except ValueError:
        _, appended_at_ms = message.timestamp()
        return appended_at_ms * 1000


def _rest(consumer: Consumer, place: tuple[str, int], next_offset: int) -> int:
    low, high = consumer.get_watermark_offsets(TopicPartition(*place), timeout=TIMEOUT_SECONDS)
    return max(0, high - max(low, next_offset))
