"""Steps 5 to 7 in one place: read the copy, resolve, validate, merge, write, and only then tell.

Nothing is remembered that was not written, and no document waits between reading and writing. Changes
are grouped in lanes by their document, and a lane is the key of the stateful operator: a snapshot costs
as many entries as there are lanes, however many documents there are.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeGuard, cast
from zlib import crc32

import bytewax.operators as op
import orjson
from bytewax.dataflow import Stream, operator
from bytewax.operators import KeyedStream, StatefulBatchLogic

from operators.deliver import CREWS, Copy, Deliver, crew_of
from operators.resolve import Resolve, Verdict
from operators.validate import Validate
from syncline.clock import Clock, system_clock_us
from syncline.model.change import Watermark
from syncline.model.decision import Applied, Conflict, Decision, LaneWatermark, Stamps
from syncline.model.document import DocumentShape, merge, tick
from syncline.model.errors import CopyReplaced, FatalError, Refused, TransientError
from syncline.model.failure import Failure
from syncline.model.part import Part
from syncline.model.store import Outcome, Store, Write
from syncline.policies.validation import Rule
from syncline.stopping import Stop

LANES = tuple(f"{number:02}" for number in range(16))
"""Fixed: a snapshot is found again by its lane."""

SNAPSHOT_FORMAT = 1

Emission = Applied | LaneWatermark | Conflict | Failure
Result = tuple[list[Emission], list[Part]]
"""What came of parts, and those left undecided by a stop."""


def lane_of(document_id: str) -> str:
    return LANES[crc32(document_id.encode()) % len(LANES)]


@dataclass(slots=True)
class _Task:
    """One document, and the parts that are still to be decided for it."""

    document_id: str
    parts: list[Part]
    must_read: bool = False
    one_by_one: bool = False
    """The store refused the document as a whole: let one entity in at a time, to find the one at fault."""
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def may_be_new(self) -> bool:
        return not self.must_read and any(part.change.is_first for part in self.parts)

    def drop(self, parts: Iterable[Part]) -> None:
        dropped = {id(part) for part in parts}
        self.parts = [part for part in self.parts if id(part) not in dropped]


class Apply:
    """Brings parts into the copy. Pure but for the store that ``deliver`` holds."""

    def __init__(
        self, shape: DocumentShape, rules: Mapping[str, Sequence[Rule]], deliver: Deliver, clock: Clock
    ) -> None:
        self._shape = shape
        self._deliver = deliver
        self._clock = clock
        self._resolve = Resolve()
        self._validate = Validate(rules)

    def __call__(self, parts: Iterable[Part]) -> Result:
        """Decide all parts, whatever it takes but a stop."""
        tasks: dict[str, _Task] = {}
        for part in parts:
            task = tasks.get(part.document_id)
            if task is None:
                tasks[part.document_id] = _Task(part.document_id, [part])
            else:
                task.parts.append(part)
        emissions: list[Emission] = []
        try:
            while tasks:
                self._round(tasks, emissions)
                tasks = {document_id: task for document_id, task in tasks.items() if task.parts}
        except TransientError:
            # Only a stop gets here: until then the place is held.
            return emissions, [part for task in tasks.values() for part in task.parts]
        return emissions, []

    def _round(self, tasks: Mapping[str, _Task], emissions: list[Emission]) -> None:
        started = self._clock()
        copies = self._deliver.load({id_: task.may_be_new for id_, task in tasks.items()})
        for id_, task in tasks.items():
            task.verdicts = self._resolve.against_copy(copies[id_].document, task.parts)
        resolved = self._clock()
        for task in tasks.values():
            self._take_out_invalid(task, emissions)
        validated = self._clock()

        writes: list[Write] = []
        for id_, task in tasks.items():
            write = self._merge(task, copies[id_], validated)
            if write is not None:
                writes.append(write)
        results = self._deliver.write(writes)
        stamps = Stamps(started, resolved, validated, self._clock())
        for id_, task in tasks.items():
            result = results.get(id_)
            if result is None or result.outcome is Outcome.WRITTEN:
                self._tell(task, copies[id_].document["_sync"]["version"], stamps, emissions)
            elif result.outcome is Outcome.ALREADY_NEWER:
                task.must_read = True
            else:
                self._take_out_refused(task, result.reason, emissions)

    def _take_out_invalid(self, task: _Task, emissions: list[Emission]) -> None:
        invalid: list[Part] = []
        for verdict in task.verdicts:
            part = verdict.part
            if verdict.decision is Decision.APPLIED and (error := self._validate(part)) is not None:
                invalid.append(part)
                emissions.append(Failure("apply", part.change.message, error, part.change))
        if invalid:
            task.drop(invalid)
            rejected = {id(part) for part in invalid}
            task.verdicts = [verdict for verdict in task.verdicts if id(verdict.part) not in rejected]

    def _merge(self, task: _Task, copy: Copy, now_us: int) -> Write | None:
        """Bring what may enter into the document; ``None`` where the copy already says it all."""
        entering = [verdict for verdict in task.verdicts if verdict.decision is Decision.APPLIED]
        if not entering:
            return None
        if task.one_by_one:
            entity = entering[0].part.entity
            entering = [verdict for verdict in entering if verdict.part.entity == entity]
        settled = [verdict for verdict in task.verdicts if verdict.decision is not Decision.APPLIED]
        task.verdicts = settled + [
            verdict._replace(replaced=merge(self._shape, copy.document, verdict.part, now_us))
            if verdict.decision is Decision.APPLIED
            else verdict
            for verdict in self._resolve.among(entering)
        ]
        tick(self._shape, copy.document, now_us)
        return Write(task.document_id, orjson.dumps(copy.document), copy.token)

    def _tell(self, task: _Task, document_version: int, stamps: Stamps, emissions: list[Emission]) -> None:
        for part, decision, conflict, replaced in task.verdicts:
            emissions.append(Applied(part, decision, document_version, stamps, replaced))
            if conflict is not None:
                emissions.append(conflict)
        if len(task.verdicts) == len(task.parts):
            task.parts = []
        else:
            task.drop(verdict.part for verdict in task.verdicts)

    def _take_out_refused(self, task: _Task, reason: str, emissions: list[Emission]) -> None:
        """Blame a part only when it alone was new; what it stood above gets its turn in the next round."""
        entered = [verdict.part for verdict in task.verdicts if verdict.decision is Decision.APPLIED]
        if len(entered) > 1:
            task.one_by_one = True
            return
        task.drop(entered)
        emissions.extend(
            Failure("apply", part.change.message, Refused(reason), part.change) for part in entered
        )


class LaneBatch(NamedTuple):
    """What one batch of the source holds for one lane."""

    lane: str
    parts: list[Part]
    watermarks: list[Watermark]


def group_by_lane(items: Iterable[Part | Watermark]) -> Iterator[tuple[str, LaneBatch]]:
    """Parts go to their document's lane; a watermark speaks for all lanes."""
    parts: dict[str, list[Part]] = {}
    watermarks: list[Watermark] = []
    for item in items:
        if isinstance(item, Watermark):
            watermarks.append(item)
        else:
            parts.setdefault(lane_of(item.document_id), []).append(item)
    for lane in LANES if watermarks else parts:
        yield lane, LaneBatch(lane, parts.get(lane, []), watermarks)


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

    def __init__(self, apply: Apply, max_changes: int, max_age: timedelta, clock: Clock) -> None:
        self._apply = apply
        self._max_changes = max_changes
        self._max_age = max_age
        self._clock = clock
        self._parts: dict[str, list[Part]] = {}
        self._size = 0
        self._watermarks: dict[tuple[str, str], int] = {}
        self._closes_at: datetime | None = None
        self._flight: _Flight | None = None
        self._crews = ThreadPoolExecutor(CREWS, thread_name_prefix="apply")

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
            results = [self._crews.submit(self._apply, share) for share in shares if share]
        else:
            results = [Future()]
            results[0].set_result(self._apply(parts))
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


