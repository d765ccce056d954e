"""Keeping what went well apart from what did not."""

from dataclasses import dataclass
from typing import Generic, TypeGuard, TypeVar, cast

import bytewax.operators as op
from bytewax.dataflow import Stream, operator

from syncline.model.failure import Failure

X = TypeVar("X")


@dataclass(frozen=True)
class Fallible(Generic[X]):
    """``errs`` must be attached to a quarantine, or failures vanish in silence."""

    oks: Stream[X]
    errs: Stream[Failure]


def _is_failure(item: object) -> TypeGuard[Failure]:
    return isinstance(item, Failure)


@operator
def split_failures(step_id: str, up: Stream[X | Failure]) -> Fallible[X]:
    """Send failures one way and everything else the other."""
    split = op.branch("branch", up, _is_failure)
    return Fallible(oks=cast("Stream[X]", split.falses), errs=split.trues)
