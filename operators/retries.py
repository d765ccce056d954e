"""What became of changes that came back from the retry queue, and what goes there for the first time."""

from collections.abc import Iterator
from dataclasses import dataclass

import bytewax.operators as op
from bytewax.dataflow import Stream, operator
from bytewax.operators import KeyedStream

from syncline.model.decision import Decided, Decision
from syncline.model.failure import Failure
from syncline.model.reentry import RetryEnd, RetryState

_STATES = {
    Decision.APPLIED: RetryState.DONE,
    Decision.DUPLICATE: RetryState.DONE,
    Decision.SUPERSEDED: RetryState.OVERTAKEN,
    Decision.REJECTED: RetryState.OVERTAKEN,
}


def ends_of(decided: Decided) -> Iterator[RetryEnd]:
    """Of the retries among what was decided."""
    for applied in decided.applied:
        for verdict in applied.verdicts:
            retry_of = verdict.part.change.retry_of
            if retry_of is not None:
                yield RetryEnd(retry_of, _STATES[verdict.decision])


def _end_as(state: RetryState, failure: Failure) -> RetryEnd | None:
    return None if failure.retry_of is None else RetryEnd(failure.retry_of, state, failure)


@dataclass(frozen=True)
class RetryStreams:
    """``ends`` go to the entries that came back; ``first`` are to be new ones."""

    ends: Stream[RetryEnd]
    first: Stream[Failure]


@operator
def retries(
    step_id: str, oks: KeyedStream[Decided], failures: Stream[Failure], postponed: Stream[Failure]
) -> RetryStreams:
    """``oks`` are in the copy; ``failures`` are all failures of the flow."""
    in_copy = op.flat_map("in_copy", op.key_rm("unkey", oks), ends_of)
    failed = op.filter_map("failed", failures, lambda failure: _end_as(RetryState.QUARANTINED, failure))
    again = op.filter_map("again", postponed, lambda failure: _end_as(RetryState.WAITING, failure))
    return RetryStreams(
        ends=op.merge("ends", in_copy, failed, again),
        first=op.filter("turned_back", postponed, lambda failure: failure.retry_of is None),
    )
