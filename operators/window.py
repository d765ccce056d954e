"""Windowed batching: collecting the parts of all lanes of a worker, to decide and write them together."""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from operators.decide import Decide, Emission, Result
from operators.deliver import CREWS, crew_of
from operators.lanes import LaneBatch, lane_of
from syncline.clock import Clock
from syncline.model.decision import LaneWatermark
from syncline.model.part import Part

PIPELINED_FROM = 500
"""Changes from which a window is written in the background, each crew at its own documents. Below, one
request for all of them is faster, and so is not handing over."""

_LOOK_AGAIN_AFTER = timedelta(milliseconds=1)


class Window:
    """Collects the parts of all lanes of a worker, to write them together.

    It closes when it holds ``max_changes``, or when ``max_age`` has passed since its first part came. A
    large window is written in the background while the next one fills; there is never more than one
    under way, so changes of one document are never overtaken. Until it has landed, its parts count as
    pending, and stand in the snapshot.

    In the background each crew works on documents of its own, so that one computes while another waits.
    """

    def __init__(self, decide: Decide, max_changes: int, max_age: timedelta, clock: Clock) -> None:
        self._decide = decide
        self._max_changes = max_changes
        self._max_age = max_age
        self._clock = clock
        self._parts: dict[str, list[Part]] = {}
        self._size = 0
        self._watermarks: dict[tuple[str, str], int] = {}
        self._closes_at: datetime | None = None
        self._flight: _Flight | None = None
        self._crews = ThreadPoolExecutor(CREWS, thread_name_prefix="decide")

    def add(self, batch: LaneBatch) -> list[Emission]:
        """Take a batch; return what came of the window before, if this one is full and takes off."""
        self._collect(batch.lane, batch.parts)
        for topic, partition, time_us in batch.watermarks:
            self._watermarks[batch.lane, f"{topic}/{partition}"] = time_us
        if self._closes_at is None and (batch.parts or batch.watermarks):
            self._closes_at = self._now() + self._max_age
        return self._take_off() if self._size >= self._max_changes else []

    def restore(self, lane: str, parts: list[Part]) -> None:
        """Take what a snapshot held. Nothing takes off yet: there is nowhere to tell of it."""
        if parts:
            self._collect(lane, parts)
            self._closes_at = self._now()

    def _collect(self, lane: str, parts: list[Part]) -> None:
        if parts:
            self._parts.setdefault(lane, []).extend(parts)
            self._size += len(parts)

    def look(self) -> list[Emission]:
        """Return what has landed, and write the window if it is old enough."""
        if self._flight is not None and not self._flight.done():
            return []
        if self._closes_at is None or self._closes_at > self._now():
            return self._land()
        return self._take_off() if self._size >= PIPELINED_FROM else self.close()

    def close(self) -> list[Emission]:
        """Write all that is left, and wait for it. What a stop leaves undecided stays pending."""
        emissions = self._take_off()
        return emissions + self._land()

    def look_at(self) -> datetime | None:
        """When it should be looked at again; ``None`` while nothing is pending."""
        return self._now() + _LOOK_AGAIN_AFTER if self._flight is not None else self._closes_at

    def pending(self, lane: str) -> list[Part]:
        """The lane's parts that are not known to be in the copy."""
        in_flight = [] if self._flight is None else self._flight.parts.get(lane, [])
        return in_flight + self._parts.get(lane, [])

    def _take_off(self) -> list[Emission]:
        emissions = self._land()
        parts = [part for lane in self._parts.values() for part in lane]
        results: list[Future[Result]]
        if self._size >= PIPELINED_FROM:
            shares: list[list[Part]] = [[] for _ in range(CREWS)]
            for part in parts:
                shares[crew_of(part.document_id)].append(part)
            results = [self._crews.submit(self._decide, share) for share in shares if share]
        else:
            results = [Future()]
            results[0].set_result(self._decide(parts))
        self._flight = _Flight(self._parts, self._watermarks, results)
        self._parts, self._watermarks, self._size, self._closes_at = {}, {}, 0, None
        return emissions

    def _land(self) -> list[Emission]:
        """Wait for the window under way. Its watermarks hold only for lanes that were decided as a whole."""
        if self._flight is None:
            return []
        flight = self._flight
        wait(flight.results)
        emissions: list[Emission] = []
        undecided: list[Part] = []
        for result in flight.results:
            told, left_over = result.result()
            emissions += told
            undecided += left_over
        self._flight = None
        left: dict[str, list[Part]] = {}
        for part in undecided:
            left.setdefault(lane_of(part.document_id), []).append(part)
        for lane, parts in left.items():
            self._parts[lane] = parts + self._parts.get(lane, [])
        self._size += len(undecided)
        emissions.extend(
            LaneWatermark(lane, partition, time_us)
            for (lane, partition), time_us in flight.watermarks.items()
            if lane not in left
        )
        return emissions

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock() / 1e6, UTC)


class _Flight(NamedTuple):
    """A window that is being written."""

    parts: dict[str, list[Part]]
    watermarks: dict[tuple[str, str], int]
    results: list[Future[Result]]

    def done(self) -> bool:
        return all(result.done() for result in self.results)
