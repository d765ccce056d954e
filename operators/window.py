"""Windowed batching: collecting the parts of all lanes of a worker, to decide and write them together."""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from operators.calls import Underway, do
from operators.decide import Decide, Result
from operators.lanes import LaneBatch, lane_of
from syncline.clock import Clock
from syncline.model.decision import Decided, LaneWatermark
from syncline.model.part import Part

CREWS = 4
"""Each writes the documents of its own lanes, so that the worker decides for one while others wait."""
POOLED_BELOW = 500
"""Changes below which those of all crews are written at once and together: one request for all of them is
faster than one for each crew, and so is not handing over."""

LONGEST_WAIT = timedelta(milliseconds=50)
"""How long what is old enough may wait for crews that are away; then it is written without them."""

_LOOK_AGAIN_AFTER = timedelta(milliseconds=1)


class Window:
    """Collects the parts of all lanes of a worker, to write many together.

    Under a light load it closes ``max_age`` after its first part came, and all of it is written in one
    request. Under a heavy one a crew that has its share of ``max_changes`` takes off with it: the store is
    waited for in the background, while the next share fills and other crews' answers are worked on. A crew
    has no more than one flight under way, so changes of one document are never overtaken. Until it has
    landed, its parts count as pending, and stand in the snapshot.
    """

    def __init__(self, decide: Decide, max_changes: int, max_age: timedelta, clock: Clock) -> None:
        self._decide = decide
        self._max_age = max_age
        self._clock = clock
        self._share = max(1, max_changes // CREWS)
        self._crews = tuple(_Crew() for _ in range(CREWS))
        self._threads = ThreadPoolExecutor(CREWS, thread_name_prefix="store")

    def add(self, batch: LaneBatch) -> Decided:
        """Take a batch; answer what came of a crew's last flight, where its next one takes off."""
        crew = self._crew_of(batch.lane)
        crew.collect(batch, self._now() + self._max_age)
        if crew.size < self._share:
            return Decided()
        decided = self._land(crew)
        self._send(crew)
        return decided

    def restore(self, lane: str, parts: list[Part]) -> None:
        """Take what a snapshot held. Nothing takes off yet: there is nowhere to tell of it."""
        if parts:
            self._crew_of(lane).collect(LaneBatch(lane, parts, []), self._now())

    def look(self) -> Decided:
        """Answer what has landed, and write the window if it is old enough.

        While a crew is away the load is heavy, and the rest waits for more of its kind, but not for long.
        """
        decided = self._land_those_there()
        now = self._now()
        if not self._is_any_away:
            if (closes_at := self._closes_at) is not None and closes_at <= now:
                self._close(decided)
            return decided
        for crew in self._crews:
            if crew.flight is None and crew.closes_at is not None and crew.closes_at + LONGEST_WAIT <= now:
                self._send(crew)
        return decided

    def close(self) -> Decided:
        """Write all that is left, and wait for it. What a stop leaves undecided stays pending."""
        decided = self._land_all()
        if not any(crew.is_left_undecided for crew in self._crews):
            self._close(decided)
        decided.add(self._land_all())
        return decided

    def look_at(self) -> datetime | None:
        """When it should be looked at again; ``None`` while nothing is pending."""
        return self._now() + _LOOK_AGAIN_AFTER if self._is_any_away else self._closes_at

    def pending(self, lane: str) -> list[Part]:
        """The lane's parts that are not known to be in the copy."""
        return self._crew_of(lane).pending(lane)

    def _close(self, decided: Decided) -> None:
        if sum(crew.size for crew in self._crews) >= POOLED_BELOW:
            for crew in self._crews:
                self._send(crew)
            return
        handed_over = [(crew, *crew.hand_over()) for crew in self._crews]
        told, undecided = do(
            self._decide([part for _, lanes, _ in handed_over for parts in lanes.values() for part in parts])
        )
        decided.add(told)
        for crew, _, watermarks in handed_over:
            own = [part for part in undecided if self._crew_of(lane_of(part.document_id)) is crew]
            decided.watermarks += crew.take_back(own, watermarks)

    def _send(self, crew: "_Crew") -> None:
        crew.take_off(lambda parts: Underway(self._decide(parts), self._threads))

    def _land_those_there(self) -> Decided:
        """What has come of flights that are over; the others get as far as they can without waiting."""
        decided = Decided()
        for crew in self._crews:
            if crew.flight is not None:
                crew.flight.work.go_on()
                if crew.flight.work.is_done:
                    decided.add(crew.land(crew.flight))
        return decided

    def _land(self, crew: "_Crew") -> Decided:
        """Wait for the crew; others may land meanwhile."""
        decided = self._land_those_there()
        while crew.flight is not None:
            answers = [each.flight.work.answer for each in self._crews if each.flight is not None]
            wait([answer for answer in answers if answer is not None], return_when=FIRST_COMPLETED)
            decided.add(self._land_those_there())
        return decided

    def _land_all(self) -> Decided:
        decided = Decided()
        for crew in self._crews:
            decided.add(self._land(crew))
        return decided

    @property
    def _closes_at(self) -> datetime | None:
        return min((crew.closes_at for crew in self._crews if crew.closes_at is not None), default=None)

    @property
    def _is_any_away(self) -> bool:
        return any(crew.flight is not None for crew in self._crews)

    def _crew_of(self, lane: str) -> "_Crew":
        return self._crews[int(lane) % CREWS]

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock() / 1e6, UTC)


