"""What a relay remembers of an outbox outside of its database."""

from collections.abc import Iterator

import pytest
from confluent_kafka import TopicPartition

from sources.published_up_to import Published, PublishedUpTo
from syncline.model.errors import FatalError, Unavailable
from tests.log import Log
from tests.road import Road
from tests.waiting import eventually


@pytest.fixture
def topic(log: Log, request: pytest.FixtureRequest) -> Iterator[str]:
    with log.topic(f"published.{request.node.name}") as topic:
        yield topic


def test_what_was_noted_is_recalled_by_the_next_relay(log: Log, topic: str) -> None:
    group = f"group.{topic}"
    first, second = (PublishedUpTo(log.bootstrap_servers, group, topic) for _ in range(2))
    assert first.recall() is None
    for seq in (7, 10**12):
        first.note(Published(3, seq))
    eventually(lambda: second.recall() == Published(3, 10**12), what="the newest note")
    first.close()
    second.close()
    assert second.recall() == Published(3, 10**12), "after a close it connects again"
    second.close()


def test_a_broker_that_is_away_is_unavailable(topic: str) -> None:
    with Road(1, is_open=False) as road:
        lost = PublishedUpTo(road.address, "group", topic)
        with pytest.raises(Unavailable):
            lost.recall()
        lost.close()


def test_a_group_of_somebody_else_is_told(log: Log, topic: str) -> None:
    memory = PublishedUpTo(log.bootstrap_servers, f"group.{topic}", topic)
    memory._client.commit(offsets=[TopicPartition(topic, 0, 5)], asynchronous=False)
    with pytest.raises(FatalError, match="is not the relay's own"):
        memory.recall()
    memory.close()
