"""Appending to Kafka: all of a batch or none, only by the latest holder, and without what it never takes."""

from collections.abc import Iterator

import pytest

from sinks.kafka import KafkaTransactions
from syncline.model.errors import Fenced, MissingResource, Unavailable
from tests.log import Log, record
from tests.road import Road


@pytest.fixture
def topic(log: Log, request: pytest.FixtureRequest) -> Iterator[str]:
    with log.topic(f"sink.{request.node.name}", 2) as topic:
        yield topic


def transactions(log: Log, topic: str) -> KafkaTransactions:
    """A new holder of the topic's transactional id."""
    held = KafkaTransactions(log.bootstrap_servers, f"holder.{topic}")
    held.fence()
    return held


def values(log: Log, topic: str) -> list[bytes | None]:
    return [message.value for message in log.read(topic)]


def test_a_batch_is_appended_in_its_order(log: Log, topic: str) -> None:
    held = transactions(log, topic)
    for start in (0, 1000):
        batch = [record(topic, b"SKU", b"%d" % n) for n in range(start, start + 1000)]
        assert held.append(batch) == {}
    assert values(log, topic) == [b"%d" % n for n in range(2000)]


def test_a_record_goes_where_it_says_and_else_where_its_key_says(log: Log, topic: str) -> None:
    keys = [b"SKU-%d" % n for n in range(20)]
    held = transactions(log, topic)
    held.append([record(topic, key, key) for key in keys])
    held.append([record(topic, None, b"mark", partition) for partition in range(2)])
    # By Kafka's own partitioner, murmur2, which the tests' producer uses too.
    log.append([record(topic, key, b"again") for key in keys])
    messages = log.read(topic)
    partitions = {message.key: message.partition for message in messages if message.value == message.key}
    assert set(partitions.values()) == {0, 1}
    assert all(partitions[m.key] == m.partition for m in messages if m.value == b"again")
    assert [m.partition for m in messages if m.value == b"mark"] == [0, 1]


def test_an_earlier_holder_is_shut_out_whatever_it_believes(log: Log, topic: str) -> None:
    paused = transactions(log, topic)
    paused.append([record(topic, b"k", b"first")])
    successor = transactions(log, topic)
    successor.append([record(topic, b"k", b"second")])
    with pytest.raises(Fenced):
        paused.append([record(topic, b"k", b"late")])
    assert values(log, topic) == [b"first", b"second"]
    paused.fence()
    paused.append([record(topic, b"k", b"third")])
    assert values(log, topic) == [b"first", b"second", b"third"]


def test_nothing_is_appended_before_the_fence(log: Log, topic: str) -> None:
    with pytest.raises(Fenced, match="before fence"):
        KafkaTransactions(log.bootstrap_servers, "holder").append([record(topic, b"k", b"v")])


def test_a_record_that_the_client_will_not_send_is_left_out(log: Log, topic: str) -> None:
    batch = [record(topic, b"k", value) for value in (b"before", bytes(17 * 1024 * 1024), b"after")]
    refused = transactions(log, topic).append(batch)
    assert {index: str(error) for index, error in refused.items()} == {
        1: "Kafka takes no record of 17825792 bytes"
    }
    assert values(log, topic) == [b"before", b"after"]


def test_a_record_that_the_broker_will_not_take_is_left_out_alone(log: Log) -> None:
    """The broker refuses the whole request that it came in, with the small ones beside it."""
    small = [b"%d" % n for n in range(50)]
    with log.topic("sink.narrow", max_bytes=100_000) as topic:
        batch = [record(topic, b"k", value) for value in (*small[:25], bytes(200_000), *small[25:])]
        held = transactions(log, topic)
        assert list(held.append(batch)) == [25]
        assert values(log, topic) == small
        assert held.append([record(topic, b"k", b"next")]) == {}


def test_records_that_are_only_too_large_together_are_all_taken(log: Log) -> None:
    large = [b"%02d" % n + bytes(20_000) for n in range(20)]
    with log.topic("sink.narrow.together", max_bytes=100_000) as topic:
        assert transactions(log, topic).append([record(topic, b"k", value) for value in large]) == {}
        assert values(log, topic) == large


def test_a_missing_topic_is_named_and_nothing_is_appended(log: Log, topic: str) -> None:
    held = transactions(log, topic)
    with pytest.raises(MissingResource, match="syncline setup"):
        held.append([record(topic, b"k", b"v"), record("sink.nowhere", b"k", b"v")])
    assert values(log, topic) == []
    with pytest.raises(MissingResource, match="syncline setup"):
        held.partition_count("sink.nowhere")


def test_a_broker_that_is_away_is_unavailable(log: Log) -> None:
    with Road(1, is_open=False) as road, pytest.raises(Unavailable, match="holder"):
        KafkaTransactions(road.address, "holder").fence()


def test_partitions_that_were_added_are_known_to_the_next_tenure(log: Log) -> None:
    with log.topic("sink.widened") as topic:
        held = transactions(log, topic)
        assert held.partition_count(topic) == 1
        log.widen(topic, 3)
        held.fence()
        assert held.partition_count(topic) == 3
