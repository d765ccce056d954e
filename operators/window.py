"""Windowed batching: collecting the parts of all lanes of a worker, to decide and write them together."""

from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from operators.decide import Decide, Result
from operators.lanes import LaneBatch, lane_of
from syncline.clock import Clock
from syncline.model.decision import Decided, LaneWatermark
from syncline.model.part import Part

CREWS = 4
"""Each decides and writes the documents of its own lanes, so that one computes while another waits."""
POOLED_BELOW = 500
"""Changes below which those of all crews are written at once and together: one request for all of them is
faster than one for each crew, and so is not handing over."""

LONGEST_WAIT = timedelta(milliseconds=50)
"""How long what is old enough may wait for crews that are away; then it is written without them."""

_LOOK_AGAIN_AFTER = timedelta(milliseconds=1)


class Window:
    """Collects the parts of all lanes of a worker, to write many together.

    Under a light load it closes ``max_age`` after its first part came, and all of it is written in one
    request. Under a heavy one a crew that has its share of ``max_changes`` takes off with it in the
    background, on its own, while its next share fills. A crew has no more than one flight under way, so
    changes of one document are never overtaken. Until it has landed, its parts count as pending, and stand
    in the snapshot.
    """

    def __init__(self, decide: Decide, max_changes: int, max_age: timedelta, clock: Clock) -> None:
        self._decide = decide
        self._max_age = max_age
        self._clock = clock
        self._share = max(1, max_changes // CREWS)
        self._crews = tuple(_Crew() for _ in range(CREWS))
        self._threads = ThreadPoolExecutor(CREWS, thread_name_prefix="decide")

    def add(self, batch: LaneBatch) -> Decided:
        """Take a batch; answer what came of a crew's last flight, where its next one takes off."""
        crew = self._crew_of(batch.lane)
        crew.collect(batch, self._now() + self._max_age)
        if crew.size < self._share:
            return Decided()
        decided = crew.land()
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
        decided = Decided()
        for crew in self._crews:
            if crew.has_landed:
                decided.add(crew.land())
        now = self._now()
        if not self._is_any_away:
            if (closes_at := self._closes_at) is not None and closes_at <= now:
                self._close(decided)
            return decided
        for crew in self._crews:
            if not crew.is_away and crew.closes_at is not None and crew.closes_at + LONGEST_WAIT <= now:
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
        told, undecided = self._decide([part for crew in self._crews for part in crew.waiting])
        decided.add(told)
        left: dict[_Crew, list[Part]] = {crew: [] for crew in self._crews}
        for part in undecided:
            left[self._crew_of(lane_of(part.document_id))].append(part)
        for crew, parts in left.items():
            crew.take_off(_done(parts))
            decided.add(crew.land())

    def _send(self, crew: "_Crew") -> None:
        crew.take_off(self._threads.submit(self._decide, crew.waiting) if crew.size else _done([]))

    def _land_all(self) -> Decided:
        decided = Decided()
        for crew in self._crews:
            decided.add(crew.land())
        return decided

    @property
    def _closes_at(self) -> datetime | None:
        return min((crew.closes_at for crew in self._crews if crew.closes_at is not None), default=None)

    @property
    def _is_any_away(self) -> bool:
        return any(crew.is_away for crew in self._crews)

    def _crew_of(self, lane: str) -> "_Crew":
        return self._crews[int(lane) % CREWS]

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock() / 1e6, UTC)


class _Flight(NamedTuple):
    """Parts that are being decided, by lane, and the watermarks that speak of them."""

    parts: dict[str, list[Part]]
    watermarks: dict[tuple[str, str], int]
    result: Future[Result]


def _done(undecided: list[Part]) -> Future[Result]:
    done: Future[Result] = Future()
    done.set_result((Decided(), undecided))
    return done


class _Crew:
    """The lanes whose documents one thread at a time writes."""

    def __init__(self) -> None:
        self.size = 0
        """How many parts wait."""
        self.closes_at: datetime | None = None
        """When the first that waits is old enough."""
        self.is_left_undecided = False
        """A stop has left parts undecided: to try again would only keep it waiting."""
        self._parts: dict[str, list[Part]] = {}
        self._watermarks: dict[tuple[str, str], int] = {}
        self._flight: _Flight | None = None

    def collect(self, batch: LaneBatch, closes_at: datetime) -> None:
        if self.closes_at is None and (batch.parts or batch.watermarks):
            self.closes_at = closes_at
        if batch.parts:
            self._parts.setdefault(batch.lane, []).extend(batch.parts)
            self.size += len(batch.parts)
        for topic, partition, time_us in batch.watermarks:
            self._watermarks[batch.lane, f"{topic}/{partition}"] = time_us

    @property
    def waiting(self) -> list[Part]:
        return [part for parts in self._parts.values() for part in parts]

    @property
    def is_away(self) -> bool:
        return self._flight is not None

    @property
    def has_landed(self) -> bool:
        return self._flight is not None and self._flight.result.done()

    def pending(self, lane: str) -> list[Part]:
        in_flight = [] if self._flight is None else self._flight.parts.get(lane, [])
        return in_flight + self._parts.get(lane, [])

    def take_off(self, result: Future[Result]) -> None:
        """With all that waits, of which ``result`` will tell."""
        self._flight = _Flight(self._parts, self._watermarks, result)
        self._parts, self._watermarks, self.size, self.closes_at = {}, {}, 0, None

    def land(self) -> Decided:
        """Wait for the flight. Its watermarks hold only for lanes that were decided as a whole."""
        if self._flight is None:
            return Decided()
        flight = self._flight
        decided, undecided = flight.result.result()
        self._flight = None
        left: dict[str, list[Part]] = {}
        for part in undecided:
            left.setdefault(lane_of(part.document_id), []).append(part)
        for lane, parts in left.items():
            self._parts[lane] = parts + self._parts.get(lane, [])
        self.size += len(undecided)
        self.is_left_undecided = bool(undecided)
        decided.watermarks += [
            LaneWatermark(lane, partition, time_us)
            for (lane, partition), time_us in flight.watermarks.items()
            if lane not in left
        ]
        return decided
