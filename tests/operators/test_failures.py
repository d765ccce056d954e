"""What a step made of a batch stays together, in order; each failure goes its own way, by itself."""

from collections.abc import Iterable, Sequence

from bytewax.dataflow import Dataflow, Stream
from bytewax.operators import input as op_input
from bytewax.operators import output
from bytewax.testing import TestingSink, TestingSource, run_main

from operators.decode import decode
from operators.failures import try_batches
from operators.transform import transform
from syncline.model.change import Watermark
from syncline.model.errors import Undecodable
from syncline.model.failure import Failure
from syncline.model.message import Message
from syncline.model.part import Part
from syncline.policies.reading import load_policies
from tests.changes import SEARCH, TOPIC_PREFIX, change_message, message, stock

MESSAGES = [change_message("stock", stock(), version, offset=version) for version in range(6)]


def failing_where_odd(items: Iterable[Message]) -> list[Message | Failure]:
    return [item if item.offset % 2 == 0 else Failure("decode", item, Undecodable()) for item in items]


def tried(batches: list[list[Message]]) -> tuple[list[list[int]], list[int]]:
    """The offsets of what went well, by batch, and of what failed."""
    oks: list[list[Message]] = []
    errs: list[Failure] = []
    flow = Dataflow("trying")
    up: Stream[Sequence[Message]] = op_input("in", flow, TestingSource(batches))
    fallible = try_batches("try", up, failing_where_odd)
    output("oks", fallible.oks, TestingSink(oks))
    output("errs", fallible.errs, TestingSink(errs))
    run_main(flow)  # type: ignore[no-untyped-call]
    return [[item.offset for item in batch] for batch in oks], [failure.message.offset for failure in errs]


def test_a_batch_stays_a_batch_and_its_failures_are_told_one_by_one() -> None:
    assert tried([MESSAGES[:4], MESSAGES[4:]]) == ([[0, 2], [4]], [1, 3, 5])


def test_a_batch_of_nothing_but_failures_loses_none() -> None:
    oks, errs = tried([[MESSAGES[1], MESSAGES[3]]])

    assert [offset for batch in oks for offset in batch] == []
    assert errs == [1, 3]


def test_messages_become_parts_batch_by_batch_around_the_bad_ones() -> None:
    """The operators of the flow, one after the other."""
    bad, unfit = message(b"{", offset=7), change_message("stock", stock(on_hand="many"), 8, offset=8)
    mark = message(None, key=None, headers=[("watermark", b"77")])
    log = [MESSAGES[1], bad, mark, MESSAGES[2], unfit, MESSAGES[3]]
    parts: list[list[Part | Watermark]] = []
    undecodable: list[Failure] = []
    untransformable: list[Failure] = []

    flow = Dataflow("making")
    up: Stream[Message] = op_input("in", flow, TestingSource(log, batch_size=4))
    decoded = decode("decode", up, load_policies().topics(TOPIC_PREFIX))
    made = transform("transform", decoded.oks, SEARCH)
    output("parts", made.oks, TestingSink(parts))
    output("undecodable", decoded.errs, TestingSink(undecodable))
    output("untransformable", made.errs, TestingSink(untransformable))
    run_main(flow)  # type: ignore[no-untyped-call]

    items = [item for batch in parts for item in batch]
    assert [item.version.row if isinstance(item, Part) else item.time_us for item in items] == [1, 77, 2, 3]
    assert len(parts) < len(items)
    assert [failure.message for failure in undecodable] == [bad]
    assert [failure.message for failure in untransformable] == [unfit]
