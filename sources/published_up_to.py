"""How far each outbox was published, remembered outside of its database: so a relay notices when that was
restored to an earlier point.

It is kept as the committed offset of a consumer group of its own in Kafka, which takes any number there: the
``seq`` of the newest row that was published, with the generation as metadata.
"""

from typing import NamedTuple

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from syncline.kafka import CLIENT_LOG, typed
from syncline.model.errors import FatalError

_log = structlog.get_logger()

ASK_TIMEOUT_SECONDS = 3.0
"""Short, since a stop that is requested meanwhile waits for it."""


class Published(NamedTuple):
    generation: int
    seq: int


class PublishedUpTo:
    """The memory of one outbox; ``topic`` is one of its topics, whose first partition stands for all."""

    def __init__(self, bootstrap_servers: str, group: str, topic: str) -> None:
        self._configuration = {
            "bootstrap.servers": bootstrap_servers,
            "group.id": group,
            "enable.auto.commit": False,
            "error_cb": lambda error: _log.warning("Kafka", error=error.str()),
        }
        self._topic = topic
        self._group = group
        self._consumer: Consumer | None = None

    def recall(self) -> Published | None:
        """``None`` where nothing was noted yet. Raises ``Unavailable`` or a ``FatalError``."""
        try:
            [place] = self._client.committed([TopicPartition(self._topic, 0)], timeout=ASK_TIMEOUT_SECONDS)
        except KafkaException as error:
            raise typed(error.args[0], f"asking Kafka what {self._group} noted") from error
        if place.error is not None:
            raise typed(place.error, f"asking Kafka what {self._group} noted")
        if place.offset < 0:
            return None
        try:
            return Published(int(place.metadata or ""), place.offset)
        except ValueError as error:
            raise FatalError(f"the group {self._group} is not the relay's own: {place.metadata!r}") from error

    def note(self, published: Published) -> None:
        """Don't wait for it: losing one is made good by the next."""
        place = TopicPartition(self._topic, 0, published.seq, metadata=str(published.generation))
        self._client.commit(offsets=[place], asynchronous=True)

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    @property
    def _client(self) -> Consumer:
        if self._consumer is None:
            self._consumer = Consumer(self._configuration, logger=CLIENT_LOG)
        return self._consumer
