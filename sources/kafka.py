"""Kafka topics as a Bytewax source, all partitions of a worker read together.

A source partition stands for one partition number of all its topics, so topics with the same key and
the same number of partitions stay together. The stock source polls each partition by itself, which costs
about 1 ms for every one that is idle; here whoever comes round first polls for all.

Offsets are committed to the consumer group after the snapshot that holds them, for people and tools to
see the lag; recovery reads the snapshot alone.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException
from prometheus_client import Gauge

from sources.kafka_log import KafkaLog, LogWatch, check_topic_ids
from sources.kafka_reading import KafkaSettings, Offsets, Poller, tell
from syncline.circuit import Circuit
from syncline.clock import Clock, system_clock_us
from syncline.kafka import CLIENT_LOG, typed
from syncline.model.errors import MissingResource, RecoveryUnusable
from syncline.model.message import Message
from syncline.room import Room
from syncline.stopping import Stop

LAG = Gauge("syncline_lag_records", "Records of a topic that the flow has not read yet.", ["group", "topic"])

SNAPSHOT_FORMAT = 2
_WITHOUT_TOPIC_IDS = 1
"""A format that is read too: what it does not say cannot differ."""
METADATA_TIMEOUT_SECONDS = 3.0
"""Short, since a stop that is requested meanwhile waits for it."""
NEW_TOPIC_SECONDS = 2.0
"""How long after its creation a topic may still be unknown to the broker that is asked."""

State = dict[str, Any]


class _Partition(StatefulSourcePartition[Message, State]):
    def __init__(
        self,
        number: int,
        poller: Poller,
        watch: LogWatch,
        offsets: Offsets,
        topic_ids: Mapping[str, str],
        stop: Stop,
        *,
        until_end: bool,
    ) -> None:
        self._number = number
        self._poller = poller
        self._watch = watch
        self._topic_ids = topic_ids
        self._offsets = offsets
        self._until_end = until_end
        self._stop = stop
        self._snapshot: Offsets = {}
        poller.add(number, offsets)

    def next_batch(self) -> list[Message]:
        if self._stop.requested or self._is_at_end():
            raise StopIteration
        self._watch.look()
        messages = self._poller.take(self._number)
        for message in messages:
            self._offsets[message.topic] = message.offset + 1
        return messages

    def _is_at_end(self) -> bool:
        return self._until_end and self._poller.is_at_end(self._number)

    def snapshot(self) -> State:
        # The epoch of the snapshot before this one is complete, or this epoch would not have begun.
        self._poller.commit(self._snapshot, self._number)
        self._snapshot = {topic: offset for topic, offset in self._offsets.items() if offset >= 0}
        topic_ids = {topic: self._topic_ids[topic] for topic in self._offsets}
        return {"format": SNAPSHOT_FORMAT, "offsets": dict(self._snapshot), "topic_ids": topic_ids}

    def close(self) -> None:
        self._poller.commit(self._snapshot, self._number)
        self._poller.remove(self._number)


class KafkaSource(FixedPartitionedSource[Message, State]):
    """Reads topics from their beginning, or from where a snapshot says.

    Of the topics the ``critical`` ones are read first, the others as far as there is ``room``. ``until_end``
    makes it end at what the log holds when it is opened, for loads and tests.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[str],
        circuit: Circuit,
        *,
        critical: Collection[str] = (),
        room: Room | None = None,
        until_end: bool = False,
        on_poll: Callable[[], None] = lambda: None,
        clock: Clock = system_clock_us,
    ) -> None:
        self._settings = settings
        self._topics = tuple(topics)
        self._critical = frozenset(critical)
        self._room = room or Room()
        self._circuit = circuit
        self._until_end = until_end
        self._on_poll = on_poll
        self._clock = clock
        self._worker = threading.local()
        self._pollers: list[Poller] = []
        self._log = KafkaLog(settings.bootstrap_servers)

    def measure_lag(self) -> None:
        """Tell Prometheus how much is not read yet. Raises ``Unavailable``."""
        next_offsets = {
            place: offset for poller in self._pollers for place, offset in poller.next_offsets.items()
        }
        lag = self._circuit.attempt(lambda: self._log.lag(next_offsets))
        for topic in self._topics:
            LAG.labels(self._settings.group, topic).set(lag[topic])

    def list_parts(self) -> list[str]:
        counts = self.partition_counts
        return [f"{number:05}" for number in range(max(counts.values()))]

    def build_part(
        self, step_id: str, for_part: str, resume_state: State | None
    ) -> StatefulSourcePartition[Message, State]:
        number = int(for_part)
        counts = self.partition_counts
        offsets = {topic: OFFSET_BEGINNING for topic in self._topics if number < counts[topic]}
        if resume_state is not None:
            self._resume(step_id, number, offsets, resume_state)
        if not hasattr(self._worker, "poller"):
            self._worker.watch = LogWatch(self._log, self._topic_ids)
            self._worker.poller = Poller(
                self._settings,
                self._critical,
                self._room,
                self._on_poll,
                self._clock,
                until_end=self._until_end,
            )
            self._pollers.append(self._worker.poller)
        return _Partition(
            number,
            self._worker.poller,
            self._worker.watch,
            offsets,
            self._topic_ids,
            self._circuit.stop,
            until_end=self._until_end,
        )

    def _resume(self, step_id: str, number: int, offsets: Offsets, state: State) -> None:
        """Put the places of the snapshot in, and raise where the log is not the one that they are of."""
        if state["format"] not in {SNAPSHOT_FORMAT, _WITHOUT_TOPIC_IDS}:
            raise RecoveryUnusable(
                f"the snapshot of {step_id} has format {state['format']}, this version reads "
                f"{SNAPSHOT_FORMAT}; remove the recovery folder, the flow then reads the log anew"
            )
        check_topic_ids(state.get("topic_ids", {}), self._topic_ids)
        resumed = {topic: offset for topic, offset in state["offsets"].items() if topic in offsets}
        self._circuit.hold_place("asking Kafka where its logs begin and end")(
            self._log.check_places, {(topic, number): offset for topic, offset in resumed.items()}
        )
        offsets.update(resumed)

    @cached_property
    def _topic_ids(self) -> dict[str, str]:
        return self._circuit.hold_place("asking Kafka about its topics")(self._log.topic_ids, self._topics)

    @cached_property
    def partition_counts(self) -> dict[str, int]:
        consumer = Consumer(
            {
                "bootstrap.servers": self._settings.bootstrap_servers,
                "group.id": self._settings.group,
                "error_cb": tell,
            },
            logger=CLIENT_LOG,
        )

        def ask() -> dict[str, int]:
            try:
                topics = consumer.list_topics(timeout=METADATA_TIMEOUT_SECONDS).topics
            except KafkaException as error:
                raise typed(error.args[0], "asking Kafka about its topics") from error
            return {name: len(topics[name].partitions) for name in self._topics if name in topics}

        hold_place, stop = self._circuit.hold_place("asking Kafka about its topics"), self._circuit.stop
        try:
            known = hold_place(ask)
            deadline = time.monotonic() + NEW_TOPIC_SECONDS
            while len(known) < len(self._topics) and time.monotonic() < deadline and not stop.requested:
                stop.wait(0.1)
                known = hold_place(ask)
        finally:
            consumer.close()
        missing = [topic for topic in self._topics if topic not in known]
        if missing:
            raise MissingResource(f"Kafka has no topic {', '.join(missing)}; run: syncline setup")
        return known
