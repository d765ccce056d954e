"""Appending to Kafka: all of a transaction or none, by the latest holder, without what it never takes."""

from collections.abc import Iterator, Sequence

import pytest

from sinks.kafka import KafkaTransactions
from syncline.circuit import Circuits
from syncline.model.errors import Fenced, MissingResource, Refused, Unavailable
from syncline.model.message import Record
from syncline.stopping import Stop
from tests.log import LARGEST_RECORD, Log, record
from tests.road import Road


@pytest.fixture
def topic(log: Log, request: pytest.FixtureRequest) -> Iterator[str]:
    with log.topic(f"sink.{request.node.name}", 2) as topic:
        yield topic


def transactions(log: Log, topic: str) -> KafkaTransactions:
    """A new holder of the topic's transactional id."""
    held = KafkaTransactions(log.bootstrap_servers, f"holder.{topic}", Circuits(Stop()).kafka)
    held.fence()
    return held


def append(held: KafkaTransactions, records: Sequence[Record]) -> dict[int, Refused]:
    """Append them as a transaction by themselves."""
    refused = held.append(records)
    held.commit()
    return refused


def values(log: Log, topic: str, *, committed: bool = True) -> list[bytes | None]:
    return [message.value for message in log.read(topic, committed=committed)]


def test_a_batch_is_appended_in_its_order(log: Log, topic: str) -> None:
    held = transactions(log, topic)
    for start in (0, 1000):
        batch = [record(topic, b"SKU", b"%d" % n) for n in range(start, start + 1000)]
        assert append(held, batch) == {}
    assert values(log, topic) == [b"%d" % n for n in range(2000)]


def test_a_record_goes_where_it_says_and_else_where_its_key_says(log: Log, topic: str) -> None:
    keys = [b"SKU-%d" % n for n in range(20)]
    held = transactions(log, topic)
    append(held, [record(topic, key, key) for key in keys])
    append(held, [record(topic, None, b"mark", partition) for partition in range(2)])
    # By Kafka's own partitioner, murmur2, which the tests' producer uses too.
    log.append([record(topic, key, b"again") for key in keys])
    messages = log.read(topic)
    partitions = {message.key: message.partition for message in messages if message.value == message.key}
    assert set(partitions.values()) == {0, 1}
    assert all(partitions[m.key] == m.partition for m in messages if m.value == b"again")
    assert [m.partition for m in messages if m.value == b"mark"] == [0, 1]


def test_an_earlier_holder_is_shut_out_whatever_it_believes(log: Log, topic: str) -> None:
    paused = transactions(log, topic)
    append(paused, [record(topic, b"k", b"first")])
    successor = transactions(log, topic)
    append(successor, [record(topic, b"k", b"second")])
    with pytest.raises(Fenced):
        paused.append([record(topic, b"k", b"late")])
    assert values(log, topic) == [b"first", b"second"]
    paused.fence()
    append(paused, [record(topic, b"k", b"third")])
    assert values(log, topic) == [b"first", b"second", b"third"]


def test_batches_share_a_transaction_and_are_read_before_its_commit(log: Log, topic: str) -> None:
    held = transactions(log, topic)
    for value in (b"first", b"second"):
        assert held.append([record(topic, b"k", value)]) == {}
    assert values(log, topic, committed=False) == [b"first", b"second"]
    assert values(log, topic) == []
    assert held.append([]) == {}
    held.commit()
    assert values(log, topic) == [b"first", b"second"]


def test_a_transaction_that_an_earlier_holder_left_open_is_undone(log: Log, topic: str) -> None:
    paused = transactions(log, topic)
    paused.append([record(topic, b"k", b"first")])
    successor = transactions(log, topic)
    with pytest.raises(Fenced):
        paused.commit()
    append(successor, [record(topic, b"k", b"second")])
    assert values(log, topic, committed=False) == [b"first", b"second"]
    assert values(log, topic) == [b"second"]


@pytest.mark.parametrize(
    ("too_large", "max_bytes"),
    [(17 * 1024 * 1024, LARGEST_RECORD), (200_000, 100_000)],
    ids=["client", "broker"],
)
def test_a_record_too_large_beside_others_in_a_transaction_is_left_out_of_the_next(
    log: Log, too_large: int, max_bytes: int
) -> None:
    with log.topic("sink.shared", max_bytes=max_bytes) as topic:
        small, large = record(topic, b"k", b"small"), record(topic, b"k", bytes(too_large))
        held = transactions(log, topic)
        held.append([small])
        with pytest.raises(Unavailable, match="too large, in a transaction that holds others"):
            held.append([large])
        held.fence()
        assert list(append(held, [small, large])) == [1]
        assert values(log, topic) == [b"small"]


def test_nothing_is_appended_before_the_fence(log: Log, topic: str) -> None:
    with pytest.raises(Fenced, match="before fence"):
        KafkaTransactions(log.bootstrap_servers, "holder", Circuits(Stop()).kafka).append(
            [record(topic, b"k", b"v")]
        )


def test_a_record_that_the_client_will_not_send_is_left_out(log: Log, topic: str) -> None:
    batch = [record(topic, b"k", value) for value in (b"before", bytes(17 * 1024 * 1024), b"after")]
    refused = append(transactions(log, topic), batch)
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
        assert list(append(held, batch)) == [25]
        assert values(log, topic) == small
        assert append(held, [record(topic, b"k", b"next")]) == {}


def test_records_that_are_only_too_large_together_are_all_taken(log: Log) -> None:
    large = [b"%02d" % n + bytes(20_000) for n in range(20)]
    with log.topic("sink.narrow.together", max_bytes=100_000) as topic:
        assert append(transactions(log, topic), [record(topic, b"k", value) for value in large]) == {}
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
        KafkaTransactions(road.address, "holder", Circuits(Stop()).kafka).fence()


def test_partitions_that_were_added_are_known_to_the_next_tenure(log: Log) -> None:
    with log.topic("sink.widened") as topic:
        held = transactions(log, topic)
        assert held.partition_count(topic) == 1
        log.widen(topic, 3)
        held.fence()
        assert held.partition_count(topic) == 3
