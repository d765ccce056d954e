"""What the relay has published, as it stands in the log, and what it promises of that."""

from collections import defaultdict
from itertools import groupby
from typing import NamedTuple
from uuid import uuid4

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from syncline.kafka import CLIENT_LOG
from syncline.policies.reading import load_policies
from syncline.settings import Settings


class Published(NamedTuple):
    """One message of the relay, as it stands in the log."""

    schema: str
    entity: str
    version: tuple[int, bool]
    seq: int
    tenure: int


def read_published(settings: Settings, *, committed: bool) -> list[list[Published]]:
    """All messages of the relay, partition by partition, in the order of the log."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "group.id": str(uuid4()),
            "enable.partition.eof": True,
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "enable.auto.commit": False,
        },
        logger=CLIENT_LOG,
    )
    topics = {policy.topic(settings.topic_prefix): policy for policy in load_policies().entities}
    places = [(topic, partition) for topic in topics for partition in range(settings.topic_partitions)]
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in places])
    found: dict[tuple[str | None, int | None], list[Published]] = defaultdict(list)
    open_places = set(places)
    while open_places:
        for message in consumer.consume(1_000, timeout=0.5):
            place = (message.topic(), message.partition())
            if message.error() is not None:
                open_places.discard(place)
                continue
            headers = dict(message.headers() or ())
            if "seq" not in headers:
                continue
            payload = orjson.loads(message.value() or b"")
            found[place].append(
                Published(
                    topics[str(message.topic())].owner,
                    payload["entity"],
                    (payload["version"], payload["op"] == "delete"),
                    int(headers["seq"] or b""),
                    int(headers["tenure"] or b""),
                )
            )
    consumer.close()
    return list(found.values())


def assert_first_publication_is_in_version_order(partitions: list[list[Published]]) -> None:
    for partition in partitions:
        newest: dict[str, tuple[int, bool]] = {}
        seen: set[tuple[str, tuple[int, bool]]] = set()
        for message in partition:
            if (message.entity, message.version) in seen:
                continue
            seen.add((message.entity, message.version))
            assert message.version > newest.get(message.entity, (0, False)), message
            newest[message.entity] = message.version


def assert_repeats_are_contiguous_replays(partitions: list[list[Published]]) -> None:
    """A tenure repeats only what was published last before it, all of it, in the order of ``seq``.

    A row that became visible late may stand among the repeated ones: it is new. A tenure that was killed
    amid the repetition has gone as far as it came: nothing newer follows.
    """
    for partition in partitions:
        first: list[int] = []
        for _, tenure in groupby(partition, key=lambda message: message.tenure):
            messages = [message.seq for message in tenure]
            assert len(messages) == len(set(messages)), "a tenure repeated itself"
            repeats = [seq for seq in messages if seq in set(first)]
            if repeats:
                unremoved = sorted(first[min(map(first.index, repeats)) :])
                assert repeats == unremoved[: len(repeats)]
                assert repeats == unremoved or max(messages) < unremoved[-1]
            first += [seq for seq in messages if seq not in set(repeats)]
