"""Reading Kafka: in order, once, from where a snapshot says, to its end; and what is told when it cannot."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import StatefulSourcePartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, run_main
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from sources.kafka import KafkaSource, State
from sources.kafka_log import KafkaLog
from sources.kafka_reading import KafkaSettings
from syncline.circuit import Circuits
from syncline.model.errors import LogReplaced, LogTruncated, MissingResource, RecoveryUnusable
from syncline.model.message import Message
from syncline.stopping import Stop
from tests.log import Log, record
from tests.road import Road
from tests.waiting import eventually

Partition = StatefulSourcePartition[Message, State]


@pytest.fixture
def topic(log: Log, request: pytest.FixtureRequest) -> Iterator[str]:
    """A topic of three partitions for this test."""
    with log.topic(f"source.{request.node.name}", 3) as topic:
        yield topic


@pytest.fixture
def wide(log: Log, request: pytest.FixtureRequest) -> Iterator[str]:
    """Another topic, of five partitions."""
    with log.topic(f"source.wide.{request.node.name}", 5) as topic:
        yield topic


def source(
    log: Log,
    *topics: str,
    stop: Stop | None = None,
    until_end: bool = True,
    batch_messages: int = 1_000,
    servers: str | None = None,
    on_poll: Callable[[], None] = lambda: None,
) -> KafkaSource:
    reading = KafkaSettings(
        servers or log.bootstrap_servers, f"group.{topics[0]}", batch_messages, poll_ms=50
    )
    return KafkaSource(reading, topics, Circuits(stop or Stop()).kafka, until_end=until_end, on_poll=on_poll)


def open_all(source: KafkaSource, states: dict[str, State] | None = None) -> dict[str, Partition]:
    return {
        name: source.build_part("changes", name, (states or {}).get(name)) for name in source.list_parts()
    }


def read_on(partition: Partition, count: int) -> list[Message]:
    """So many messages, or more where they came together."""
    messages: list[Message] = []

    def enough() -> bool:
        messages.extend(partition.next_batch())
        return len(messages) >= count

    eventually(enough, what=f"reading {count} messages")
    return messages


def read_all(partitions: dict[str, Partition]) -> list[Message]:
    """To the end of all, each in turn, as Bytewax does."""
    messages: list[Message] = []
    running = dict(partitions)
    deadline = time.monotonic() + 30
    while running:
        assert time.monotonic() < deadline, f"no end of {list(running)}"
        for name, partition in list(running.items()):
            try:
                messages.extend(partition.next_batch())
            except StopIteration:
                del running[name]
    return messages


def close(partitions: dict[str, Partition]) -> None:
    for partition in partitions.values():
        partition.close()


def values(messages: list[Message]) -> list[bytes | None]:
    return [message.value for message in messages]


def made_again(log: Log, topic: str) -> None:
    log.delete([topic])
    eventually(lambda: topic not in log.admin.list_topics(timeout=10).topics, what="the topic's end")
    log.create(topic, 3)


def numbered(topic: str, count: int, partition: int, start: int = 0) -> list[Any]:
    return [record(topic, b"k", b"%d" % n, partition) for n in range(start, start + count)]


def consumers() -> set[str]:
    """Clients of Kafka that live in this process, by the main thread of each."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        # A client of an earlier test may end meanwhile.
        with suppress(FileNotFoundError, ProcessLookupError):
            if (task / "comm").read_text().startswith("rdk:main"):
                found.add(task.name)
    return found


def test_each_partition_is_read_in_order_and_whole(log: Log, topic: str) -> None:
    for partition in range(3):
        log.append(numbered(topic, 500, partition))
    partitions = open_all(source(log, topic, batch_messages=7))
    messages = read_all(partitions)
    close(partitions)
    for partition in range(3):
        own = [message for message in messages if message.partition == partition]
        assert [message.offset for message in own] == list(range(500))
        assert values(own) == [b"%d" % n for n in range(500)]


def test_batches_of_one_message(log: Log, topic: str) -> None:
    log.append(numbered(topic, 3, partition=1))
    partitions = open_all(source(log, topic, batch_messages=1))
    assert values(read_all(partitions)) == [b"0", b"1", b"2"]
    close(partitions)


def test_a_message_comes_as_it_was_sent(log: Log, topic: str) -> None:
    big = bytes(range(256)) * 20_480  # 5 MiB
    headers = (("id", b"\x00\xff"), ("id", b"twice"), ("none", None))
    sent = [
        record(topic, None, None, 0),
        record(topic, b"", b"", 0)._replace(headers=headers),
        record(topic, b"\xff\x00", "🦆 Ωmega".encode(), 0),
        record(topic, b"big", big, 0),
    ]
    before_us = time.time_ns() // 1000
    log.append(sent)
    partitions = open_all(source(log, topic))
    messages = read_all(partitions)
    close(partitions)
    assert [(m.key, m.value, m.headers) for m in messages] == [(r.key, r.value, r.headers) for r in sent]
    assert [message.position for message in messages] == [f"{topic}/0@{n}" for n in range(4)]
    for message in messages:
        assert before_us - 1_000 <= message.appended_at_us <= message.received_at_us


