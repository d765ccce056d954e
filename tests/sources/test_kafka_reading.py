"""What a worker reads at a time: critical topics first, others as there is room, bounded in size."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sources.kafka_reading import BATCH_MAX_BYTES, KafkaSettings, Poller, size_bytes
from syncline.clock import system_clock_us
from syncline.model.message import Message
from syncline.room import Room
from tests.log import Log, record
from tests.waiting import eventually

PARTITION = 0
BEGINNING = 0
PLENTY = 1 << 40


@pytest.fixture
def stock(log: Log, request: pytest.FixtureRequest) -> Iterator[str]:
    """A critical topic."""
    with log.topic(f"reading.stock.{request.node.name}", 1) as topic:
        yield topic


@pytest.fixture
def product(log: Log, request: pytest.FixtureRequest) -> Iterator[str]:
    """A normal topic."""
    with log.topic(f"reading.product.{request.node.name}", 1) as topic:
        yield topic


@contextmanager
def poller(log: Log, room: Room, stock: str, product: str, batch_messages: int = 10) -> Iterator[Poller]:
    settings = KafkaSettings(log.bootstrap_servers, f"group.{product}", batch_messages, poll_ms=50)
    poller = Poller(settings, {stock}, room, lambda: None, system_clock_us, until_end=False)
    offsets = {stock: BEGINNING, product: BEGINNING}
    poller.add(PARTITION, offsets)
    yield poller
    poller.remove(PARTITION)


def first_of(poller: Poller, topic: str) -> list[Message]:
    """Read until one of the topic has come: those that are fetched with it are at hand from then on."""
    read: list[Message] = []

    def is_there() -> bool:
        read.extend(poller.take(PARTITION))
        return any(message.topic == topic for message in read)

    eventually(is_there, what=f"the first of {topic}")
    return read


def fill(log: Log, topic: str, count: int, value: bytes = b"{}") -> None:
    log.append([record(topic, b"k", value, PARTITION) for _ in range(count)])


def test_what_is_critical_comes_first_and_leaves_the_others_a_share(
    log: Log, stock: str, product: str
) -> None:
    fill(log, product, 50)
    fill(log, stock, 100)
    room = Room()
    room.tell(1, PLENTY)
    with poller(log, room, stock, product) as reading:
        if not any(message.topic == stock for message in first_of(reading, product)):
            room.tell(0, 0)
            first_of(reading, stock)
        room.tell(100, PLENTY)
        for _ in range(5):
            batch = reading.take(PARTITION)
            assert [message.topic for message in batch] == [stock] * 10 + [product]


def test_what_is_not_critical_waits_for_room_and_loses_nothing(log: Log, stock: str, product: str) -> None:
    fill(log, product, 30)
    fill(log, stock, 5)
    room = Room()
    room.tell(0, PLENTY)
    with poller(log, room, stock, product) as reading:
        read = first_of(reading, stock)
        for left in ((0, PLENTY), (10, 0)):
            room.tell(*left)
            read += [message for _ in range(20) for message in reading.take(PARTITION)]
        assert {message.topic for message in read} == {stock}

        room.tell(3, PLENTY)
        sizes = [len(first_of(reading, product)), *(len(reading.take(PARTITION)) for _ in range(9))]
        assert sizes == [3] * 10


def test_a_batch_is_bounded_in_bytes(log: Log, stock: str, product: str) -> None:
    """Small ones before it let the client be asked for many messages, and large ones come."""
    fill(log, product, 20)
    fill(log, product, 8, b"x" * (3 << 20))
    with poller(log, Room(), stock, product, batch_messages=1_000) as reading:
        read: list[Message] = []

        def all_came() -> bool:
            batch = reading.take(PARTITION)
            assert sum(map(size_bytes, batch)) <= BATCH_MAX_BYTES
            read.extend(batch)
            return len(read) == 28

        eventually(all_came, what="28 messages")
        assert [message.offset for message in read] == list(range(28))


def test_a_message_larger_than_a_batch_comes_alone(log: Log, stock: str, product: str) -> None:
    fill(log, product, 2, b"x" * (BATCH_MAX_BYTES + 1))
    with poller(log, Room(), stock, product) as reading:
        batches = [first_of(reading, product), first_of(reading, product)]
        assert [len(batch) for batch in batches] == [1, 1]
