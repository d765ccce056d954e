"""Steps 5 to 7 as one keyed operator, so that no document waits between being read and being written.

The key is a lane. The lanes of a worker share one window of changes; each keeps in its snapshot those of
its own changes that are not known to be in the copy.
"""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Stream, operator
from bytewax.operators import KeyedStream, StatefulBatchLogic

from operators.copy_watch import CopyWatch
from operators.decide import Decide
from operators.deliver import Deliver
from operators.lanes import LaneBatch, group_by_lane
from operators.window import Window
from syncline.circuit import Circuit
from syncline.clock import Clock, system_clock_us
from syncline.model.change import Watermark
from syncline.model.decision import Conflict, Decided, Review
from syncline.model.document import DocumentShape
from syncline.model.errors import RecoveryUnusable
from syncline.model.failure import Failure
from syncline.model.part import Part
from syncline.model.store import Store
from syncline.policies.rules import Rule
from syncline.room import Room

SNAPSHOT_FORMAT = 1

LaneState = dict[str, Any]


class Lookout:
    """Of the lanes that share a window, the one that looks at it next: to wake all sixteen for that, up to
    once a millisecond, costs as much as small windows themselves."""

    def __init__(self) -> None:
        self._lane: LaneLogic | None = None
        self._at: datetime | None = None

    def time_for(self, lane: "LaneLogic", at: datetime | None) -> datetime | None:
        """When to wake this lane, where the window should be looked at by then; ``None`` where another lane
        is woken in time."""
        if lane is self._lane:
            self._at = at
        elif at is None or (self._at is not None and self._at <= at):
            return None
        else:
            self._lane, self._at = lane, at
        return at


class LaneLogic(StatefulBatchLogic[LaneBatch, Decided, LaneState]):
    """One lane: hands its changes to the worker's window, and keeps what is pending in its snapshot."""

    def __init__(
        self, window: Window, copy: CopyWatch, lookout: Lookout, resume_state: LaneState | None
    ) -> None:
        self._window = window
        self._lookout = lookout
        self._copy = copy
        self._lane: str | None = None
        if resume_state is not None:
            self._resume(resume_state)

    def _resume(self, state: LaneState) -> None:
        if state["format"] != SNAPSHOT_FORMAT:
            raise RecoveryUnusable(
                f"the snapshot has format {state['format']}, this version reads {SNAPSHOT_FORMAT}; "
                "remove the recovery folder, the flow then reads the log from its beginning"
            )
        self._copy.compare(state["store"], self._copy.identity, "the snapshot was taken with")
        self._lane = state["lane"]
        self._window.restore(state["lane"], [Part.from_plain(part) for part in state["pending"]])

    def on_batch(self, values: list[LaneBatch]) -> tuple[list[Decided], bool]:
        self._copy.look()
        decided = Decided()
        for batch in values:
            self._lane = batch.lane
            decided.add(self._window.add(batch))
        return _if_any(decided), False

    def on_notify(self) -> tuple[list[Decided], bool]:
        return _if_any(self._window.look()), False

    def on_eof(self) -> tuple[list[Decided], bool]:
        # Retained, not discarded: at an end of input that is a stop, the state is the next start's.
        return _if_any(self._window.close()), False

    def notify_at(self) -> datetime | None:
        return self._lookout.time_for(self, self._window.look_at())

    def snapshot(self) -> LaneState:
        pending = self._window.pending(self._lane) if self._lane is not None else []
        return {
            "format": SNAPSHOT_FORMAT,
            "lane": self._lane,
            "store": self._copy.identity,
            "pending": [part.to_plain() for part in pending],
        }


def _if_any(decided: Decided) -> list[Decided]:
    return [decided] if decided else []


@dataclass(frozen=True, slots=True)
class WindowLimits:
    max_changes: int
    max_age: timedelta
    working_set_bytes: int


@dataclass(frozen=True)
class AppliedStreams:
    """``errs`` must be attached to a quarantine, ``postponed`` to a retry queue, ``conflicts`` to an audit.
    ``reviews`` are empty where each entity has one writer."""

    oks: KeyedStream[Decided]
    conflicts: Stream[Conflict]
    reviews: Stream[Review]
    errs: Stream[Failure]
    postponed: Stream[Failure]


@operator
def apply(
    step_id: str,
    up: Stream[list[Part | Watermark]],
    shape: DocumentShape,
    rules: Mapping[str, Sequence[Rule]],
    store: Store,
    limits: WindowLimits,
    circuit: Circuit,
    critical: Collection[str] = (),
    room: Room | None = None,
    clock: Clock = system_clock_us,
) -> AppliedStreams:
    """Bring parts into the copy; a change is told on ``oks`` once its decision is in the copy.

    ``critical`` entity types go first. The source learns by ``room`` how many of the others it may read.
    """
    # A worker is a thread; its lanes share one window, and so one bulk request.
    worker = threading.local()

    def build(resume_state: LaneState | None) -> LaneLogic:
        if not hasattr(worker, "window"):
            deliver = Deliver(store, limits.working_set_bytes, circuit)
            worker.copy = CopyWatch(deliver.identity, clock)
            worker.lookout = Lookout()
            worker.window = Window(
                Decide(shape, rules, deliver, clock),
                limits.max_changes,
                limits.max_age,
                clock,
                critical,
                room,
            )
        return LaneLogic(worker.window, worker.copy, worker.lookout, resume_state)

    lanes = op.flat_map("group_by_lane", up, group_by_lane)
    decided = op.stateful_batch("lanes", lanes, build)
    return AppliedStreams(
        oks=decided,
        conflicts=op.flat_map("conflicts", decided, lambda item: item[1].conflicts),
        reviews=op.flat_map("reviews", decided, lambda item: item[1].reviews),
        errs=op.flat_map("failures", decided, lambda item: item[1].failures),
        postponed=op.flat_map("postponed", decided, lambda item: item[1].postponed),
    )