def test_one_consumer_reads_all_partitions_of_a_worker(log: Log, topic: str, wide: str) -> None:
    reading = source(log, topic, wide)
    names = reading.list_parts()
    before = consumers()
    partitions = {name: reading.build_part("changes", name, None) for name in names}
    assert len(partitions) == 5
    own = consumers() - before
    assert len(own) == 1
    close(partitions)
    eventually(lambda: not own & consumers(), what="the end of the consumer")


def test_idle_partitions_do_not_slow_a_busy_one_down(log: Log, topic: str) -> None:
    """The stock source waits in each of them, one after the other."""
    polls: list[None] = []
    partitions = open_all(source(log, topic, until_end=False, on_poll=lambda: polls.append(None)))
    for _ in range(4):
        for partition in partitions.values():
            partition.next_batch()
    close(partitions)
    assert len(polls) == 4


def test_topics_of_different_widths(log: Log, topic: str, wide: str) -> None:
    log.append([record(topic, b"k", b"t%d" % n, n) for n in range(3)])
    log.append([record(wide, b"k", b"w%d" % n, n) for n in range(5)])
    partitions = open_all(source(log, topic, wide))
    messages = read_all(partitions)
    assert sorted(partitions) == ["00000", "00001", "00002", "00003", "00004"]
    assert {m.value: (m.topic, m.partition) for m in messages} == {
        **{b"t%d" % n: (topic, n) for n in range(3)},
        **{b"w%d" % n: (wide, n) for n in range(5)},
    }
    assert partitions["00004"].snapshot()["offsets"] == {wide: 1}
    close(partitions)


def test_the_end_is_found_behind_markers_and_aborted_transactions(log: Log, topic: str) -> None:
    log.append(numbered(topic, 2, 0), "source.tests")
    log.append(numbered(topic, 50, 0, start=100), "source.tests", abort=True)
    log.append(numbered(topic, 2, 0, start=2), "source.tests")
    log.append(numbered(topic, 50, 1, start=200), "source.tests", abort=True)
    partitions = open_all(source(log, topic))
    read = read_all(partitions)
    single_digits = [value for value in values(read) if value is not None and len(value) == 1]
    assert single_digits == [b"0", b"1", b"2", b"3"]
    assert len(read) == 104, "what is in the log is committed in its owner's database, aborted batch or not"
    close(partitions)


def test_a_snapshot_is_plain_and_the_next_start_goes_on_from_it(log: Log, topic: str) -> None:
    for partition in range(3):
        log.append(numbered(topic, 10, partition))
    partitions = open_all(source(log, topic))
    first = read_all(partitions)
    states = {name: partition.snapshot() for name, partition in partitions.items()}
    close(partitions)
    assert json.loads(json.dumps(states)) == states
    assert len(first) == 30

    log.append(numbered(topic, 5, 2, start=10))
    partitions = open_all(source(log, topic), states)
    assert values(read_all(partitions)) == [b"10", b"11", b"12", b"13", b"14"]
    close(partitions)


def test_a_snapshot_before_the_first_message_loses_none(log: Log, topic: str) -> None:
    partitions = open_all(source(log, topic))
    assert read_all(partitions) == []
    states = {name: partition.snapshot() for name, partition in partitions.items()}
    close(partitions)
    log.append(numbered(topic, 3, 0))
    partitions = open_all(source(log, topic), states)
    assert len(read_all(partitions)) == 3
    close(partitions)


def test_a_topic_that_the_snapshot_does_not_know_is_read_whole(log: Log, topic: str, wide: str) -> None:
    log.append(numbered(topic, 3, 0))
    partitions = open_all(source(log, topic))
    read_all(partitions)
    states = {name: partition.snapshot() for name, partition in partitions.items()}
    close(partitions)
    log.append(numbered(wide, 2, 0))
    partitions = open_all(source(log, topic, wide), states)
    assert [message.topic for message in read_all(partitions)] == [wide, wide]
    close(partitions)


def test_a_snapshot_of_another_format_is_told(log: Log, topic: str) -> None:
    with pytest.raises(
        RecoveryUnusable, match="has format 99, this version reads 2; remove the recovery folder"
    ):
        source(log, topic).build_part("changes", "00000", {"format": 99, "offsets": {}})


