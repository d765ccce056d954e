"""The apply step's parts: deciding, the window of a worker, the lanes and their snapshots."""

import threading
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta

import pytest

from operators import window as window_module
from operators.apply import LaneLogic
from operators.decide import Decide, Emission
from operators.deliver import Deliver, crew_of
from operators.lanes import LANES, LaneBatch, group_by_lane, lane_of
from operators.window import Window
from syncline.model.change import Watermark
from syncline.model.decision import Applied, Conflict, Decision, LaneWatermark, Stamps
from syncline.model.document import CLOCK_TICKS_PER_MS, Document
from syncline.model.errors import CopyReplaced, FatalError, Invalid, Refused
from syncline.model.failure import Failure
from syncline.model.part import Part
from syncline.policies.search_document import SearchDocument
from syncline.policies.validation import RULES
from tests.changes import NOON_US, price_part, product_part, stock_part
from tests.memory_store import Crash, Fault, MemoryStore
from tests.operators.simulation import ManualClock, NoWait


def refuses_666(document: Document) -> str | None:
    prices, warehouses = document["prices"].values(), document["stock"]["by_warehouse"].values()
    if any(price["list_e4"] == 6_660_000 for price in prices):
        return "no such price"
    return "no such stock" if any(each["on_hand"] == 666 for each in warehouses) else None


class Bench:
    """The apply step over a store in memory."""

    def __init__(self, max_changes: int = 1_000) -> None:
        self.store = MemoryStore(refuses_666)
        self.clock = ManualClock()
        self.stop = NoWait()
        deliver = Deliver(self.store, SearchDocument(), 1 << 20, self.stop)
        self.apply = Decide(SearchDocument(), RULES, deliver, self.clock)
        self.window = Window(self.apply, max_changes, timedelta(milliseconds=5), self.clock)

    def lane(self, state: dict[str, object] | None = None) -> LaneLogic:
        return LaneLogic(self.window, self.store.identity(), state)

    def seed(self, *parts: Part) -> None:
        """Bring parts into the store without a trace in this worker's working set."""
        deliver = Deliver(self.store, SearchDocument(), 0, NoWait())
        Decide(SearchDocument(), RULES, deliver, self.clock)(parts)
        self.store.reads.clear()
        self.store.writes.clear()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def decisions(emissions: Sequence[Emission]) -> list[tuple[str, int, Decision]]:
    return [
        (emission.part.entity, emission.part.version.row, emission.decision)
        for emission in emissions
        if isinstance(emission, Applied)
    ]


def failures(emissions: Sequence[Emission]) -> list[Failure]:
    return [emission for emission in emissions if isinstance(emission, Failure)]


