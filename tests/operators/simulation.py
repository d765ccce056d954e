"""The apply step as a process runs it, with the crashes, restarts and rivals that production has.

A :class:`Process` reads a log in batches, hands them to the lanes of the real :class:`LaneLogic`,
:class:`Window`, :class:`Decide` and :class:`Deliver`, and takes snapshots at the end of an epoch as Bytewax
does: of the lanes that were awake. When the store makes it die, it starts again from a snapshot.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from copy import deepcopy
from datetime import timedelta
from typing import Any, NamedTuple, cast

from operators.apply import LaneLogic, LaneState, Lookout
from operators.copy_watch import CopyWatch
from operators.decide import Decide
from operators.deliver import Deliver
from operators.lanes import LaneBatch, group_by_lane, lane_of
from operators.window import Window
from syncline.circuit import Circuit, CircuitState
from syncline.model.change import Watermark
from syncline.model.decision import Conflict, Decided, LaneWatermark, Review
from syncline.model.document import Document, DocumentShape, known
from syncline.model.errors import TransientError
from syncline.model.part import Part
from syncline.model.version import Version
from syncline.policies.rules import Rule
from syncline.stopping import Stop
from tests.changes import NOON_US
from tests.memory_store import Crash, MemoryStore

PARTITION = "log/0"
WINDOW_AGE_US = 5_000


class NoWait(Stop):
    """Lets a held place try again at once: the time of the circuit is that of its waits."""

    def __init__(self) -> None:
        super().__init__()
        self._now_seconds = 0.0
        self.circuit = Circuit("the store", self, monotonic_seconds=lambda: self._now_seconds)

    def wait(self, seconds: float) -> None:
        self._now_seconds += seconds


class ManualClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_us = NOON_US

    def __call__(self) -> int:
        return self.now_us

    def advance(self, microseconds: int) -> None:
        self.now_us += microseconds


Rank = tuple[Version, str]


class LateWork(Future[Any]):
    """A call to the store in the background: it is made when it is told to be, or waited for, no sooner."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__()
        self._call: Callable[[], Any] | None = call

    @property
    def is_to_be_done(self) -> bool:
        return self._call is not None

    def do(self) -> None:
        call, self._call = self._call, None
        if call is None:
            return
        try:
            self.set_result(call())
        except (Crash, TransientError) as error:
            # As an executor's thread does. Any other error is one of the test, and ends it at once.
            self.set_exception(error)


def wait_for_late_work(futures: Sequence[Future[Any]], return_when: str) -> None:
    """Stands in for ``concurrent.futures.wait``."""
    late = [future for future in futures if isinstance(future, LateWork)]
    if late:
        late[0].do()
    else:
        wait(futures, return_when=return_when)


class LateCrews(Executor):
    """Stands in for the window's threads: the calls of each crew wait until they are told to be made."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._calls: list[LateWork] = []

    @classmethod
    def of(cls, window: Window) -> "LateCrews":
        """Put in the place of the window's threads."""
        crews = cls(window)
        window._threads = cast("Any", crews)
        return crews

    def submit(self, fn: Callable[..., Any], /, *args: object, **kwargs: object) -> LateWork:
        self._calls.append(LateWork(lambda: fn(*args, **kwargs)))
        return self._calls[-1]

    @property
    def under_way(self) -> list[LateWork]:
        """What is still to be done, in the order in which it was begun: a call for each crew that is away."""
        self._calls = [call for call in self._calls if call.is_to_be_done]
        return self._calls

    def answer_one(self, drawn: int) -> LateWork | None:
        """Let one crew's call be answered, whichever is drawn: crews overtake each other."""
        if not (calls := self.under_way):
            return None
        call = calls[drawn % len(calls)]
        call.do()
        return call

    def end_one(self, drawn: int) -> None:
        """Let all calls of one crew be answered, until its flight is over."""
        answered = self.answer_one(drawn)
        flights = [queue.flight for crew in self._window._crews for queue in crew.queues]
        for flight in flights:
            if flight is not None and flight.work.answer is answered:
                flight.work.go_on()
                while isinstance(call := flight.work.answer, LateWork):
                    call.do()
                    flight.work.go_on()