def test_the_group_shows_what_a_complete_snapshot_holds(log: Log, topic: str) -> None:
    group = f"group.{topic}"
    log.append(numbered(topic, 10, 0))
    partitions = open_all(source(log, topic, until_end=False))
    read_on(partitions["00000"], 10)
    partitions["00000"].snapshot()
    assert log.committed(group, topic, 3) == [-1001] * 3, "the first snapshot may not be complete yet"
    partitions["00000"].snapshot()
    eventually(lambda: log.committed(group, topic, 3) == [10, -1001, -1001], what="the commit")

    log.append(numbered(topic, 5, 0))
    read_on(partitions["00000"], 5)
    partitions["00000"].snapshot()
    close(partitions)
    assert log.committed(group, topic, 3) == [15, -1001, -1001]


def test_a_missing_topic_is_named(log: Log, topic: str) -> None:
    with pytest.raises(MissingResource, match=r"no topic source\.nowhere; run: syncline setup"):
        source(log, topic, "source.nowhere").list_parts()


def test_a_topic_that_is_just_being_made_is_no_missing_one(log: Log, topic: str) -> None:
    """Brokers learn of a new topic a moment after its maker."""
    later = f"source.later.{topic[-8:]}"
    parts: list[str] = []
    asking = threading.Thread(target=lambda: parts.extend(source(log, topic, later).list_parts()))
    asking.start()
    with log.topic(later, 4):
        asking.join(30)
    assert len(parts) == 4


def test_a_log_that_was_truncated_past_the_snapshot_says_which_range_is_gone(log: Log, topic: str) -> None:
    log.append(numbered(topic, 10, 0))
    log.truncate(topic, 0, before=6)
    state = {"format": 2, "offsets": {topic: 2}, "topic_ids": {}}
    with pytest.raises(
        LogTruncated, match=r"offsets 2 to 5 are gone, 4 records .* begins at 6: remove"
    ) as told:
        source(log, topic).build_part("changes", "00000", state)
    assert str(told.value).startswith(f"{topic}/0: ")
    assert "Sending rows again" in str(told.value)