class TestDecide:
    def test_a_new_document_is_created_without_a_read(self, bench: Bench) -> None:
        emissions, undecided = bench.apply([product_part(1, is_first=True)])

        assert decisions(emissions) == [("product:SKU-1", 1, Decision.APPLIED)]
        assert undecided == []
        assert bench.store.reads == []
        assert bench.store.document("SKU-1")["name"] == "Kettle"

    def test_what_is_no_first_change_is_read_first(self, bench: Bench) -> None:
        bench.apply([product_part(7)])

        assert bench.store.reads == [["SKU-1"]]

    def test_a_document_that_was_not_new_after_all_is_read_and_merged(self, bench: Bench) -> None:
        bench.seed(price_part(1), product_part(3, name="Newer"))

        emissions, _ = bench.apply([product_part(1, is_first=True), stock_part(1, is_first=True)])

        assert sorted(decisions(emissions)) == [
            ("product:SKU-1", 1, Decision.SUPERSEDED),
            ("stock:W1:SKU-1", 1, Decision.APPLIED),
        ]
        document = bench.store.document("SKU-1")
        assert (document["name"], list(document["prices"])) == ("Newer", ["EUR"])
        assert bench.store.reads == [["SKU-1"]]

    def test_all_parts_of_a_document_go_in_one_write_and_all_documents_in_one_call(
        self, bench: Bench
    ) -> None:
        parts = [product_part(), price_part(), stock_part(), product_part(sku="SKU-2"), product_part(2)]

        bench.apply(parts)

        assert [[write.document_id for write in call] for call in bench.store.writes] == [["SKU-1", "SKU-2"]]

    def test_nothing_is_written_where_the_copy_says_it_all(self, bench: Bench) -> None:
        bench.seed(product_part(5))

        emissions, _ = bench.apply([product_part(5), product_part(4)])

        assert decisions(emissions) == [
            ("product:SKU-1", 5, Decision.DUPLICATE),
            ("product:SKU-1", 4, Decision.SUPERSEDED),
        ]
        assert bench.store.writes == []

    def test_a_rival_s_write_in_between_is_read_and_kept(self, bench: Bench) -> None:
        def write_in_between() -> None:
            bench.store.before_write = lambda: None
            bench.seed(price_part(9))

        bench.apply([product_part(1)])
        bench.store.before_write = write_in_between
        emissions, _ = bench.apply([stock_part(1), price_part(8)])

        assert sorted(decisions(emissions)) == [
            ("price:EUR:SKU-1", 8, Decision.SUPERSEDED),
            ("stock:W1:SKU-1", 1, Decision.APPLIED),
        ]
        document = bench.store.document("SKU-1")
        assert document["_sync"]["entities"]["price:EUR:SKU-1"]["version"] == [1, 9, 0, 0]
        assert document["stock"]["on_hand"] == 10
        assert document["name"] == "Kettle"

    def test_an_invalid_change_fails_and_the_next_best_one_stands(self, bench: Bench) -> None:
        invalid = price_part(3, list_amount="-1")

        emissions, _ = bench.apply([price_part(1), invalid, price_part(2), product_part(1)])

        (failure,) = failures(emissions)
        assert isinstance(failure.error, Invalid)
        assert (failure.step, failure.change, failure.message) == (
            "apply",
            invalid.change,
            invalid.change.message,
        )
        assert sorted(decisions(emissions)) == [
            ("price:EUR:SKU-1", 1, Decision.SUPERSEDED),
            ("price:EUR:SKU-1", 2, Decision.APPLIED),
            ("product:SKU-1", 1, Decision.APPLIED),
        ]

    def test_an_invalid_change_that_is_superseded_bothers_nobody(self, bench: Bench) -> None:
        bench.seed(price_part(4))

        emissions, _ = bench.apply([price_part(3, list_amount="-1")])

        assert decisions(emissions) == [("price:EUR:SKU-1", 3, Decision.SUPERSEDED)]
        assert failures(emissions) == []

    def test_of_a_refused_document_only_the_part_at_fault_fails(self, bench: Bench) -> None:
        refused = price_part(3, list_amount="666")

        emissions, _ = bench.apply([product_part(1), refused, price_part(2), stock_part(1)])

        (failure,) = failures(emissions)
        assert failure.change == refused.change
        assert isinstance(failure.error, Refused)
        assert str(failure.error) == "no such price"
        assert sorted(decisions(emissions)) == [
            ("price:EUR:SKU-1", 2, Decision.APPLIED),
            ("product:SKU-1", 1, Decision.APPLIED),
            ("stock:W1:SKU-1", 1, Decision.APPLIED),
        ]

    def test_two_refused_parts_are_both_found(self, bench: Bench) -> None:
        refused = [price_part(3, list_amount="666"), stock_part(3, on_hand=666)]

        emissions, _ = bench.apply([*refused, product_part(1)])

        assert {failure.change.entity.type for failure in failures(emissions) if failure.change} == {
            "price",
            "stock",
        }
        assert decisions(emissions) == [("product:SKU-1", 1, Decision.APPLIED)]

    def test_a_document_of_which_nothing_is_acceptable_does_not_come_to_be(self, bench: Bench) -> None:
        emissions, _ = bench.apply([price_part(3, list_amount="666"), price_part(2, list_amount="-1")])

        assert len(failures(emissions)) == 2
        assert bench.store.documents == {}

    def test_a_conflict_is_told_beside_the_decision(self, bench: Bench) -> None:
        parts = sorted(
            [stock_part(5, on_hand=1, reserved=0), stock_part(5, on_hand=2, reserved=0)],
            key=lambda part: part.rank,
        )

        emissions, _ = bench.apply(parts)

        assert decisions(emissions) == [
            ("stock:W1:SKU-1", 5, Decision.APPLIED),
            ("stock:W1:SKU-1", 5, Decision.REJECTED),
        ]
        (conflict,) = [emission for emission in emissions if isinstance(emission, Conflict)]
        assert conflict.part == parts[0]
        assert not conflict.won

    def test_a_deleted_product_leaves_its_version_and_a_late_price_does_not_show_it(
        self, bench: Bench
    ) -> None:
        bench.apply([product_part(1, is_first=True)])
        bench.apply([product_part(1, "delete")])
        bench.apply([product_part(1), price_part(1)])

        document = bench.store.document("SKU-1")
        assert document["_sync"]["hidden"] is True
        assert "name" not in document
        assert document["_sync"]["entities"]["product:SKU-1"]["version"] == [1, 1, 1, 0]

    def test_the_clock_of_a_document_grows_even_when_the_wall_clock_goes_back(self, bench: Bench) -> None:
        versions = []
        for row_version, now_us in (
            (1, NOON_US),
            (2, NOON_US),
            (3, NOON_US - 60_000_000),
            (4, NOON_US + 1_000),
        ):
            bench.clock.now_us = now_us
            emissions, _ = bench.apply([product_part(row_version)])
            (applied,) = emissions
            assert isinstance(applied, Applied)
            assert applied.document_version == bench.store.document("SKU-1")["_sync"]["version"]
            versions.append(applied.document_version)

        start = NOON_US // 1_000 * CLOCK_TICKS_PER_MS
        assert versions == [start, start + 1, start + 2, start + CLOCK_TICKS_PER_MS]

    def test_the_copy_says_where_each_part_came_from(self, bench: Bench) -> None:
        part = product_part(7)
        bench.clock.advance(5)

        bench.apply([part])

        assert bench.store.document("SKU-1")["_sync"]["entities"] == {
            "product:SKU-1": {
                "version": [1, 7, 0, 0],
                "hash": part.change.content_hash,
                "event_id": part.change.event_id,
                "origin": "syncline.catalog.product/0@0",
                "committed_at_us": part.change.committed_at_us,
                "synced_at_us": NOON_US + 5,
            }
        }

    def test_stamps_follow_the_parts_of_the_step(self, bench: Bench) -> None:
        times = iter(range(10, 50, 10))
        deliver = Deliver(bench.store, SearchDocument(), 0, NoWait())

        emissions, _ = Decide(SearchDocument(), RULES, deliver, lambda: next(times))([product_part()])

        (applied,) = emissions
        assert isinstance(applied, Applied)
        assert applied.stamps == Stamps(10, 20, 30, 40)

    def test_a_stop_leaves_undecided_what_the_store_did_not_take(self, bench: Bench) -> None:
        bench.store.write_faults.append(Fault.UNAVAILABLE)
        bench.stop.request()
        invalid, good = price_part(3, list_amount="-1"), product_part(1)

        emissions, undecided = bench.apply([invalid, good])

        assert [failure.change for failure in failures(emissions)] == [invalid.change]
        assert undecided == [good]

    def test_a_crash_tells_nothing(self, bench: Bench) -> None:
        bench.store.write_faults.append(Fault.CRASH_AFTER_WRITE)

        with pytest.raises(Crash):
            bench.apply([product_part(1)])


