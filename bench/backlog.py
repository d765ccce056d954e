"""A backlog in Kafka, appended from records in a file."""

from collections.abc import Iterable
from pathlib import Path
from typing import IO

import orjson
from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as KafkaMessage

from syncline.kafka import CLIENT_LOG, MAX_RECORD_BYTES
from syncline.model.errors import FatalError
from syncline.model.message import Record
from syncline.settings import Settings

_TIMEOUT_SECONDS = 120.0


def producer(settings: Settings) -> Producer:
    return Producer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "enable.idempotence": True,
            "linger.ms": 5,
            # As the relay's (sinks/kafka.py): the topics are co-partitioned by SKU.
            "partitioner": "murmur2_random",
            "message.max.bytes": MAX_RECORD_BYTES,
            "queue.buffering.max.messages": 1_000_000,
        },
        logger=CLIENT_LOG,
    )


class Backlog:
    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.topic_prefix
        self._producer = producer(settings)

    def append(self, records: Iterable[Record]) -> int:
        """Append the records, and return how many they are."""
        failed: list[KafkaError] = []

        def check(error: KafkaError | None, _message: KafkaMessage) -> None:
            if error is not None:
                failed.append(error)

        count = 0
        for count, (topic, key, value, headers, _) in enumerate(records, start=1):
            self._producer.produce(
                self._prefix + topic, key=key, value=value, headers=list(headers), on_delivery=check
            )
            if count % 1_000 == 0:
                self._producer.poll(0)
        if self._producer.flush(_TIMEOUT_SECONDS) or failed:
            raise FatalError(f"Kafka did not take the backlog: {failed or 'it is too slow'}")
        return count


def write_records(file: IO[bytes], records: Iterable[Record]) -> None:
    """A line of JSON each; their topics begin with the dot that follows the prefix."""
    for topic, key, value, headers, _ in records:
        texts = [(name, (text or b"").decode()) for name, text in headers]
        file.write(orjson.dumps([topic, (key or b"").decode(), (value or b"").decode(), texts]) + b"\n")


def read_records(path: Path) -> Iterable[Record]:
    with path.open("rb") as file:
        for line in file:
            topic, key, value, headers = orjson.loads(line)
            pairs = tuple((name, text.encode()) for name, text in headers)
            yield Record(topic, key.encode(), value.encode(), pairs)
