"""Step 4: the owner's row becomes a part of the consumer's document."""

from collections.abc import Iterable
from typing import Any

from bytewax.dataflow import Stream, operator
from pydantic import ValidationError

from operators.failures import Fallible, try_batches
from syncline.clock import Clock, system_clock_us
from syncline.model.change import Change, Op, Watermark
from syncline.model.errors import Untransformable
from syncline.model.failure import Failure
from syncline.model.part import Part
from syncline.policies.customer_profile import resolution_body
from syncline.policies.policies import FlowPolicy

_LONGEST_VALUE_SHOWN = 80


class Transform:
    """Maps each change by the rule for its entity's type."""

    def __init__(self, policy: FlowPolicy, clock: Clock = system_clock_us) -> None:
        self._policy = policy
        self._mapping = policy.mapping
        self._policies = {(entity.type, entity.producer): entity for entity in policy.entities}
        self._clock = clock

    def __call__(self, items: Iterable[Change | Watermark]) -> list[Part | Watermark | Failure]:
        routed_at_us = self._clock()
        outcomes = [item if isinstance(item, Watermark) else self._transform(item) for item in items]
        transformed_at_us = self._clock()
        return [
            outcome
            if isinstance(outcome, (Watermark, Failure))
            else Part(*outcome, routed_at_us, transformed_at_us)
            for outcome in outcomes
        ]

    def _transform(self, change: Change) -> "_Unstamped | Failure":
        entity_type, entity_id = change.entity
        policy = self._policies.get((entity_type, change.producer))
        if policy is None:
            return self._resolution(change)
        slot, document_id = policy.split_id(entity_id)
        if policy.writer is not None:
            slot, entity_id = policy.writer, f"{policy.writer}:{entity_id}"
        body: dict[str, Any] | None = None
        if change.op == Op.UPSERT:
            try:
                fields = change.fields
                body = self._mapping[entity_type](fields)
                if fields.get(policy.document_column) != document_id:
                    raise _other_identity(change, policy.document_column, document_id)
                if policy.slot_column is not None and fields.get(policy.slot_column) != slot:
                    raise _other_identity(change, policy.slot_column, slot)
            except ValidationError as problem:
                return Failure("transform", change.message, Untransformable(_explain(problem)), change)
            except Untransformable as problem:
                return Failure("transform", change.message, problem, change)
        return document_id, f"{entity_type}:{entity_id}", slot, body, change

    def _resolution(self, change: Change) -> "_Unstamped | Failure":
        """A person's answer: an entity of its own, for each field, beside what the writers say."""
        entity_type, document_id = change.entity
        try:
            body = resolution_body(change.fields, self._policy.conflicts)
        except ValidationError as problem:
            return Failure("transform", change.message, Untransformable(_explain(problem)), change)
        except Untransformable as problem:
            return Failure("transform", change.message, problem, change)
        slot = f"resolution:{change.fields['field']}"
        return document_id, f"{entity_type}:{slot}:{document_id}", slot, body, change


_Unstamped = tuple[str, str, str, dict[str, Any] | None, Change]
"""The fields of a part but for the times of its batch, which is not done yet."""


def _other_identity(change: Change, column: str, expected: str) -> Untransformable:
    value = _shorten(change.fields.get(column))
    return Untransformable(f"{column}: {value} must be {expected!r}, as in {change.entity}")


def _explain(error: ValidationError) -> str:
    """Name each field, its value, and what would be right."""
    return "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: {_shorten(problem['input'])}: {problem['msg']}"
        for problem in error.errors(include_url=False)
    )


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE_SHOWN else f"{text[:_LONGEST_VALUE_SHOWN]}..."


@operator
def transform(
    step_id: str, up: Stream[list[Change | Watermark]], policy: FlowPolicy
) -> Fallible[Part | Watermark]:
    """Turn changes into parts, in order; watermarks pass."""
    return try_batches("each", up, Transform(policy))