def test_a_log_that_is_truncated_past_the_place_being_read_says_which_range_is_gone(
    log: Log, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append(numbered(topic, 10, 0))
    # The check at the start comes just before the log is cut off.
    monkeypatch.setattr(KafkaLog, "check_places", lambda *_: log.truncate(topic, 0, before=6))
    partition = source(log, topic).build_part("changes", "00000", {"format": 1, "offsets": {topic: 5}})
    with pytest.raises(LogTruncated, match=r"/0: offsets 5 to 5 are gone, 1 records .* begins at 6: remove"):
        read_on(partition, 1)
    partition.close()


def test_what_was_truncated_before_the_snapshot_is_of_no_interest(log: Log, topic: str) -> None:
    log.append(numbered(topic, 10, 0))
    log.truncate(topic, 0, before=6)
    partition = source(log, topic).build_part("changes", "00000", {"format": 1, "offsets": {topic: 6}})
    assert values(read_on(partition, 4)) == [b"6", b"7", b"8", b"9"]
    partition.close()


def test_a_snapshot_from_beyond_the_log_is_told(log: Log, topic: str) -> None:
    """The log lost its end: what comes next there is not what came next."""
    log.append(numbered(topic, 3, 0))
    with pytest.raises(
        LogReplaced, match=r"/0: the log ends at 3, and offset 50 is the next .* remove the rec"
    ):
        source(log, topic).build_part("changes", "00000", {"format": 1, "offsets": {topic: 50}})


def test_a_topic_that_was_deleted_and_made_again_is_told_though_it_has_the_place(
    log: Log, topic: str
) -> None:
    log.append(numbered(topic, 3, 0))
    partitions = open_all(source(log, topic))
    read_all(partitions)
    states = {name: partition.snapshot() for name, partition in partitions.items()}
    close(partitions)
    made_again(log, topic)
    log.append(numbered(topic, 10, 0))
    with pytest.raises(
        LogReplaced, match=r"deleted and made anew \(id \S+ before, \S+ now\).* remove the rec"
    ):
        open_all(source(log, topic), states)
    without_a_snapshot = open_all(source(log, topic))
    assert len(read_all(without_a_snapshot)) == 10
    close(without_a_snapshot)


def test_a_topic_that_is_deleted_and_made_again_while_it_is_read_is_told(
    log: Log, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sources.kafka_log.LOOK_EVERY_SECONDS", 0.1)
    log.append(numbered(topic, 3, 0))
    partition = open_all(source(log, topic, until_end=False))["00000"]
    read_on(partition, 3)
    made_again(log, topic)
    with pytest.raises(LogReplaced, match="was deleted and made anew"):
        read_on(partition, 1)
    partition.close()


def test_a_topic_that_is_deleted_while_it_is_read_is_missing(
    log: Log, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sources.kafka_log.LOOK_EVERY_SECONDS", 0.1)
    partition = open_all(source(log, topic, until_end=False))["00000"]
    log.delete([topic])
    with pytest.raises(MissingResource, match=f"no topic {topic} any more; run: syncline setup"):
        read_on(partition, 1)
    partition.close()
    log.create(topic, 3)


def test_a_snapshot_of_the_first_format_is_read(log: Log, topic: str) -> None:
    log.append(numbered(topic, 3, 0))
    partition = source(log, topic).build_part("changes", "00000", {"format": 1, "offsets": {topic: 1}})
    assert values(read_on(partition, 2)) == [b"1", b"2"]
    [(name, topic_id)] = partition.snapshot()["topic_ids"].items()
    assert name == topic
    assert topic_id
    partition.close()


def test_a_start_without_a_snapshot_takes_a_truncated_log_as_it_is(log: Log, topic: str) -> None:
    log.append(numbered(topic, 10, 0))
    log.truncate(topic, 0, before=6)
    partitions = open_all(source(log, topic))
    assert len(read_all(partitions)) == 4
    close(partitions)


def test_a_requested_stop_ends_every_partition(log: Log, topic: str) -> None:
    stop = Stop()
    partitions = open_all(source(log, topic, stop=stop, until_end=False))
    for partition in partitions.values():
        partition.next_batch()
    stop.request()
    for partition in partitions.values():
        with pytest.raises(StopIteration):
            partition.next_batch()
    close(partitions)


def test_a_broker_that_is_away_at_the_start_is_waited_for(log: Log, topic: str) -> None:
    log.append(numbered(topic, 3, 0))
    port = int(log.bootstrap_servers.rpartition(":")[2])
    with Road(port, is_open=False) as road, capture_logs() as told:
        parts: list[str] = []
        reading = source(log, topic, servers=road.address)
        asking = threading.Thread(target=lambda: parts.extend(reading.list_parts()))
        asking.start()
        eventually(lambda: any(line["event"] == "holding the place" for line in told), what="the first wait")
        assert asking.is_alive()
        road.open()
        asking.join(30)
        assert parts == ["00000", "00001", "00002"]
        partitions = open_all(reading)
        assert len(read_all(partitions)) == 3
        close(partitions)


def test_a_flow_resumes_where_its_recovery_store_says(log: Log, topic: str, tmp_path: Path) -> None:
    init_db_dir(tmp_path, 1)  # type: ignore[no-untyped-call]

    def run() -> list[Message]:
        out: list[Message] = []
        flow = Dataflow("reads")
        op.output("out", op.input("changes", flow, source(log, topic)), TestingSink(out))
        store = RecoveryConfig(str(tmp_path))  # type: ignore[no-untyped-call]
        run_main(flow, epoch_interval=timedelta(0), recovery_config=store)  # type: ignore[no-untyped-call]
        return out

    for partition in range(3):
        log.append(numbered(topic, 100, partition))
    assert len(run()) == 300
    assert run() == []
    log.append(numbered(topic, 7, 1, start=100))
    assert values(run()) == [b"%d" % n for n in range(100, 107)]


def test_the_lag_is_what_is_not_read_yet(log: Log, topic: str) -> None:
    reading = source(log, topic, until_end=False)

    def lag() -> float | None:
        reading.measure_lag()
        return REGISTRY.get_sample_value("syncline_lag_records", {"group": f"group.{topic}", "topic": topic})

    log.append(numbered(topic, 5, 0))
    assert lag() == 0, "nobody reads yet"
    partitions = open_all(reading)
    assert lag() == 5
    read_on(partitions["00000"], 5)
    assert lag() == 0
    log.append(numbered(topic, 2, 1))
    assert lag() == 2
    close(partitions)
    assert lag() == 0


@pytest.mark.timeout(60)
def test_snapshots_do_not_wait_for_who_measures_the_lag(log: Log, topic: str) -> None:
    """Over the consumer's own connection each would wait for a fetch: half a second on an idle topic."""
    reading = source(log, topic, until_end=False)
    log.append(numbered(topic, 5, 0))
    partitions = open_all(reading)
    read_on(partitions["00000"], 5)
    is_over = threading.Event()

    def measure() -> None:
        while not is_over.is_set():
            reading.measure_lag()

    measuring = threading.Thread(target=measure)
    measuring.start()
    try:
        for _ in range(1_000):
            partitions["00000"].snapshot()
    finally:
        is_over.set()
        measuring.join()
    close(partitions)