_Lanes = dict[str, list[Part]]
_Watermarks = dict[tuple[str, str], int]
"""By lane and partition of the log."""


class _Flight(NamedTuple):
    """Parts that are being decided, by lane, and the watermarks that speak of them."""

    parts: _Lanes
    watermarks: _Watermarks
    work: Underway[Result]


class _Crew:
    """Some of the lanes, whose documents are written apart from those of the others."""

    def __init__(self) -> None:
        self.size = 0
        """How many parts wait."""
        self.closes_at: datetime | None = None
        """When the first that waits is old enough."""
        self.is_left_undecided = False
        """A stop has left parts undecided: to try again would only keep it waiting."""
        self.flight: _Flight | None = None
        self._parts: _Lanes = {}
        self._watermarks: _Watermarks = {}

    def collect(self, batch: LaneBatch, closes_at: datetime) -> None:
        if self.closes_at is None and (batch.parts or batch.watermarks):
            self.closes_at = closes_at
        if batch.parts:
            self._parts.setdefault(batch.lane, []).extend(batch.parts)
            self.size += len(batch.parts)
        for topic, partition, time_us in batch.watermarks:
            self._watermarks[batch.lane, f"{topic}/{partition}"] = time_us

    def pending(self, lane: str) -> list[Part]:
        in_flight = [] if self.flight is None else self.flight.parts.get(lane, [])
        return in_flight + self._parts.get(lane, [])

    def hand_over(self) -> tuple[_Lanes, _Watermarks]:
        """All that waits."""
        handed_over = self._parts, self._watermarks
        self._parts, self._watermarks, self.size, self.closes_at = {}, {}, 0, None
        return handed_over

    def take_back(self, undecided: list[Part], watermarks: _Watermarks) -> list[LaneWatermark]:
        """Keep what a stop left undecided; answer the watermarks of lanes that were decided as a whole."""
        left: _Lanes = {}
        for part in undecided:
            left.setdefault(lane_of(part.document_id), []).append(part)
        for lane, parts in left.items():
            self._parts[lane] = parts + self._parts.get(lane, [])
        self.size += len(undecided)
        self.is_left_undecided = bool(undecided)
        return [
            LaneWatermark(lane, partition, time_us)
            for (lane, partition), time_us in watermarks.items()
            if lane not in left
        ]

    def take_off(self, begin: Callable[[list[Part]], Underway[Result]]) -> None:
        """With all that waits."""
        parts, watermarks = self.hand_over()
        work = begin([part for of_lane in parts.values() for part in of_lane])
        self.flight = _Flight(parts, watermarks, work)

    def land(self, flight: _Flight) -> Decided:
        """What came of the flight, whose work is done."""
        self.flight = None
        decided, undecided = flight.work.result
        decided.watermarks += self.take_back(undecided, flight.watermarks)
        return decided
