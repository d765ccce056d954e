"""Steps 5 to 7 for a set of parts: load the documents, resolve, validate, merge, write, and only then tell.

Nothing is remembered that was not written.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from operators.deliver import Copy, Deliver
from operators.resolve import Resolve, Verdict
from operators.validate import Validate
from syncline.clock import Clock
from syncline.model.decision import Applied, Conflict, Decision, LaneWatermark, Stamps
from syncline.model.document import DocumentShape, merge, tick
from syncline.model.errors import Refused, TransientError
from syncline.model.failure import Failure
from syncline.model.part import Part
from syncline.model.store import Outcome, Write
from syncline.policies.validation import Rule

Emission = Applied | LaneWatermark | Conflict | Failure
Result = tuple[list[Emission], list[Part]]
"""What came of parts, and those left undecided by a stop."""


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


class Decide:
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
