"""A source whose messages are journaled as they are handed on, so that one that kills the flow is found."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from sources.kafka import State
from syncline.isolation import PORTIONS, Journal, JournalFile, Plan, Span, count, fingerprint
from syncline.model.message import Message
from syncline.stopping import Stop

SETTLE_ASKED = 50
SETTLE_SECONDS = 0.05
"""A portion that has not killed the flow when its partition was asked so often again, and so much later, is
done: each message has passed every step by then, and what waits for a window is written."""

_FIRST_TO_ASK = ""

_Place = tuple[str, int]


class Hand:
    """What the partitions of one worker hand on: all that there is, but of suspects one portion at a time."""

    def __init__(self, plan: Plan, journal: JournalFile) -> None:
        self._suspects = plan.suspects
        """Those that are not handed on yet."""
        self._portion = max(1, count(plan.suspects) // PORTIONS)
        self._poison = {(bad.topic, bad.partition, bad.offset): bad for bad in plan.poison}
        self._journal = journal
        self._settling: str | None = None
        """The partition whose portion is under way."""
        self._times_asked = 0
        self._not_before = 0.0
        if plan.suspects:
            # What a snapshot held comes first: if that kills the flow, no suspect does.
            self._settle(_FIRST_TO_ASK, Journal(is_resuming=True))
        self._handed_on: dict[_Place, int] = {}
        self._done: dict[_Place, int] = {}

    def marked(self, message: Message) -> Message:
        """The message, and what is known of it if it is poison."""
        bad = self._poison.get((message.topic, message.partition, message.offset))
        if bad is None or bad.fingerprint != fingerprint(message):
            return message
        return message._replace(poison=bad.error)

    def may_hand_on(self, part: str) -> bool:
        if self._settling is None:
            return True
        if self._settling == _FIRST_TO_ASK:
            self._settling = part
        if part == self._settling:
            self._times_asked += 1
        if self._times_asked < SETTLE_ASKED or time.monotonic() < self._not_before:
            return False
        self._settling = None
        self._journal.write(Journal())
        return True

    def take(self, part: str, waiting: deque[Message]) -> list[Message]:
        """The next ones of those that wait: either no suspect, or nothing but suspects."""
        if not self._suspects:
            batch = list(waiting)
            waiting.clear()
            self._note(batch)
            return batch
        batch = []
        while waiting and not self._is_suspect(waiting[0]):
            batch.append(waiting.popleft())
        if batch:
            self._pass(batch)
            return batch
        while waiting and len(batch) < self._portion and self._is_suspect(waiting[0]):
            batch.append(waiting.popleft())
        if batch:
            spans = tuple(Span(m.topic, m.partition, m.offset, m.offset + 1) for m in batch)
            self._settle(part, Journal(spans, fingerprint(batch[0]) if len(batch) == 1 else None))
            self._pass(batch)
        return batch

    def _settle(self, part: str, journal: Journal) -> None:
        self._settling, self._times_asked = part, 0
        self._not_before = time.monotonic() + SETTLE_SECONDS
        self._journal.write(journal)

    def _is_suspect(self, message: Message) -> bool:
        return message.poison is None and any(span.holds(message) for span in self._suspects)

    def _pass(self, batch: list[Message]) -> None:
        ends = {(message.topic, message.partition): message.offset + 1 for message in batch}
        # Offsets at a span's end may be markers of transactions: only the next message shows that it ends.
        self._suspects = tuple(
            span for span in self._suspects if ends.get((span.topic, span.partition), 0) < span.end
        )

    def _note(self, batch: list[Message]) -> None:
        if not batch:
            return
        for message in batch:
            place = message.topic, message.partition
            if place not in self._done:
                self._done[place] = message.offset
            self._handed_on[place] = message.offset + 1
        self._write()

    def done(self, offsets: Mapping[_Place, int]) -> None:
        """All before these is in the copy, or in a snapshot."""
        if self._suspects or self._settling is not None:
            return
        self._done.update({place: offset for place, offset in offsets.items() if place in self._done})
        self._write()

    def _write(self) -> None:
        spans = (
            Span(*place, self._done[place], end)
            for place, end in self._handed_on.items()
            if self._done[place] < end
        )
        self._journal.write(Journal(tuple(spans)))


class _Partition(StatefulSourcePartition[Message, State]):
    def __init__(
        self, name: str, partition: StatefulSourcePartition[Message, State], hand: Hand, stop: Stop
    ) -> None:
        self._name = name
        self._partition = partition
        self._hand = hand
        self._stop = stop
        self._waiting: deque[Message] = deque()
        self._snapshot: dict[_Place, int] = {}

    def next_batch(self) -> list[Message]:
        if self._stop.requested:
            raise StopIteration
        if not self._hand.may_hand_on(self._name):
            return []
        if not self._waiting:
            self._waiting.extend(map(self._hand.marked, self._partition.next_batch()))
        return self._hand.take(self._name, self._waiting)

    def snapshot(self) -> State:
        # The epoch of the snapshot before this one is complete, or this epoch would not have begun.
        self._hand.done(self._snapshot)
        state = self._partition.snapshot()
        for message in reversed(self._waiting):
            state["offsets"][message.topic] = message.offset
        self._snapshot = {(topic, int(self._name)): offset for topic, offset in state["offsets"].items()}
        return state

    def close(self) -> None:
        self._partition.close()


class IsolatingSource(FixedPartitionedSource[Message, State]):
    """Another source, read for a process that has a run folder."""

    def __init__(
        self, source: FixedPartitionedSource[Message, State], plan: Plan, run_folder: Path, stop: Stop
    ) -> None:
        self._source = source
        self._plan = plan
        self._run_folder = run_folder
        self._stop = stop
        self._worker = threading.local()

    def list_parts(self) -> list[str]:
        return self._source.list_parts()

    def build_part(
        self, step_id: str, for_part: str, resume_state: State | None
    ) -> StatefulSourcePartition[Message, State]:
        if not hasattr(self._worker, "hand"):
            self._worker.hand = Hand(self._plan, JournalFile(self._run_folder))
        partition = self._source.build_part(step_id, for_part, resume_state)
        return _Partition(for_part, partition, self._worker.hand, self._stop)
