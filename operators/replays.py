"""What became of the quarantined messages that were replayed, told apart from all that went well or failed
for the first time."""

from collections.abc import Iterator
from dataclasses import dataclass

import bytewax.operators as op
from bytewax.dataflow import Stream, operator
from bytewax.operators import KeyedStream

from syncline.model.decision import Decided, Decision
from syncline.model.failure import Failure
from syncline.model.reentry import ReplayEnd, ReplayState

_STATES = {
    Decision.APPLIED: ReplayState.REPLAYED,
    Decision.DUPLICATE: ReplayState.REPLAYED,
    Decision.SUPERSEDED: ReplayState.OVERTAKEN,
    Decision.REJECTED: ReplayState.OVERTAKEN,
}


def ends_of(decided: Decided) -> Iterator[ReplayEnd]:
    """Of the replays among what was decided."""
    for applied in decided.applied:
        for verdict in applied.verdicts:
            replay_of = verdict.part.change.replay_of
            if replay_of is not None:
                yield ReplayEnd(replay_of, _STATES[verdict.decision])


def _end_of(failure: Failure) -> ReplayEnd | None:
    return None if failure.replay_of is None else ReplayEnd(failure.replay_of, ReplayState.OPEN, failure)


@dataclass(frozen=True)
class ReplayStreams:
    """``ends`` go to the entries that were replayed; ``errs`` are of the others, for a quarantine."""

    ends: Stream[ReplayEnd]
    errs: Stream[Failure]


@operator
def replays(step_id: str, oks: KeyedStream[Decided], failures: Stream[Failure]) -> ReplayStreams:
    """``oks`` are in the copy; ``failures`` are all failures of the flow."""
    in_copy = op.flat_map("in_copy", op.key_rm("unkey", oks), ends_of)
    failed_again = op.filter_map("failed_again", failures, _end_of)
    return ReplayStreams(
        ends=op.merge("ends", in_copy, failed_again),
        errs=op.filter("failed", failures, lambda failure: failure.replay_of is None),
    )