class TestGroupByLane:
    def test_a_document_s_lane_is_fixed_for_ever(self) -> None:
        lanes = {sku: lane_of(sku) for sku in ("SKU-1", "SKU-2", "Ünïcode", "😀", "")}

        assert lanes == {"SKU-1": "04", "SKU-2": "14", "Ünïcode": "12", "😀": "04", "": "00"}
        assert tuple(f"{number:02}" for number in range(16)) == LANES

    def test_parts_of_one_document_stay_together_and_in_order(self) -> None:
        parts = [product_part(1), price_part(1), product_part(2), stock_part(1)]

        assert list(group_by_lane(parts)) == [("04", LaneBatch("04", parts, []))]

    def test_without_a_watermark_only_lanes_with_parts_are_woken(self) -> None:
        parts = [product_part(sku=sku) for sku in ("SKU-1", "SKU-2")]

        assert [lane for lane, _ in group_by_lane(parts)] == ["04", "14"]

    def test_a_watermark_speaks_for_all_lanes(self) -> None:
        mark = Watermark("syncline.catalog.product", 3, 77)

        grouped = dict(group_by_lane([product_part(), mark]))

        assert list(grouped) == list(LANES)
        assert all(batch.watermarks == [mark] for batch in grouped.values())
        assert {lane for lane, batch in grouped.items() if batch.parts} == {"04"}

    def test_nothing_wakes_no_lane(self) -> None:
        assert list(group_by_lane([])) == []


