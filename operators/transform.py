"""Step 4: the owner's row becomes a part of the consumer's document."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Stream, operator
from pydantic import ValidationError

from operators.failures import Fallible, split_failures
from syncline.clock import Clock, system_clock_us
from syncline.model.change import Change, Op, Watermark
from syncline.model.errors import Untransformable
from syncline.model.failure import Failure
from syncline.model.part import Part
from syncline.policies.ownership import ENTITIES

Mapper = Callable[[Mapping[str, Any]], dict[str, Any]]

_POLICIES = {policy.type: policy for policy in ENTITIES}
_LONGEST_VALUE_SHOWN = 80


class Transform:
    """Maps each change by the rule for its entity's type."""

    def __init__(self, mapping: Mapping[str, Mapper], clock: Clock = system_clock_us) -> None:
        self._mapping = mapping
        self._clock = clock

    def __call__(self, items: Iterable[Change | Watermark]) -> list[Part | Watermark | Failure]:
        now_us = self._clock()
        return [item if isinstance(item, Watermark) else self._transform(item, now_us) for item in items]

    def _transform(self, change: Change, routed_at_us: int) -> Part | Failure:
        entity_type, entity_id = change.entity
        policy = _POLICIES[entity_type]
        slot, document_id = policy.split_id(entity_id)
        if change.op == Op.DELETE:
            return self._part(document_id, slot, None, change, routed_at_us)
        try:
            body = self._mapping[entity_type](change.fields)
            _check_identity(change, "sku", document_id)
            if policy.slot_column is not None:
                _check_identity(change, policy.slot_column, slot)
        except ValidationError as problem:
            return Failure("transform", change.message, Untransformable(_explain(problem)), change)
        except Untransformable as problem:
            return Failure("transform", change.message, problem, change)
        return self._part(document_id, slot, body, change, routed_at_us)

    def _part(
        self, document_id: str, slot: str, body: dict[str, Any] | None, change: Change, routed_at_us: int
    ) -> Part:
        return Part(document_id, str(change.entity), slot, body, change, routed_at_us, self._clock())


def _check_identity(change: Change, column: str, expected: str) -> None:
    value = change.fields.get(column)
    if value != expected:
        raise Untransformable(f"{column}: {_shorten(value)} must be {expected!r}, as in {change.entity}")


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
    step_id: str, up: Stream[Change | Watermark], mapping: Mapping[str, Mapper]
) -> Fallible[Part | Watermark]:
    """Turn changes into parts, in order; watermarks pass."""
    return split_failures("split", op.flat_map_batch("batch", up, Transform(mapping)))