LaneState = dict[str, Any]


class LaneLogic(StatefulBatchLogic[LaneBatch, Emission, LaneState]):
    """One lane: hands its changes to the worker's window, and keeps what is pending in its snapshot."""

    def __init__(self, window: Window, store_identity: str, resume_state: LaneState | None) -> None:
        self._window = window
        self._store_identity = store_identity
        self._lane: str | None = None
        if resume_state is not None:
            self._resume(resume_state)

    def _resume(self, state: LaneState) -> None:
        if state["format"] != SNAPSHOT_FORMAT:
            raise FatalError(
                f"the snapshot has format {state['format']}, this version reads {SNAPSHOT_FORMAT}; "
                "remove the recovery folder, the flow then reads the log from its beginning"
            )
        if state["store"] != self._store_identity:
            raise CopyReplaced(
                f"the snapshot was taken with the copy {state['store']}, but this is {self._store_identity}; "
                "remove the recovery folder, the flow then loads the copy from the log's beginning"
            )
        self._lane = state["lane"]
        self._window.restore(state["lane"], [Part.from_plain(part) for part in state["pending"]])

    def on_batch(self, values: list[LaneBatch]) -> tuple[list[Emission], bool]:
        emissions: list[Emission] = []
        for batch in values:
            self._lane = batch.lane
            emissions += self._window.add(batch)
        return emissions, False

    def on_notify(self) -> tuple[list[Emission], bool]:
        return self._window.look(), False

    def on_eof(self) -> tuple[list[Emission], bool]:
        # Retained, not discarded: at an end of input that is a stop, the state is the next start's.
        return self._window.close(), False

    def notify_at(self) -> datetime | None:
        return self._window.look_at()

    def snapshot(self) -> LaneState:
        pending = self._window.pending(self._lane) if self._lane is not None else []
        return {
            "format": SNAPSHOT_FORMAT,
            "lane": self._lane,
            "store": self._store_identity,
            "pending": [part.to_plain() for part in pending],
        }