def batch(part: Part, *watermarks: Watermark) -> LaneBatch:
    return LaneBatch(lane_of(part.document_id), [part], list(watermarks))


class TestWindow:
    def test_is_written_at_once_when_all_lanes_together_fill_it(self) -> None:
        bench = Bench(max_changes=2)

        bench.window.add(batch(product_part(sku="SKU-1")))
        assert bench.store.writes == []
        bench.window.add(batch(product_part(sku="SKU-2")))
        assert len(bench.store.writes) == 1
        assert len(decisions(bench.window.look())) == 2

    def test_is_written_when_its_first_change_has_waited_long_enough(self, bench: Bench) -> None:
        assert bench.window.look_at() is None
        bench.window.add(batch(product_part(1)))
        bench.clock.advance(4_000)
        bench.window.add(batch(product_part(2)))

        assert bench.window.look_at() == datetime(2026, 1, 1, 12, 0, 0, 5_000, tzinfo=UTC)
        bench.clock.advance(999)
        assert bench.window.look() == []
        bench.clock.advance(1)
        assert len(decisions(bench.window.look())) == 2
        assert bench.window.look_at() is None

    def test_a_watermark_alone_is_told_in_time_too(self, bench: Bench) -> None:
        bench.window.add(LaneBatch("03", [], [Watermark("topic", 1, 5)]))

        assert bench.window.look_at() is not None
        bench.clock.advance(5_000)
        assert bench.window.look() == [LaneWatermark("03", "topic/1", 5)]

    def test_nothing_opens_no_window(self, bench: Bench) -> None:
        bench.window.add(LaneBatch("03", [], []))

        assert bench.window.look_at() is None
        assert bench.window.close() == []

    def test_closing_writes_what_all_lanes_brought_in_one_call(self, bench: Bench) -> None:
        bench.window.add(batch(product_part(sku="SKU-1")))
        bench.window.add(batch(product_part(sku="SKU-2")))

        emissions = bench.window.close()

        assert len(decisions(emissions)) == 2
        assert len(bench.store.writes) == 1
        assert bench.window.look_at() is None
        assert not bench.window.pending("04")

    def test_watermarks_follow_the_changes_that_they_speak_of(self, bench: Bench) -> None:
        bench.window.add(batch(product_part(), Watermark("topic", 0, 5)))
        bench.window.add(LaneBatch("04", [], [Watermark("topic", 0, 9), Watermark("topic", 1, 2)]))

        applied, *marks = bench.window.close()

        assert isinstance(applied, Applied)
        assert marks == [LaneWatermark("04", "topic/0", 9), LaneWatermark("04", "topic/1", 2)]

    def test_what_a_stop_leaves_undecided_stays_and_holds_back_its_lane_s_watermark(
        self, bench: Bench
    ) -> None:
        part = product_part()
        bench.window.add(batch(part, Watermark("topic", 0, 5)))
        bench.window.add(LaneBatch("03", [], [Watermark("topic", 0, 5)]))
        bench.store.write_faults.append(Fault.UNAVAILABLE)
        bench.stop.request()

        emissions = bench.window.close()

        assert emissions == [LaneWatermark("03", "topic/0", 5)]
        assert bench.window.pending("04") == [part]

    def test_what_was_undecided_is_decided_at_the_next_closing(self, bench: Bench) -> None:
        bench.window.add(batch(product_part()))
        bench.store.write_faults.append(Fault.UNAVAILABLE)
        bench.stop.request()
        bench.window.close()

        assert decisions(bench.window.close()) == [("product:SKU-1", 1, Decision.APPLIED)]
        assert not bench.window.pending("04")


