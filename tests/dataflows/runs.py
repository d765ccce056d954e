"""Every way in which Bytewax runs a flow, and what a source may do to it on the way."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSource, cluster_main, run_main
from bytewax.visualize import RenderedOperator, to_rendered

from syncline.model.message import Message

EPOCH = timedelta(0)
"""A snapshot after each batch of the source."""

ABORT, EOF = TestingSource.ABORT, TestingSource.EOF
Item = Message | TestingSource.EOF | TestingSource.ABORT
Run = Callable[..., None]


def in_one_thread(flow: Dataflow, **options: Any) -> None:  # noqa: ANN401 - Bytewax's own
    run_main(flow, **options)  # type: ignore[no-untyped-call]


def as_a_cluster_of_one(flow: Dataflow, **options: Any) -> None:  # noqa: ANN401
    cluster_main(flow, [], 0, **options)  # type: ignore[no-untyped-call]


def with_two_workers(flow: Dataflow, **options: Any) -> None:  # noqa: ANN401
    cluster_main(flow, [], 0, worker_count_per_proc=2, **options)  # type: ignore[no-untyped-call]


RUNS: dict[str, Run] = {
    "run_main": in_one_thread,
    "cluster_main": as_a_cluster_of_one,
    "cluster_main, 2 workers": with_two_workers,
}


def with_aborts(log: Sequence[Item]) -> list[Item]:
    return [*log[:2], ABORT(), *log[2:7], ABORT(), *log[7:11], ABORT(), ABORT(), *log[11:]]


def stateful_steps(flow: Dataflow) -> list[str]:
    """The ids of a flow's steps that recovery keeps state for, in order."""
    found: list[str] = []

    def descend(steps: Sequence[RenderedOperator]) -> None:
        for step in steps:
            if step.op_type in {"input", "output", "stateful_batch"}:
                found.append(step.step_id)
            descend(step.substeps)

    rendered = to_rendered(flow)
    descend(rendered.substeps)
    return found
