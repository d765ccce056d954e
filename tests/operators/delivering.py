"""Delivers a history of changes to a store: in any order, by rivals, through faults, crashes and restarts."""

from collections.abc import Sequence
from typing import NamedTuple

import orjson
import pytest
from hypothesis import strategies as st

from operators import window as window_module
from syncline.model.document import known
from syncline.model.part import Part
from syncline.model.store import Token
from tests.memory_store import Fault, MemoryStore
from tests.operators.simulation import Copy, ManualClock, Process, Rank

ENDLESS_WRITES = 2_000


class Delivery(NamedTuple):
    """How a history reaches the store."""

    repeats: list[tuple[int, bool]]
    """Changes that are in a log once more: which, and in which of two."""
    rival: list[bool]
    """For each change, whether the second process delivers it."""
    steps: list[tuple[bool, str, int]]
    """What the processes do, in turn: whether it is the second, what, and how much."""
    faults: list[Fault]
    read_faults: list[Fault]
    interleaved: list[int]
    """How many of the steps run, by the other process or another crew, within each write: after its read."""
    window_changes: int
    pooled_below: int
    """Windows are small here, so let small ones be written in the background."""
    working_set_bytes: int


IN_ORDER = Delivery(
    [], [], [], [], [], [], window_changes=1_000, pooled_below=1_000, working_set_bytes=1 << 20
)


class Delivering:
    """Runs one delivery of one history to its end."""

    def __init__(self, copy: Copy, history: Sequence[Part], delivery: Delivery) -> None:
        self.store = MemoryStore(copy.refuses)
        self.store.write_faults.extend(delivery.faults)
        self.store.read_faults.extend(delivery.read_faults)
        self.store.before_write = self._let_others_in
        logs: tuple[list[Part], list[Part]] = ([], [])
        for part, by_rival in zip(history, [*delivery.rival, *[False] * len(history)], strict=False):
            logs[by_rival].append(part)
        for number, by_rival in delivery.repeats:
            logs[by_rival].append(history[number % len(history)])
        self._documents = sorted({part.document_id for part in history})
        clock = ManualClock()
        self.processes = tuple(
            Process(
                log,
                self.store,
                clock,
                copy,
                window_changes=delivery.window_changes,
                working_set_bytes=delivery.working_set_bytes,
            )
            for log in logs
        )
        self._pooled_below = delivery.pooled_below
        self._steps = iter(delivery.steps)
        self._interleaved = iter(delivery.interleaved)
        self._depth = 0
        self._clocks: dict[str, tuple[Token, int]] = {}

    def run(self) -> MemoryStore:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(window_module, "POOLED_BELOW", self._pooled_below)
            for by_rival, what, much in self._steps:
                self._step(self.processes[by_rival], what, much)
            for process in self.processes:
                process.finish()
        self._check_clocks()
        return self.store

    @property
    def left_out(self) -> set[tuple[str, Rank]]:
        """What waits for a person for good, and is not in the copy in any way."""
        told = set().union(*(process.told for process in self.processes))
        abandoned = set().union(*(process.abandoned for process in self.processes))
        return {key for key in abandoned - told if not self._stands(*key)}

    def _stands(self, entity: str, rank: Rank) -> bool:
        """Whether it was taken although the answer was lost."""
        documents = map(self.store.document, self.store.documents)
        standing = [said for document in documents if (said := known(document, entity)) is not None]
        return any((said.version, said.content_hash) == rank for said in standing)

    def _step(self, process: Process, what: str, much: int) -> None:
        match what:
            case "write":
                process.read(much + 1)
                process.let_time_pass()
                process.let_background_work_end(much)
            case "read":
                process.read(much + 1)
            case "time":
                process.let_time_pass()
            case "background":
                process.let_background_work_end(much)
            case "epoch":
                process.end_epoch()
            case "stop":
                # Away now, the store leaves undecided what it is asked to take.
                self.store.write_faults.extendleft([Fault.UNAVAILABLE] * (much - 1))
                process.stop_and_start()
            case "lock":
                self.store.locked[self._documents[much % len(self._documents)]] += 1 + much
            case "retry":
                process.retry(much)
            case "abandon":
                process.abandon(much)
            case "die":
                process.die(epochs_lost=much)

    def _check_clocks(self) -> None:
        """The clock of a document grows with every write of it."""
        for document_id, (body, token) in self.store.documents.items():
            seen_token, seen = self._clocks.get(document_id, (None, 0))
            if token != seen_token:
                version = orjson.loads(body)["_sync"]["version"]
                assert version > seen, f"the clock of {document_id} went from {seen} to {version}"
                self._clocks[document_id] = token, version

    def _let_others_in(self) -> None:
        assert len(self.store.writes) < ENDLESS_WRITES, "the writes find no end"
        self._check_clocks()
        if self._depth:
            return
        self._depth += 1
        for _ in range(next(self._interleaved, 0)):
            if (step := next(self._steps, None)) is not None:
                by_rival, what, much = step
                # In the middle of a process's own work, no more can happen to it than another crew's.
                if what == "background":
                    self._step(self.processes[by_rival], what, much)
                else:
                    self._step(self._idle_process, what, much)
        self._depth -= 1

    @property
    def _idle_process(self) -> Process:
        return next(process for process in self.processes if not process.is_busy)


acts = st.sampled_from(
    [
        *["write"] * 7,
        *["read"] * 4,
        "time",
        "time",
        "epoch",
        "epoch",
        *["background"] * 3,
        "stop",
        "stop",
        "die",
        *["lock"] * 3,
        "retry",
        "abandon",
    ]
)
deliveries = st.builds(
    Delivery,
    repeats=st.lists(st.tuples(st.integers(0, 15), st.booleans()), max_size=8),
    rival=st.lists(st.booleans(), min_size=4, max_size=16),
    steps=st.lists(st.tuples(st.booleans(), acts, st.integers(0, 4)), min_size=6, max_size=20),
    faults=st.lists(st.sampled_from([Fault.NONE, Fault.NONE, *Fault]), max_size=8),
    read_faults=st.lists(st.sampled_from([Fault.NONE, Fault.UNAVAILABLE]), max_size=3),
    interleaved=st.lists(st.sampled_from([0, 0, 1, 2]), min_size=3, max_size=12),
    window_changes=st.sampled_from([1, 8, 12, 20, 1_000]),
    pooled_below=st.sampled_from([1, 2, 4, 1_000]),
    working_set_bytes=st.sampled_from([0, 4_000, 1 << 20, 1 << 20]),
)