class TestWindowInTheBackground:
    """Large windows are written by other threads while the next one fills."""

    @pytest.fixture
    def bench(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
        monkeypatch.setattr(window_module, "PIPELINED_FROM", 2)
        bench = Bench(max_changes=2)
        self.may_write = threading.Event()
        bench.store.before_write = lambda: Waiting.until(self.may_write)
        yield bench
        self.may_write.set()
        bench.window.close()

    def fill(self, bench: Bench, first: int) -> list[Emission]:
        """Two changes of one document, and so of one crew."""
        told = bench.window.add(batch(product_part(first)))
        return told + bench.window.add(batch(price_part(first)))

    def test_nobody_waits_for_it_and_its_parts_are_pending_until_it_has_landed(self, bench: Bench) -> None:
        assert self.fill(bench, 1) == []
        assert bench.window.look() == []
        assert bench.window.look_at() is not None
        assert bench.window.pending("04") == [product_part(1), price_part(1)]

        bench.window.add(batch(stock_part(1)))
        assert bench.window.pending("04") == [product_part(1), price_part(1), stock_part(1)]

        self.may_write.set()
        emissions = Waiting.for_emissions(bench.window)
        assert len(decisions(emissions)) == 2
        assert bench.window.pending("04") == [stock_part(1)]

    def test_the_next_one_waits_for_it(self, bench: Bench) -> None:
        self.fill(bench, 1)
        self.may_write.set()

        emissions = self.fill(bench, 2)

        assert sorted(decisions(emissions)) == [
            ("price:EUR:SKU-1", 1, Decision.APPLIED),
            ("product:SKU-1", 1, Decision.APPLIED),
        ]
        assert len(decisions(bench.window.close())) == 2

    def test_its_watermarks_are_told_when_it_has_landed(self, bench: Bench) -> None:
        bench.window.add(LaneBatch("04", [], [Watermark("topic", 0, 5)]))
        self.fill(bench, 1)
        bench.window.add(LaneBatch("04", [], [Watermark("topic", 0, 9)]))
        assert bench.window.look() == []

        self.may_write.set()

        assert [each for each in Waiting.for_emissions(bench.window) if isinstance(each, LaneWatermark)] == [
            LaneWatermark("04", "topic/0", 5)
        ]
        assert bench.window.close() == [LaneWatermark("04", "topic/0", 9)]

    def test_an_error_in_the_background_ends_the_flow(self, bench: Bench) -> None:
        bench.store.write_faults.append(Fault.CRASH_BEFORE_WRITE)
        self.fill(bench, 1)
        self.may_write.set()

        with pytest.raises(Crash):
            bench.window.close()
        bench.window = Bench().window

    def test_crews_write_documents_of_their_own(self, bench: Bench) -> None:
        self.may_write.set()
        bench.window.add(LaneBatch("04", [product_part(sku=f"SKU-{number}") for number in range(40)], []))
        assert len(decisions(bench.window.close())) == 40

        written_by_crew = [{crew_of(write.document_id) for write in call} for call in bench.store.writes]
        assert sorted(map(list, written_by_crew)) == [[0], [1], [2], [3]]


class Waiting:
    """For other threads, with a deadline."""

    SECONDS = 30

    @classmethod
    def until(cls, event: threading.Event) -> None:
        assert event.wait(cls.SECONDS)

    @classmethod
    def for_emissions(cls, window: Window) -> list[Emission]:
        deadline = time.monotonic() + cls.SECONDS
        while time.monotonic() < deadline:
            if emissions := window.look():
                return emissions
        raise TimeoutError("nothing has landed")


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


class TestLaneLogic:
    def test_hands_its_changes_to_the_window_and_is_notified_when_it_is_over(self, bench: Bench) -> None:
        lane = bench.lane()
        assert lane.on_batch([batch(product_part(1)), batch(product_part(2))]) == ([], False)
        assert lane.notify_at() == bench.window.look_at()

        assert lane.on_notify() == ([], False)
        bench.clock.advance(5_000)
        emissions, is_complete = lane.on_notify()

        assert len(decisions(emissions)) == 2
        assert not is_complete
        assert lane.notify_at() is None

    def test_one_lane_closes_the_window_for_all(self, bench: Bench) -> None:
        first, second = bench.lane(), bench.lane()
        first.on_batch([batch(product_part(sku="SKU-1"))])
        second.on_batch([batch(product_part(sku="SKU-2"))])
        bench.clock.advance(5_000)

        assert len(decisions(first.on_notify()[0])) == 2
        assert second.on_notify() == ([], False)
        assert [lane.snapshot()["pending"] for lane in (first, second)] == [[], []]

    def test_the_end_of_input_applies_the_rest_and_keeps_the_state(self, bench: Bench) -> None:
        lane = bench.lane()
        lane.on_batch([batch(product_part(1))])

        emissions, is_complete = lane.on_eof()

        assert len(decisions(emissions)) == 1
        assert not is_complete

    def test_a_snapshot_holds_the_lane_s_own_pending_changes(self, bench: Bench) -> None:
        first, second = bench.lane(), bench.lane()
        first.on_batch([batch(product_part(sku="SKU-1"))])
        second.on_batch([batch(product_part(sku="SKU-2"))])

        pending = [
            [Part.from_plain(plain) for plain in lane.snapshot()["pending"]] for lane in (first, second)
        ]

        assert pending == [[product_part(sku="SKU-1")], [product_part(sku="SKU-2")]]

    def test_a_snapshot_is_made_of_plain_values(self, bench: Bench) -> None:
        lane = bench.lane()
        for part in (product_part(1), price_part(1, "delete"), stock_part(1)):
            lane.on_batch([batch(part, Watermark("topic", 0, 5))])

        assert_plain(lane.snapshot())

    def test_a_resumed_lane_brings_its_pending_changes_into_the_window(self, bench: Bench) -> None:
        parts = [product_part(1), price_part(1, "delete"), stock_part(1)]
        lane = bench.lane()
        lane.on_batch([batch(part) for part in parts])
        later = Bench()

        resumed = later.lane(deepcopy(lane.snapshot()))

        assert resumed.notify_at() is not None
        assert later.window.pending("04") == parts
        assert resumed.snapshot() == lane.snapshot()
        assert len(decisions(resumed.on_eof()[0])) == 3

    def test_a_lane_resumed_with_nothing_pending_asks_for_nothing(self, bench: Bench) -> None:
        lane = bench.lane()
        lane.on_batch([batch(product_part(1))])
        lane.on_eof()

        resumed = Bench().lane(lane.snapshot())

        assert resumed.notify_at() is None
        assert resumed.snapshot() == lane.snapshot()

    def test_what_resumed_lanes_come_to_is_told_even_when_they_fill_several_windows(
        self, bench: Bench
    ) -> None:
        states = []
        for part in (price_part(1, list_amount="-1"), product_part(sku="SKU-2"), product_part(sku="A")):
            lane = bench.lane()
            lane.on_batch([batch(part)])
            states.append(lane.snapshot())
        later = Bench(max_changes=1)

        lanes = [later.lane(state) for state in states]
        emissions = [emission for lane in lanes for emission in lane.on_eof()[0]]

        assert len(decisions(emissions)) == 2
        assert len(failures(emissions)) == 1

    def test_a_snapshot_of_another_format_is_named_and_what_to_do(self, bench: Bench) -> None:
        state = {**bench.lane().snapshot(), "format": 0}

        with pytest.raises(FatalError, match=r"format 0.*remove the recovery folder"):
            bench.lane(state)

    def test_another_copy_than_the_snapshot_s_demands_a_reload(self, bench: Bench) -> None:
        state = {**bench.lane().snapshot(), "store": "another"}

        with pytest.raises(CopyReplaced, match=r"another.*memory.*remove the recovery folder"):
            bench.lane(state)
