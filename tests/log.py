"""A Kafka broker as the tests see it: by clients of their own, not by Syncline's."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import orjson
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]

from syncline.kafka import CLIENT_LOG
from syncline.model.message import Message, Record
from tests.waiting import eventually

LARGEST_RECORD = 16 * 1024 * 1024
TIMEOUT_SECONDS = 30


def record(topic: str, key: bytes | None, value: bytes | None, partition: int | None = None) -> Record:
    return Record(topic, key, value, (), partition)


class Log:
    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.admin = AdminClient({"bootstrap.servers": bootstrap_servers}, logger=CLIENT_LOG)

    @contextmanager
    def topic(self, topic: str, partitions: int = 1, max_bytes: int = LARGEST_RECORD) -> Iterator[str]:
        """A topic of this name, which is deleted at the end."""
        if topic in self.admin.list_topics(timeout=TIMEOUT_SECONDS).topics:
            self.delete([topic])  # left by a run that was killed
        self.create(topic, partitions, max_bytes)
        try:
            yield topic
        finally:
            self.delete([topic])

    def create(self, topic: str, partitions: int = 1, max_bytes: int = LARGEST_RECORD) -> None:
        new = NewTopic(topic, partitions, 1, config={"max.message.bytes": str(max_bytes)})
        self.admin.create_topics([new])[topic].result(TIMEOUT_SECONDS)
        self._await_partitions(topic, partitions)

    def widen(self, topic: str, partitions: int) -> None:
        self.admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(TIMEOUT_SECONDS)
        self._await_partitions(topic, partitions)

    def _await_partitions(self, topic: str, partitions: int) -> None:
        """The broker learns of them a moment after it said that they are there."""

        def known() -> bool:
            found = self.admin.list_topics(timeout=TIMEOUT_SECONDS).topics.get(topic)
            return found is not None and len(found.partitions) == partitions

        eventually(known, what=f"{topic} with {partitions} partitions")

    def delete(self, topics: Sequence[str]) -> None:
        if topics:
            for deleted in self.admin.delete_topics(list(topics)).values():
                deleted.result(TIMEOUT_SECONDS)

    def truncate(self, topic: str, partition: int, before: int) -> None:
        """Delete what stands before the offset."""
        position = TopicPartition(topic, partition, before)
        self.admin.delete_records([position])[position].result(TIMEOUT_SECONDS)

    def append(
        self, records: Iterable[Record], transactional_id: str | None = None, *, abort: bool = False
    ) -> None:
        """Append the records, in a transaction where it has an id."""
        configuration: dict[str, str | int | bool] = {
            "bootstrap.servers": self.bootstrap_servers,
            "message.max.bytes": LARGEST_RECORD,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
        }
        if transactional_id is not None:
            configuration["transactional.id"] = transactional_id
        producer = Producer(configuration, logger=CLIENT_LOG)
        if transactional_id is not None:
            producer.init_transactions(TIMEOUT_SECONDS)
            producer.begin_transaction()
        failures: list[KafkaError] = []
        for each in records:
            producer.produce(
                each.topic,
                key=each.key,
                value=each.value,
                headers=list(each.headers),
                partition=-1 if each.partition is None else each.partition,
                on_delivery=lambda error, _message: failures.append(error) if error is not None else None,
            )
            producer.poll(0)
        assert producer.flush(TIMEOUT_SECONDS) == 0
        assert failures == []
        if transactional_id is not None and abort:
            producer.abort_transaction(TIMEOUT_SECONDS)
        elif transactional_id is not None:
            producer.commit_transaction(TIMEOUT_SECONDS)

    def read(self, *topics: str, committed: bool = True) -> list[Message]:
        """All that is committed, partition by partition; or all that was acknowledged, whatever became of
        it."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "group.id": "tests",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed" if committed else "read_uncommitted",
                "fetch.wait.max.ms": 20,
                "fetch.message.max.bytes": LARGEST_RECORD,
            },
            logger=CLIENT_LOG,
        )
        try:
            known = consumer.list_topics(timeout=TIMEOUT_SECONDS).topics
            partitions = [(topic, number) for topic in topics for number in sorted(known[topic].partitions)]
            consumer.assign([TopicPartition(topic, number, 0) for topic, number in partitions])
            found: dict[tuple[str, int], list[Message]] = {partition: [] for partition in partitions}
            open_ends = set(partitions)
            while open_ends:
                message = consumer.poll(TIMEOUT_SECONDS)
                assert message is not None, f"no end of {open_ends}"
                topic, partition, offset = message.topic(), message.partition(), message.offset()
                assert topic is not None
                assert partition is not None
                error = message.error()
                if error is not None:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    open_ends.discard((topic, partition))
                    continue
                assert offset is not None
                open_ends.add((topic, partition))
                headers = tuple(message.headers() or ())
                found[topic, partition].append(
                    Message(topic, partition, offset, message.key(), message.value(), headers, 0, 0)  # type: ignore[arg-type]
                )
            return [message for messages in found.values() for message in messages]
        finally:
            consumer.close()

    def committed(self, group: str, topic: str, partitions: int) -> list[int]:
        """The offset that the group has committed in each partition; -1001 where there is none."""
        configuration = {"bootstrap.servers": self.bootstrap_servers, "group.id": group}
        consumer = Consumer(configuration, logger=CLIENT_LOG)
        try:
            asked = [TopicPartition(topic, number) for number in range(partitions)]
            return [position.offset for position in consumer.committed(asked, timeout=TIMEOUT_SECONDS)]
        finally:
            consumer.close()


def header(message: Message, name: str) -> str | None:
    value = dict(message.headers).get(name)
    return None if value is None else value.decode()


def fields(message: Message) -> dict[str, object]:
    assert message.value is not None
    answer: dict[str, object] = orjson.loads(message.value)["fields"]
    return answer
