"""A crew: some of the lanes, whose documents are written apart from those of the others."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter

from operators.calls import Underway
from operators.decide import Result
from operators.lanes import LaneBatch, lane_of
from syncline.model.decision import Decided, LaneWatermark
from syncline.model.part import Part
from syncline.room import Pace

FLIGHT_LASTS_AT_MOST = timedelta(milliseconds=250)
"""A flight takes as many documents as land in this time: what is critical waits for no longer one."""
FEWEST_NORMAL = 50
"""Documents of a normal flight, however slow the store is."""
FEWEST_CRITICAL = 100
"""Of a critical one: smaller ones cost the store more than they save, and queue up."""
FLIGHT_MAX_BYTES = 4 * 1024 * 1024
"""Of changes, but that one document always flies: a large one ends up in a flight of its own."""


_Mark = tuple[str, int]
"""A watermark: the partition of the log, and the time."""
_Place = _Mark | int
"""In a lane: of a watermark, or of a part, by identity."""
_Lanes = dict[str, list[Part]]

_entity_type = attrgetter("change.entity.type")
_value = attrgetter("change.message.value")
_document_id = attrgetter("document_id")


@dataclass(frozen=True, slots=True)
class _Flight:
    """Parts that are being decided, by lane, and their documents."""

    parts: _Lanes
    documents: Collection[str]
    work: Underway[Result]
    took_off_at: datetime


class Queue:
    """Documents that wait for flights of one kind, of which no more than one is under way."""

    def __init__(self, pace: Pace) -> None:
        self.waiting: dict[str, str] = {}
        """Their lanes, by document; the longest waiting first."""
        self.changes = 0
        """How many of them brought the documents here."""
        self.closes_at: datetime | None = None
        """When the first that waits is old enough."""
        self.flight: _Flight | None = None
        self.pace = pace

    @property
    def is_full(self) -> bool:
        return self.changes >= self.pace.fitting

    def is_old(self, at: datetime) -> bool:
        return self.closes_at is not None and self.closes_at <= at

    def collect(self, lane: str, parts: Collection[Part], closes_at: datetime) -> None:
        if parts:
            self.waiting.update(dict.fromkeys(map(_document_id, parts), lane))
            self.changes += len(parts)
            if self.closes_at is None:
                self.closes_at = closes_at

    def leave(self, documents: Collection[str], changes: int) -> None:
        for document_id in documents:
            self.waiting.pop(document_id, None)
        self.changes -= changes
        if not self.waiting:
            self.closes_at = None


class Crew:
    """Keeps what waits by document, and writes it in flights.

    A document with a critical change waits for a critical flight, and all that waits for it goes along. No
    document is in two flights at a time, so changes of one document never overtake each other.
    """

    def __init__(self, most: int, critical: Collection[str]) -> None:
        self.critical = Queue(Pace(most, FEWEST_CRITICAL, FLIGHT_LASTS_AT_MOST))
        self.normal = Queue(Pace(most, FEWEST_NORMAL, FLIGHT_LASTS_AT_MOST))
        self.pending_changes = 0
        """That wait or are in flight."""
        self.pending_bytes = 0
        self.pending_normal = 0
        """Those of them that are not critical."""
        self.is_left_undecided = False
        """A stop has left parts undecided: to try again would only keep it waiting."""
        self._critical_types = frozenset(critical)
        self._waiting: dict[str, list[Part]] = {}
        self._lanes: dict[str, dict[_Place, Part | None]] = {}
        """By lane: its parts that are not known to be in the copy, and between them its watermarks, in the
        order in which they came."""

    @property
    def queues(self) -> tuple[Queue, Queue]:
        """Those that go first come first."""
        return self.critical, self.normal

    @property
    def is_away(self) -> bool:
        return self.critical.flight is not None or self.normal.flight is not None

    @property
    def closes_at(self) -> datetime | None:
        return min((queue.closes_at for queue in self.queues if queue.closes_at is not None), default=None)

    def collect(self, batch: LaneBatch, closes_at: datetime) -> None:
        pending = self._lanes.setdefault(batch.lane, {})
        if parts := batch.parts:
            pending.update(zip(map(id, parts), parts, strict=True))
            self._count(parts, +1)
            self._await(batch.lane, parts, closes_at)
        for topic, partition, time_us in batch.watermarks:
            pending[f"{topic}/{partition}", time_us] = None
            if self.closes_at is None:
                self.normal.closes_at = closes_at

    def pending(self, lane: str) -> list[Part]:
        """The lane's parts that are not known to be in the copy."""
        return [part for part in self._lanes.get(lane, {}).values() if part is not None]

    def take_off(self, queue: Queue, begin: Callable[[list[Part]], Underway[Result]], now: datetime) -> None:
        """With what waits in the queue, as far as it fits; nothing happens where there is none."""
        if documents := self._choose(queue):
            parts = self._take(documents)
            work = begin([part for of_lane in parts.values() for part in of_lane])
            queue.flight = _Flight(parts, documents.keys(), work, now)

    def land(self, queue: Queue, flight: _Flight, now: datetime) -> Decided:
        """What came of the flight, whose work is done."""
        queue.flight = None
        queue.pace.took(len(flight.documents), now - flight.took_off_at)
        decided, undecided = flight.work.result
        decided.watermarks += self.settle(flight.parts, undecided, now)
        return decided

    def hand_over(self) -> _Lanes:
        """All that waits, by lane; to be settled when it is decided."""
        return self._take(self.normal.waiting | self.critical.waiting)

    def settle(self, parts: _Lanes, undecided: list[Part], now: datetime) -> list[LaneWatermark]:
        """Forget parts, but those undecided; answer the watermarks that have passed."""
        left = set(map(id, undecided))
        for lane, of_lane in parts.items():
            self._count(of_lane, -1)
            pending = self._lanes[lane]
            for part in of_lane:
                if id(part) not in left:
                    del pending[id(part)]
        if undecided:
            self._take_back(undecided, now)
        self.is_left_undecided = bool(undecided)
        return self.passed()

    def passed(self) -> list[LaneWatermark]:
        """Watermarks with nothing left before them; the newest of each partition is enough."""
        newest: dict[tuple[str, str], int] = {}
        for lane, pending in self._lanes.items():
            while pending and isinstance(place := next(iter(pending)), tuple):
                del pending[place]
                partition, time_us = place
                newest[lane, partition] = time_us
        if not self._waiting:
            self.normal.closes_at = None
        return [LaneWatermark(lane, partition, time_us) for (lane, partition), time_us in newest.items()]

    def _count(self, parts: Collection[Part], sign: int) -> None:
        self.pending_changes += sign * len(parts)
        self.pending_bytes += sign * _size_bytes(parts)
        self.pending_normal += sign * (len(parts) - self._count_critical(parts))

    def _count_critical(self, parts: Iterable[Part]) -> int:
        return sum(map(self._critical_types.__contains__, map(_entity_type, parts)))

    def _await(self, lane: str, parts: Collection[Part], closes_at: datetime) -> None:
        waiting, types = self._waiting, self._critical_types
        for part in parts:
            waiting.setdefault(part.document_id, []).append(part)
        critical = [part for part in parts if part.change.entity.type in types] if types else []
        self.critical.collect(lane, critical, closes_at)
        if len(critical) < len(parts):
            if critical:
                parts = [part for part in parts if part.change.entity.type not in types]
            self.normal.collect(lane, parts, closes_at)

    def _choose(self, queue: Queue) -> dict[str, str]:
        """Documents for the queue's next flight, with their lanes."""
        other = self.normal if queue is self.critical else self.critical
        busy: Collection[str] = () if other.flight is None else other.flight.documents
        # A document with a critical change is left to the critical flight, and waits with all that it has.
        elsewhere: Collection[str] = () if queue is self.critical else self.critical.waiting
        may_be_too_large = self.pending_bytes > FLIGHT_MAX_BYTES
        chosen: dict[str, str] = {}
        load_bytes = 0
        for document_id, lane in queue.waiting.items():
            if document_id in busy or document_id in elsewhere:
                continue
            if may_be_too_large:
                load_bytes += _size_bytes(self._waiting[document_id])
            if chosen and (len(chosen) >= queue.pace.fitting or load_bytes > FLIGHT_MAX_BYTES):
                break
            chosen[document_id] = lane
        return chosen

    def _take(self, documents: Mapping[str, str]) -> _Lanes:
        """Out of what waits, and out of both queues."""
        taken: _Lanes = {}
        for document_id, lane in documents.items():
            taken.setdefault(lane, []).extend(self._waiting.pop(document_id))
        critical = sum(map(self._count_critical, taken.values()))
        self.critical.leave(documents, critical)
        self.normal.leave(documents, sum(map(len, taken.values())) - critical)
        return taken

    def _take_back(self, undecided: Iterable[Part], now: datetime) -> None:
        """Before what came later of their documents."""
        came_later, self._waiting = self._waiting, {}
        for part in undecided:
            self._count([part], +1)
            self._await(lane_of(part.document_id), [part], now)
        for document_id, later in came_later.items():
            self._waiting.setdefault(document_id, []).extend(later)


def _size_bytes(parts: Iterable[Part]) -> int:
    return sum(len(value) for value in map(_value, parts) if value is not None)
