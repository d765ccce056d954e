"""Is the log still the one that a snapshot speaks of, and does it hold what comes next?

A topic that is deleted and made again keeps its name and gets another id (KIP-516), and its offsets begin
again: a place in the old one means nothing in the new one. A log that was cut off at its beginning, or has
lost its end, no longer holds the place at all.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future

from confluent_kafka import KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ListOffsetsResultInfo,
    OffsetSpec,
    TopicDescription,
)

from syncline.kafka import CLIENT_LOG, WAY_OUT, typed
from syncline.model.errors import LogReplaced, LogTruncated, MissingResource, TransientError

ASK_TIMEOUT_SECONDS = 3.0
"""Short, since a stop that is requested meanwhile waits for it."""
LOOK_EVERY_SECONDS = 5.0

Place = tuple[str, int]
"""Topic and partition."""


def check_place(topic: str, partition: int, next_offset: int, begin: int, end: int) -> None:
    """Raises ``LogTruncated`` or ``LogReplaced`` where the log has no such place."""
    where = f"{topic}/{partition}"
    if next_offset < begin:
        raise LogTruncated(
            f"{where}: offsets {next_offset} to {begin - 1} are gone, {begin - next_offset} records that "
            f"were not read; the log begins at {begin}: {WAY_OUT}"
        )
    if next_offset > end:
        raise LogReplaced(
            f"{where}: the log ends at {end}, and offset {next_offset} is the next to be read: it lost its "
            f"end, or the topic was made anew: {WAY_OUT}"
        )


class KafkaLog:
    """What the brokers say of topics; asks them by a client of its own.

    A consumer's own questions wait behind its fetches, which the broker holds until there is something to
    read, and its commits wait for those.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers}, logger=CLIENT_LOG)

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """By topic; those that do not exist are left out. Raises ``Unavailable`` or ``BadCredentials``."""
        return _ids(self.ask_topic_ids(topics))

    def ask_topic_ids(self, topics: Iterable[str]) -> "dict[str, Future[TopicDescription]]":
        asked: dict[str, Future[TopicDescription]] = self._admin.describe_topics(
            TopicCollection(list(topics)), request_timeout=ASK_TIMEOUT_SECONDS
        )
        return asked

    def check_places(self, next_offsets: Mapping[Place, int]) -> None:
        """Raises ``LogTruncated`` or ``LogReplaced`` where the log has no such place."""
        for place in self._compared(next_offsets):
            check_place(*place)

    def lag(self, next_offsets: Mapping[Place, int]) -> Counter[str]:
        """Records that are still to be read, by topic; a place before the beginning stands for it.

        Raises ``Unavailable``.
        """
        lag = Counter[str]()
        for topic, _, next_offset, begin, end in self._compared(next_offsets):
            lag[topic] += end - max(begin, next_offset)
        return lag

    def _compared(self, next_offsets: Mapping[Place, int]) -> Iterator[tuple[str, int, int, int, int]]:
        """Each topic and partition with its next offset, and where the log begins and ends there."""
        if not next_offsets:
            return
        begin = self._bounds(next_offsets, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        end = self._bounds(next_offsets, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        for place, next_offset in next_offsets.items():
            yield *place, next_offset, begin[place], end[place]

    def _bounds(self, places: Iterable[Place], which: OffsetSpec) -> dict[Place, int]:
        asked: dict[TopicPartition, Future[ListOffsetsResultInfo]] = self._admin.list_offsets(
            {TopicPartition(topic, partition): which for topic, partition in places},
            request_timeout=ASK_TIMEOUT_SECONDS,
        )
        try:
            return {(place.topic, place.partition): answer.result().offset for place, answer in asked.items()}
        except KafkaException as error:
            raise typed(error.args[0], "asking Kafka where its logs begin and end") from error


class LogWatch:
    """Looks now and then whether topics are still those that they were; never waits for an answer."""

    def __init__(self, log: KafkaLog, topic_ids: Mapping[str, str]) -> None:
        self._log = log
        self._topic_ids = topic_ids
        self._asked: dict[str, Future[TopicDescription]] = {}
        self._look_at = time.monotonic() + LOOK_EVERY_SECONDS
        self._missed: set[str] = set()

    def look(self) -> None:
        """Raises ``LogReplaced`` or ``MissingResource``."""
        if time.monotonic() < self._look_at:
            return
        if not self._asked:
            self._asked = self._log.ask_topic_ids(self._topic_ids)
        if not all(answer.done() for answer in self._asked.values()):
            return
        asked, self._asked = self._asked, {}
        self._look_at = time.monotonic() + LOOK_EVERY_SECONDS
        try:
            found = _ids(asked)
        except TransientError:
            return
        check_topic_ids(self._topic_ids, found)
        missing = self._topic_ids.keys() - found.keys()
        # A broker that has just come back may not have heard of all topics yet.
        if gone := missing & self._missed:
            raise MissingResource(
                f"Kafka has no topic {', '.join(sorted(gone))} any more; run: syncline setup. What was in it "
                "and not read is lost: docs/failures.md, 'Sending rows again'"
            )
        self._missed = missing


def check_topic_ids(known: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Raises ``LogReplaced`` where a topic has another id than the one that is known."""
    for topic, topic_id in found.items():
        if known.get(topic, topic_id) != topic_id:
            raise LogReplaced(
                f"the topic {topic} was deleted and made anew (id {known[topic]} before, {topic_id} now); "
                f"what was in it and not read is lost: {WAY_OUT}"
            )


def _ids(asked: "Mapping[str, Future[TopicDescription]]") -> dict[str, str]:
    found = {}
    for topic, answer in asked.items():
        try:
            found[topic] = str(answer.result().topic_id)
        except KafkaException as error:
            known = typed(error.args[0], "asking Kafka about its topics")
            if not isinstance(known, MissingResource):
                raise known from error
    return found