@dataclass(frozen=True, slots=True)
class WindowLimits:
    max_changes: int
    max_age: timedelta
    working_set_bytes: int


@dataclass(frozen=True)
class AppliedStreams:
    """``errs`` must be attached to a quarantine, and ``conflicts`` to an audit."""

    oks: KeyedStream[Applied | LaneWatermark]
    conflicts: Stream[Conflict]
    errs: Stream[Failure]


def _is_failure(item: tuple[str, Emission]) -> TypeGuard[tuple[str, Failure]]:
    return isinstance(item[1], Failure)


def _is_conflict(item: tuple[str, Emission]) -> TypeGuard[tuple[str, Conflict]]:
    return isinstance(item[1], Conflict)


@operator
def apply(
    step_id: str,
    up: Stream[Part | Watermark],
    shape: DocumentShape,
    rules: Mapping[str, Sequence[Rule]],
    store: Store,
    limits: WindowLimits,
    stop: Stop,
    clock: Clock = system_clock_us,
) -> AppliedStreams:
    """Bring parts into the copy; a change is told on ``oks`` once its decision is in the copy."""
    # A worker is a thread; its lanes share one window, and so one bulk request.
    worker = threading.local()

    def build(resume_state: LaneState | None) -> LaneLogic:
        if not hasattr(worker, "window"):
            deliver = Deliver(store, shape, limits.working_set_bytes, stop)
            worker.identity = deliver.identity()
            worker.window = Window(
                Apply(shape, rules, deliver, clock), limits.max_changes, limits.max_age, clock
            )
        return LaneLogic(worker.window, worker.identity, resume_state)

    lanes = op.flat_map_batch("group_by_lane", up, group_by_lane)
    emitted = op.stateful_batch("lanes", lanes, build)
    failures = op.branch("failures", emitted, _is_failure)
    conflicts = op.branch("conflicts", failures.falses, _is_conflict)
    return AppliedStreams(
        oks=cast("KeyedStream[Applied | LaneWatermark]", conflicts.falses),
        conflicts=op.map("conflict", conflicts.trues, lambda item: item[1]),
        errs=op.map("failure", failures.trues, lambda item: item[1]),
    )
