"""A lane hands its changes to the worker's window, and keeps in its snapshot what is pending."""

from copy import deepcopy

import pytest

from syncline.model.change import Watermark
from syncline.model.errors import CopyReplaced, FatalError
from syncline.model.part import Part
from tests.changes import price_part, product_part, stock_part
from tests.operators.apply_step import Bench, batch, decisions
from tests.operators.simulation import LateCrews


def assert_plain(value: object) -> None:
    """Built-in values only: a snapshot must be readable by a later version of the code."""
    assert type(value) in {dict, list, tuple, str, bytes, int, float, bool, type(None)}, repr(value)
    if isinstance(value, dict):
        for key, item in value.items():
            assert_plain(key)
            assert_plain(item)
    elif isinstance(value, list | tuple):
        for item in value:
            assert_plain(item)


def test_hands_its_changes_to_the_window_and_is_notified_when_it_is_over(bench: Bench) -> None:
    lane = bench.lane()
    assert lane.on_batch([batch(product_part(1)), batch(product_part(2))]) == ([], False)
    assert lane.notify_at() == bench.window.look_at()

    assert lane.on_notify() == ([], False)
    bench.clock.advance(5_000)
    told, is_complete = lane.on_notify()

    assert len(decisions(*told)) == 2
    assert not is_complete
    assert lane.notify_at() is None


def test_one_lane_is_woken_for_all_and_passes_the_duty_on(bench: Bench) -> None:
    first, second = bench.lane(), bench.lane()
    first.on_batch([batch(product_part(1))])
    due = first.notify_at()
    assert due is not None
    second.on_batch([batch(product_part(2, sku="OTHER"))])
    assert second.notify_at() is None, "the first lane is woken in time"
    assert first.notify_at() == due

    bench.clock.advance(5_000)
    told, _ = first.on_notify()
    assert len(decisions(*told)) == 2
    assert first.notify_at() is None

    second.on_batch([batch(product_part(3, sku="OTHER"))])
    assert second.notify_at() == bench.window.look_at() is not None, "nobody else is to be woken"
    assert first.notify_at() is None


def test_one_lane_closes_the_window_for_all(bench: Bench) -> None:
    first, second = bench.lane(), bench.lane()
    first.on_batch([batch(product_part(sku="SKU-1"))])
    second.on_batch([batch(product_part(sku="SKU-2"))])
    bench.clock.advance(5_000)

    assert len(decisions(*first.on_notify()[0])) == 2
    assert second.on_notify() == ([], False)
    assert [lane.snapshot()["pending"] for lane in (first, second)] == [[], []]


def test_the_end_of_input_applies_the_rest_and_keeps_the_state(bench: Bench) -> None:
    lane = bench.lane()
    lane.on_batch([batch(product_part(1))])

    told, is_complete = lane.on_eof()

    assert len(decisions(*told)) == 1
    assert not is_complete


def test_a_snapshot_holds_the_lane_s_own_pending_changes(bench: Bench) -> None:
    first, second = bench.lane(), bench.lane()
    first.on_batch([batch(product_part(sku="SKU-1"))])
    second.on_batch([batch(product_part(sku="SKU-2"))])

    pending = [[Part.from_plain(plain) for plain in lane.snapshot()["pending"]] for lane in (first, second)]

    assert pending == [[product_part(sku="SKU-1")], [product_part(sku="SKU-2")]]


def test_a_snapshot_is_made_of_plain_values(bench: Bench) -> None:
    lane = bench.lane()
    for part in (product_part(1), price_part(1, "delete"), stock_part(1)):
        lane.on_batch([batch(part, Watermark("topic", 0, 5))])

    assert_plain(lane.snapshot())


def test_a_resumed_lane_brings_its_pending_changes_into_the_window(bench: Bench) -> None:
    parts = [product_part(1), price_part(1, "delete"), stock_part(1)]
    lane = bench.lane()
    lane.on_batch([batch(part) for part in parts])
    later = Bench()

    resumed = later.lane(deepcopy(lane.snapshot()))

    assert resumed.notify_at() is not None
    assert later.window.pending("04") == parts
    assert resumed.snapshot() == lane.snapshot()
    assert len(decisions(*resumed.on_eof()[0])) == 3


def test_a_lane_resumed_with_nothing_pending_asks_for_nothing(bench: Bench) -> None:
    lane = bench.lane()
    lane.on_batch([batch(product_part(1))])
    lane.on_eof()

    resumed = Bench().lane(lane.snapshot())

    assert resumed.notify_at() is None
    assert resumed.snapshot() == lane.snapshot()


def test_what_resumed_lanes_come_to_is_told_even_when_they_fill_several_windows(bench: Bench) -> None:
    states = []
    for part in (price_part(1, list_amount="-1"), product_part(sku="SKU-2"), product_part(sku="A")):
        lane = bench.lane()
        lane.on_batch([batch(part)])
        states.append(lane.snapshot())
    later = Bench(max_changes=1)

    lanes = [later.lane(state) for state in states]
    told = [decided for lane in lanes for decided in lane.on_eof()[0]]

    assert len(decisions(*told)) == 2
    assert len([failure for decided in told for failure in decided.failures]) == 1


def test_a_snapshot_of_another_format_is_named_and_what_to_do(bench: Bench) -> None:
    state = {**bench.lane().snapshot(), "format": 0}

    with pytest.raises(FatalError, match=r"format 0.*remove the recovery folder"):
        bench.lane(state)


def test_another_copy_than_the_snapshot_s_demands_a_reload(bench: Bench) -> None:
    state = {**bench.lane().snapshot(), "store": "another"}

    with pytest.raises(CopyReplaced, match=r"another.*memory.*remove the recovery folder"):
        bench.lane(state)


def test_what_lands_while_several_batches_fill_the_window_is_told_as_one() -> None:
    bench = Bench(max_changes=1)
    crews = LateCrews.of(bench.window)

    told, _ = bench.lane().on_batch([batch(product_part(version)) for version in range(1, 9)])

    assert len(told) == 1
    assert [row_version for _, row_version, _ in decisions(*told)] == [1, 2, 3, 4, 5, 6, 7]
    assert len(crews.under_way) == 1


def test_a_snapshot_holds_what_is_in_flight_before_what_waits() -> None:
    bench = Bench(max_changes=8)
    LateCrews.of(bench.window)
    lane = bench.lane()
    lane.on_batch([batch(product_part(version)) for version in (1, 2, 3)])

    pending = [Part.from_plain(plain) for plain in lane.snapshot()["pending"]]

    assert pending == [product_part(version) for version in (1, 2, 3)]
    assert bench.store.writes == []
