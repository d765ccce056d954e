"""Keeping what went well apart from what did not."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeGuard, TypeVar, cast

import bytewax.operators as op
from bytewax.dataflow import Stream, operator

from syncline.model.failure import Failure

X = TypeVar("X")
Y = TypeVar("Y")


@dataclass(frozen=True)
class Fallible(Generic[X]):
    """``oks`` are batches: what a step made of a batch of the source stays together, in order, since handing
    on each item by itself costs more than most steps do. ``errs`` must be attached to a quarantine, or
    failures vanish in silence."""

    oks: Stream[list[X]]
    errs: Stream[Failure]


def _is_failure(item: object) -> TypeGuard[Failure]:
    return type(item) is Failure


def _apart(outcomes: list[X | Failure]) -> list[list[X] | Failure]:
    failures = [outcome for outcome in outcomes if type(outcome) is Failure]
    if failures:
        oks = [outcome for outcome in outcomes if type(outcome) is not Failure]
        return [cast("list[X]", oks), *failures]
    return [cast("list[X]", outcomes)]


@operator
def try_batches(
    step_id: str, up: Stream[Sequence[X]], step: Callable[[Iterable[X]], list[Y | Failure]]
) -> Fallible[Y]:
    """Apply the step to each batch; failures go one way, each by itself, and the rest the other."""
    outcomes = op.flat_map("batch", up, lambda batch: _apart(step(batch)))
    split = op.branch("branch", outcomes, _is_failure)
    return Fallible(oks=cast("Stream[list[Y]]", split.falses), errs=split.trues)