class Snapshot(NamedTuple):
    position: int
    lanes: dict[str, LaneState]


BEGINNING = Snapshot(0, {})


class Copy(NamedTuple):
    """What the documents of a store are, and which changes they will not have."""

    shape: DocumentShape
    rules: Mapping[str, Sequence[Rule]]
    refuses: Callable[[Document], str | None]
    may_fail: Callable[[Part], bool]
    """Whether the part breaks a rule or is refused."""
    critical: Collection[str] = ()
    """Entity types whose changes overtake those of others."""


class Process:
    """One process of the flow, from its log to the store."""

    def __init__(
        self,
        log: list[Part],
        store: MemoryStore,
        clock: ManualClock,
        copy: Copy,
        *,
        window_changes: int,
        working_set_bytes: int,
    ) -> None:
        self.log = log
        self._store = store
        self._clock = clock
        self._window_changes = window_changes
        self._working_set_bytes = working_set_bytes
        self._copy = copy
        self.snapshots = [BEGINNING]
        self.told: set[tuple[str, Rank]] = set()
        """Entity and rank of each change that was told as decided, or as failed."""
        self.postponed: set[tuple[str, Rank]] = set()
        self.waiting: dict[tuple[str, Rank], Part] = {}
        """The retry queue, which outlives the process."""
        self.abandoned: set[tuple[str, Rank]] = set()
        """What was in it and never came back."""
        self.conflicts: list[Conflict] = []
        self.reviews: list[Review] = []
        self.starts = 0
        self._start(BEGINNING)

    def _start(self, snapshot: Snapshot) -> None:
        self.starts += 1
        self.is_busy = False
        self.position = snapshot.position
        self._states = dict(snapshot.lanes)
        self._stop = NoWait()
        deliver = Deliver(self._store, self._working_set_bytes, self._stop.circuit)
        apply = Decide(self._copy.shape, self._copy.rules, deliver, self._clock)
        max_age = timedelta(microseconds=WINDOW_AGE_US)
        self._window = Window(apply, self._window_changes, max_age, self._clock, self._copy.critical)
        self._lookout = Lookout()
        self._crews = LateCrews.of(self._window)
        self._lanes = {lane: self._build(deepcopy(state)) for lane, state in self._states.items()}
        self._awake = set(self._lanes)

    def _build(self, state: LaneState | None) -> LaneLogic:
        return LaneLogic(self._window, CopyWatch(self._store.identity, self._clock), self._lookout, state)

    @property
    def is_done(self) -> bool:
        return self.position >= len(self.log)

    def read(self, count: int) -> None:
        """Take a batch from the log, with a watermark that stands behind it."""
        # Each message is decoded anew: a repeated change is another object.
        batch = [part._replace() for part in self.log[self.position : self.position + count]]
        self.position += len(batch)
        items: list[Part | Watermark] = [*batch, Watermark("log", 0, self.position)]

        def hand_over() -> None:
            for lane, lane_batch in group_by_lane(items):
                self._wake(lane, lane_batch)

        self._survive(hand_over)

    def _wake(self, lane: str, batch: LaneBatch) -> None:
        self._awake.add(lane)
        logic = self._lanes.get(lane)
        if logic is None:
            logic = self._lanes[lane] = self._build(None)
        self._told(logic.on_batch([batch])[0])

    def let_time_pass(self) -> None:
        """Long enough for the window to be over."""
        self._clock.advance(WINDOW_AGE_US + 1)

        def notify() -> None:
            for lane, logic in self._lanes.items():
                if logic.notify_at() is not None:
                    self._awake.add(lane)
                    self._told(logic.on_notify()[0])

        self._survive(notify)

    def retry(self, drawn: int) -> None:
        """Let one change, whichever is drawn, come back by the log."""
        if self.waiting:
            self.log.append(self.waiting.pop(sorted(self.waiting)[drawn % len(self.waiting)]))

    def abandon(self, drawn: int) -> None:
        """Let one change, whichever is drawn, wait for a person for good."""
        if self.waiting:
            key = sorted(self.waiting)[drawn % len(self.waiting)]
            del self.waiting[key]
            self.abandoned.add(key)

    def let_background_work_end(self, drawn: int) -> None:
        """One call of one crew, whichever is drawn; what it came to is not yet told.

        It may be answered while another crew of this process writes; but not while that write probes the
        store, since then it would wait for the very write that waits for it here.
        """
        if self._stop.circuit.state is CircuitState.HALF_OPEN:
            return
        was_busy, self.is_busy = self.is_busy, True
        self._crews.answer_one(drawn)
        self.is_busy = was_busy

    def end_epoch(self) -> None:
        """Take a snapshot of all that was awake."""
        for lane in self._awake:
            self._states[lane] = deepcopy(self._lanes[lane].snapshot())
        self._awake = set()
        self.snapshots.append(Snapshot(self.position, dict(self._states)))

    def finish(self) -> None:
        """Bring all of the log into the store, whatever happens on the way."""
        starts = None
        while starts != self.starts or self.waiting:
            starts = self.starts
            while self.waiting:
                self.retry(0)
            while not self.is_done:
                self.read(7)
            self.let_background_work_end(0)
            self.let_time_pass()
            self.end_input()
        settled = self.told | self.abandoned
        untold = [part for part in self.log if (part.entity, part.rank) not in settled]
        assert not untold, f"never told what became of {untold}"

    def end_input(self) -> None:
        """The source has ended: on a stop, or because the log holds no more."""

        def end() -> None:
            for lane, logic in self._lanes.items():
                self._awake.add(lane)
                self._told(logic.on_eof()[0])

        self._survive(end)

    def stop_and_start(self) -> None:
        """As on a signal: what the store does not take at once stays in the last snapshot."""
        self._stop.request()
        self.end_input()
        if self._stop.requested:
            self.end_epoch()
            self._start(self.snapshots[-1])

    def die(self, epochs_lost: int) -> None:
        """Start again at an earlier snapshot; where there are not so many, with nothing but the log."""
        reachable = self.snapshots[: max(len(self.snapshots) - epochs_lost, 1)]
        self.snapshots = reachable
        self._start(reachable[-1])

    def _survive(self, act: Callable[[], None]) -> None:
        self.is_busy = True
        try:
            act()
        except Crash:
            self.die(0)
        self.is_busy = False

    def _told(self, told: Sequence[Decided]) -> None:
        """What the step tells must be so in the store, now."""
        for decided in told:
            self.conflicts += decided.conflicts
            self.reviews += decided.reviews
            for applied in decided.applied:
                for part, decision, conflict, _ in applied.verdicts:
                    assert part.document_id == applied.document_id
                    assert self._is_in_effect(part), f"{decision} told too early: {part}"
                    assert conflict is None or conflict in decided.conflicts, f"never told: {conflict}"
                    self.told.add((part.entity, part.rank))
            for failure in decided.failures:
                part = next(part for part in self.log if part.change == failure.change)
                assert self._copy.may_fail(part), f"a good change failed: {failure}"
                self.told.add((part.entity, part.rank))
            for postponed in decided.postponed:
                part = next(part for part in self.log if part.change == postponed.change)
                key = part.entity, part.rank
                self.postponed.add(key)
                if key not in self.abandoned:
                    self.waiting[key] = part
            for mark in decided.watermarks:
                self._watermark_told(mark)

    def _watermark_told(self, mark: LaneWatermark) -> None:
        assert mark.partition == PARTITION
        for part in self.log[: mark.time_us]:
            if lane_of(part.document_id) == mark.lane:
                is_postponed = (part.entity, part.rank) in self.postponed
                is_settled = self._copy.may_fail(part) or is_postponed or self._is_in_effect(part)
                assert is_settled, f"{mark} told too early: {part}"

    def _is_in_effect(self, part: Part) -> bool:
        """Whether the copy reflects the change, or one that stands above it."""
        if part.document_id not in self._store.documents:
            return False
        standing = known(self._store.document(part.document_id), part.entity)
        return standing is not None and (standing.version, standing.content_hash) >= part.rank
