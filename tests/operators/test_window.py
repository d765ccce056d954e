"""The window of a worker: under a light load written at once and together, under a heavy one by crews."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from operators import crew as crew_module
from operators import window as window_module
from operators.crew import FLIGHT_LASTS_AT_MOST
from operators.lanes import LANES, LaneBatch, lane_of
from operators.window import CREWS, Window
from syncline.model.change import Watermark
from syncline.model.decision import Decided, Decision, LaneWatermark
from syncline.model.part import Part
from tests.changes import price_part, product_part, stock_part
from tests.memory_store import Crash, Fault
from tests.operators.apply_step import Bench, batch, decisions
from tests.operators.simulation import LateCrews

MAX_AGE_US = 5_000


def mark(time_us: int, partition: int = 0) -> Watermark:
    return Watermark("topic", partition, time_us)


def large_part(size_bytes: int, row_version: int, sku: str) -> Part:
    part = product_part(row_version, sku=sku)
    message = part.change.message._replace(value=b"x" * size_bytes)
    return part._replace(change=part.change._replace(message=message))


def crew_of(document_id: str) -> int:
    return int(lane_of(document_id)) % CREWS


class TestWindow:
    """Under a light load."""

    def test_is_written_when_its_first_change_has_waited_long_enough(self, bench: Bench) -> None:
        assert bench.window.look_at() is None
        bench.window.add(batch(product_part(1)))
        bench.clock.advance(4_000)
        bench.window.add(batch(product_part(2)))

        assert bench.window.look_at() == datetime(2026, 1, 1, 12, 0, 0, MAX_AGE_US, tzinfo=UTC)
        bench.clock.advance(999)
        assert bench.window.look() == Decided()
        bench.clock.advance(1)
        assert len(decisions(bench.window.look())) == 2
        assert bench.window.look_at() is None

    def test_a_watermark_alone_is_told_in_time_too(self, bench: Bench) -> None:
        bench.window.add(LaneBatch("03", [], [Watermark("topic", 1, 5)]))

        assert bench.window.look_at() is not None
        bench.clock.advance(MAX_AGE_US)
        assert bench.window.look() == Decided(watermarks=[LaneWatermark("03", "topic/1", 5)])

    def test_nothing_opens_no_window(self, bench: Bench) -> None:
        bench.window.add(LaneBatch("03", [], []))

        assert bench.window.look_at() is None
        assert bench.window.close() == Decided()

    def test_what_all_crews_brought_is_written_in_one_call(self, bench: Bench) -> None:
        skus = ["A", "B", "D", "E"]
        assert {crew_of(sku) for sku in skus} == set(range(CREWS))
        for sku in skus:
            bench.window.add(batch(product_part(sku=sku)))
        bench.clock.advance(MAX_AGE_US)

        assert len(decisions(bench.window.look())) == CREWS
        assert [sorted(call) for call in bench.written] == [skus]

    def test_closing_writes_what_all_lanes_brought_in_one_call(self, bench: Bench) -> None:
        bench.window.add(batch(product_part(sku="SKU-1")))
        bench.window.add(batch(product_part(sku="SKU-2")))

        decided = bench.window.close()

        assert len(decisions(decided)) == 2
        assert len(bench.store.writes) == 1
        assert bench.window.look_at() is None
        assert not bench.window.pending("04")

    def test_watermarks_follow_the_changes_that_they_speak_of(self, bench: Bench) -> None:
        bench.window.add(batch(product_part(), mark(5)))
        bench.window.add(LaneBatch("04", [], [mark(9), mark(2, partition=1)]))

        decided = bench.window.close()

        assert len(decided.applied) == 1
        assert decided.watermarks == [LaneWatermark("04", "topic/0", 9), LaneWatermark("04", "topic/1", 2)]

    def test_what_a_stop_leaves_undecided_stays_and_holds_back_its_lane_s_watermark(
        self, bench: Bench
    ) -> None:
        part = product_part()
        bench.window.add(batch(part, mark(5)))
        bench.window.add(LaneBatch("08", [], [mark(5)]))
        bench.window.add(LaneBatch("03", [], [mark(5)]))
        bench.store.write_faults.append(Fault.UNAVAILABLE)
        bench.stop.request()

        decided = bench.window.close()

        assert decided.applied == []
        assert sorted(decided.watermarks) == [
            LaneWatermark("03", "topic/0", 5),
            LaneWatermark("08", "topic/0", 5),
        ]
        assert bench.window.pending("04") == [part]

    def test_what_a_stop_left_undecided_is_not_tried_again_at_the_next_closing(self, bench: Bench) -> None:
        """Each lane closes the window at the end of input: the store would be asked as often as that."""
        bench.window.add(batch(product_part(), mark(5)))
        bench.store.write_faults.append(Fault.UNAVAILABLE)
        bench.stop.request()
        bench.window.close()

        for _ in LANES:
            assert bench.window.close() == Decided()
        assert len(bench.store.writes) == 1
        assert bench.window.pending("04") == [product_part()]

    def test_a_stop_leaves_nothing_undecided_that_the_store_takes_at_once(self, bench: Bench) -> None:
        bench.stop.request()
        for row_version in (1, 2):
            bench.window.add(batch(product_part(row_version), mark(row_version)))

            told = bench.window.close()

            assert decisions(told) == [("product:SKU-1", row_version, Decision.APPLIED)]
            assert told.watermarks == [LaneWatermark("04", "topic/0", row_version)]

    def test_what_was_undecided_stays_before_what_came_later(self, bench: Bench) -> None:
        bench.window.add(batch(product_part(1)))
        bench.store.write_faults.append(Fault.UNAVAILABLE)
        bench.stop.request()
        bench.window.close()
        bench.window.add(batch(product_part(2)))

        assert bench.window.pending("04") == [product_part(1), product_part(2)]


class TestCrews:
    """Under a heavy load: each crew takes off and lands on its own. Their work ends when the test says so."""

    SHARE = 2
    HOT, ALSO_HOT, ALSO_HOT_2, COOL, COLD = "SKU-1", "D", "SKU-3", "SKU-2", "B"
    """The first three are documents of one crew, two in one lane; the others have crews of their own."""

    @pytest.fixture
    def bench(self) -> Bench:
        bench = Bench(max_changes=self.SHARE * CREWS)
        self.crews = LateCrews.of(bench.window)
        return bench

    def test_these_documents_are_of_three_crews(self) -> None:
        assert lane_of(self.HOT) == lane_of(self.ALSO_HOT)
        assert crew_of(self.ALSO_HOT_2) == crew_of(self.HOT)
        assert len({crew_of(sku) for sku in (self.HOT, self.COOL, self.COLD)}) == 3

    def add(self, bench: Bench, sku: str, row_version: int, *marks: Watermark) -> Decided:
        return bench.window.add(batch(product_part(row_version, sku=sku), *marks))

    def take_off(self, bench: Bench, sku: str, first: int = 1, *marks: Watermark) -> Decided:
        """With its share: two changes of one document."""
        assert self.add(bench, sku, first, *marks) == Decided()
        return self.add(bench, sku, first + 1)

    def test_a_crew_takes_off_when_it_has_its_share_and_no_sooner(self, bench: Bench) -> None:
        self.add(bench, self.HOT, 1)
        self.add(bench, self.COOL, 1)
        assert self.crews.under_way == []

        assert self.add(bench, self.ALSO_HOT, 1) == Decided()

        assert len(self.crews.under_way) == 1
        assert bench.store.writes == []
        self.crews.end_one(0)
        assert bench.written == [[self.HOT, self.ALSO_HOT]]
        assert len(decisions(bench.window.look())) == 2

    @pytest.mark.parametrize("max_changes", [1, 3, CREWS])
    def test_a_share_is_never_less_than_one_change(self, max_changes: int) -> None:
        bench = Bench(max_changes)
        crews = LateCrews.of(bench.window)

        bench.window.add(batch(product_part()))

        assert len(crews.under_way) == 1

    def test_watermarks_alone_fill_no_share(self, bench: Bench) -> None:
        for time_us in range(10):
            for lane in LANES:
                assert bench.window.add(LaneBatch(lane, [], [mark(time_us)])) == Decided()

        assert self.crews.under_way == []

    def test_crews_land_in_whatever_order_their_work_ends(self, bench: Bench) -> None:
        self.take_off(bench, self.HOT)
        self.take_off(bench, self.COOL)

        self.crews.end_one(1)
        assert decisions(bench.window.look()) == [
            (f"product:{self.COOL}", 2, Decision.APPLIED),
            (f"product:{self.COOL}", 1, Decision.SUPERSEDED),
        ]
        assert bench.window.look() == Decided()
        assert len(bench.window.pending(lane_of(self.HOT))) == 2

        self.crews.end_one(0)
        assert len(decisions(bench.window.look())) == 2
        assert bench.window.pending(lane_of(self.HOT)) == []

    def test_several_that_have_landed_are_told_at_one_look(self, bench: Bench) -> None:
        for sku in (self.HOT, self.COOL, self.COLD):
            self.take_off(bench, sku)
        self.crews.end_one(2)
        self.crews.end_one(0)

        told = bench.window.look()

        assert {applied.document_id for applied in told.applied} == {self.HOT, self.COLD}

    def test_a_slow_flight_keeps_no_other_crew_from_taking_off(self, bench: Bench) -> None:
        self.take_off(bench, self.HOT)

        for first in (1, 3, 5):
            self.take_off(bench, self.COOL, first)
            assert len(self.crews.under_way) == 2
            self.crews.end_one(1)
            assert [row_version for _, row_version, _ in decisions(bench.window.look())] == [first + 1, first]

        assert bench.written == [[self.COOL]] * 3
        assert len(bench.window.pending(lane_of(self.HOT))) == 2

    def test_a_crew_has_no_more_than_one_flight_under_way(self, bench: Bench) -> None:
        """The next one waits for it, and tells of it: so no change is overtaken by a later one of its own."""
        self.take_off(bench, self.HOT)

        assert self.take_off(bench, self.HOT, first=3) == Decided()

        assert len(self.crews.under_way) == 1
        self.crews.end_one(0)
        assert [row_version for _, row_version, _ in decisions(bench.window.look())] == [2, 1]
        assert len(self.crews.under_way) == 1
        assert [row_version for _, row_version, _ in decisions(bench.window.close())] == [4, 3]

    def test_a_window_filled_to_the_brim_waits(self, bench: Bench) -> None:
        self.take_off(bench, self.HOT)
        brim = round(window_module.BRIM_WINDOWS * self.SHARE * CREWS)
        for row_version in range(3, brim):
            assert self.add(bench, self.HOT, row_version) == Decided()

        told = self.add(bench, self.HOT, brim)

        assert [row_version for _, row_version, _ in decisions(told)] == [2, 1]
        assert len(bench.window.pending(lane_of(self.HOT))) == brim - 2

    def test_so_does_one_filled_to_its_brim_in_bytes(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(window_module, "BRIM_BYTES", 100_000)
        self.take_off(bench, self.HOT)
        bench.window.add(batch(large_part(60_000, 3, self.HOT)))
        assert self.add(bench, self.HOT, 4) == Decided()

        told = bench.window.add(batch(large_part(60_000, 5, self.HOT)))

        assert [row_version for _, row_version, _ in decisions(told)] == [2, 1, 5, 4, 3]
        assert bench.window.pending(lane_of(self.HOT)) == []

    def test_a_large_document_flies_alone(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(crew_module, "FLIGHT_MAX_BYTES", 100_000)
        monkeypatch.setattr(window_module, "POOLED_MAX_BYTES", 100_000)
        self.take_off(bench, self.HOT)
        bench.window.add(batch(product_part(1, sku=self.ALSO_HOT)))
        bench.window.add(batch(large_part(200_000, 1, self.ALSO_HOT_2)))
        bench.window.add(batch(product_part(3, sku=self.HOT)))

        bench.window.close()

        assert bench.written == [[self.HOT], [self.ALSO_HOT], [self.ALSO_HOT_2], [self.HOT]]

    def test_a_large_document_alone_is_written_in_the_background(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(window_module, "POOLED_MAX_BYTES", 100_000)
        bench.window.add(batch(large_part(200_000, 1, self.HOT)))
        bench.clock.advance(MAX_AGE_US)

        assert bench.window.look() == Decided()
        assert len(self.crews.under_way) == 1

    def test_below_its_share_a_crew_waits_for_its_flight_without_stopping_the_others(
        self, bench: Bench
    ) -> None:
        self.take_off(bench, self.HOT)

        assert self.add(bench, self.HOT, 3) == Decided()

        assert bench.window.pending(lane_of(self.HOT)) == [
            product_part(row_version, sku=self.HOT) for row_version in (1, 2, 3)
        ]
        assert len(self.crews.under_way) == 1

    def test_parts_are_pending_until_their_own_flight_has_landed(self, bench: Bench) -> None:
        self.take_off(bench, self.HOT)
        self.add(bench, self.HOT, 3)
        self.crews.end_one(0)
        assert len(bench.window.pending(lane_of(self.HOT))) == 3, "written, but not told"

        bench.window.look()

        assert bench.window.pending(lane_of(self.HOT)) == [product_part(3, sku=self.HOT)]

    def test_an_aged_window_is_not_written_while_a_crew_is_away(self, bench: Bench) -> None:
        self.take_off(bench, self.HOT)
        self.add(bench, self.COOL, 1)
        bench.clock.advance(MAX_AGE_US)

        assert bench.window.look() == Decided()
        assert bench.store.writes == []
        assert bench.window.look_at() == datetime.fromtimestamp(bench.clock() / 1e6, UTC) + timedelta(
            milliseconds=1
        )

        self.crews.end_one(0)
        assert {applied.document_id for applied in bench.window.look().applied} == {self.HOT, self.COOL}
        assert bench.written == [[self.HOT], [self.COOL]]

    def test_a_crew_that_is_always_away_keeps_the_others_back_only_for_so_long(self, bench: Bench) -> None:
        self.add(bench, self.COOL, 1)
        bench.clock.advance(MAX_AGE_US)
        self.take_off(bench, self.HOT)
        bench.clock.advance(round(window_module.LONGEST_WAIT.total_seconds() * 1e6))

        assert bench.window.look() == Decided()
        self.crews.end_one(0)
        self.crews.end_one(0)

        assert {applied.document_id for applied in bench.window.look().applied} == {self.HOT, self.COOL}

    def test_a_large_aged_window_is_written_by_each_crew_for_itself(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(window_module, "POOLED_BELOW", 3)
        bench = Bench()
        crews = LateCrews.of(bench.window)
        for sku in (self.HOT, self.COOL, self.COLD):
            bench.window.add(batch(product_part(sku=sku), mark(5)))
        bench.window.add(LaneBatch("03", [], [mark(7)]))
        bench.clock.advance(MAX_AGE_US)

        told = bench.window.look()
        assert told == Decided(watermarks=[LaneWatermark("03", "topic/0", 7)])
        assert len(crews.under_way) == 3

        for _ in range(3):
            crews.end_one(2)
            told.add(bench.window.look())
        assert sorted(bench.written) == sorted([[self.HOT], [self.COOL], [self.COLD]])
        assert len(told.applied) == 3
        assert sorted(told.watermarks) == sorted(
            [LaneWatermark(lane_of(sku), "topic/0", 5) for sku in (self.HOT, self.COOL, self.COLD)]
            + [LaneWatermark("03", "topic/0", 7)]
        )

    def test_one_change_less_and_it_is_written_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(window_module, "POOLED_BELOW", 3)
        bench = Bench()
        crews = LateCrews.of(bench.window)
        for sku in (self.HOT, self.COOL):
            bench.window.add(batch(product_part(sku=sku)))
        bench.clock.advance(MAX_AGE_US)

        assert len(decisions(bench.window.look())) == 2
        assert crews.under_way == []

    def test_watermarks_of_a_crew_follow_its_own_flights(self, bench: Bench) -> None:
        """Each stands behind a change of its lane, and before the next."""
        for sku in (self.HOT, self.COOL):
            self.take_off(bench, sku)
            bench.window.add(LaneBatch(lane_of(sku), [], [mark(5)]))
            self.add(bench, sku, 3, mark(9))

        self.crews.end_one(1)
        assert bench.window.look().watermarks == [LaneWatermark(lane_of(self.COOL), "topic/0", 5)]

        self.add(bench, self.COOL, 4)
        self.crews.end_one(1)
        assert bench.window.look().watermarks == [LaneWatermark(lane_of(self.COOL), "topic/0", 9)]

        self.crews.end_one(0)
        assert bench.window.look().watermarks == [LaneWatermark(lane_of(self.HOT), "topic/0", 5)]
        assert bench.window.close().watermarks == [LaneWatermark(lane_of(self.HOT), "topic/0", 9)]

    def test_a_lane_without_changes_of_its_own_has_its_watermark_told_with_its_crew_s_flight(
        self, bench: Bench
    ) -> None:
        lanes = [lane for lane in LANES if int(lane) % CREWS == crew_of(self.HOT)]
        for lane in lanes:
            bench.window.add(LaneBatch(lane, [], [mark(5)]))
        self.take_off(bench, self.HOT)

        self.crews.end_one(0)

        assert sorted(bench.window.look().watermarks) == [LaneWatermark(lane, "topic/0", 5) for lane in lanes]

    def test_what_a_stop_leaves_undecided_in_flight_stays_and_holds_back_its_lane_s_watermark(
        self, bench: Bench
    ) -> None:
        bench.window.add(LaneBatch("00", [], [mark(5)]))
        self.take_off(bench, self.HOT, 1, mark(5))
        bench.store.write_faults.append(Fault.UNAVAILABLE)
        bench.stop.request()
        self.crews.end_one(0)

        assert bench.window.look() == Decided(watermarks=[LaneWatermark("00", "topic/0", 5)])
        assert bench.window.pending(lane_of(self.HOT)) == [product_part(1), product_part(2)]
        assert self.crews.under_way == [], "nothing takes off again"

        self.add(bench, self.COOL, 1, mark(9))
        assert bench.window.close() == Decided(), "the store is away, and a stop waits for it only once"
        assert bench.window.pending(lane_of(self.HOT)) == [product_part(1), product_part(2)]
        assert bench.window.pending(lane_of(self.COOL)) == [product_part(1, sku=self.COOL)]

    def test_closing_waits_for_all_that_are_away_and_writes_the_rest_together(self, bench: Bench) -> None:
        self.take_off(bench, self.HOT, 1, mark(1))
        self.take_off(bench, self.COLD)
        self.add(bench, self.HOT, 3, mark(2))
        self.add(bench, self.COOL, 1)

        told = bench.window.close()

        assert sorted(bench.written) == sorted([[self.HOT], [self.COLD], [self.HOT, self.COOL]])
        assert len(decisions(told)) == 6
        assert [each.time_us for each in told.watermarks] == [1, 2]
        assert bench.window.look_at() is None
        assert not any(bench.window.pending(lane) for lane in LANES)

    def test_what_was_restored_waits_for_the_first_look(self, bench: Bench) -> None:
        parts = [product_part(row_version, sku=self.HOT) for row_version in range(1, 6)]

        bench.window.restore(lane_of(self.HOT), parts)

        assert self.crews.under_way == []
        assert bench.window.pending(lane_of(self.HOT)) == parts
        assert bench.window.look_at() is not None
        bench.window.look()
        self.crews.end_one(0)
        assert len(decisions(bench.window.look())) == 5


class TestCritical:
    """Prices overtake products between documents, and never within one."""

    SHARE = 2
    HOT, ALSO_HOT = TestCrews.HOT, TestCrews.ALSO_HOT

    @pytest.fixture
    def bench(self) -> Bench:
        bench = Bench(max_changes=self.SHARE * CREWS, critical={"price"})
        self.crews = LateCrews.of(bench.window)
        return bench

    def backlog(self, bench: Bench, sku: str = HOT) -> None:
        """A flight of normal changes that is away, and as many that wait for its return."""
        for row_version in (1, 2, 3, 4):
            assert bench.window.add(batch(product_part(row_version, sku=sku))) == Decided()
        assert len(self.crews.under_way) == 1

    def test_a_critical_change_overtakes_a_backlog_of_its_crew(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(window_module, "POOLED_BELOW", 5)
        self.backlog(bench)
        bench.window.add(batch(price_part(sku=self.ALSO_HOT)))
        bench.clock.advance(MAX_AGE_US)

        assert bench.window.look() == Decided()
        assert len(self.crews.under_way) == 2
        self.crews.end_one(1)

        assert decisions(bench.window.look()) == [(f"price:EUR:{self.ALSO_HOT}", 1, Decision.APPLIED)]
        assert bench.written == [[self.ALSO_HOT]]
        assert len(bench.window.pending(lane_of(self.HOT))) == 4

    def test_without_a_backlog_it_waits_a_little_for_those_that_are_away(self, bench: Bench) -> None:
        self.backlog(bench)
        bench.window.add(batch(price_part(sku=self.ALSO_HOT)))
        bench.clock.advance(MAX_AGE_US)
        bench.window.look()
        assert len(self.crews.under_way) == 1
        bench.clock.advance(50_000)
        bench.window.look()
        assert len(self.crews.under_way) == 2

    def test_with_a_share_of_critical_changes_nobody_waits_for_their_age(self, bench: Bench) -> None:
        self.backlog(bench)

        for version in (1, 2):
            bench.window.add(batch(price_part(version, sku=self.ALSO_HOT)))

        assert len(self.crews.under_way) == 2

    def test_none_takes_off_with_a_document_that_is_in_flight(self, bench: Bench) -> None:
        self.backlog(bench)
        bench.window.add(batch(price_part(sku=self.HOT)))
        bench.window.add(batch(price_part(2, sku=self.HOT)))
        bench.clock.advance(MAX_AGE_US)
        assert bench.window.look() == Decided()
        assert len(self.crews.under_way) == 1

        self.crews.end_one(0)
        assert len(decisions(bench.window.look())) == 2

        assert len(self.crews.under_way) == 1, "and when that has landed, all that waits for it goes along"
        self.crews.end_one(0)
        assert sorted(decisions(bench.window.look())) == [
            (f"price:EUR:{self.HOT}", 1, Decision.SUPERSEDED),
            (f"price:EUR:{self.HOT}", 2, Decision.APPLIED),
            (f"product:{self.HOT}", 3, Decision.SUPERSEDED),
            (f"product:{self.HOT}", 4, Decision.APPLIED),
        ]
        assert bench.written == [[self.HOT]] * 2
        assert bench.store.reads == [[self.HOT]], "nothing was turned away"

    def test_normal_changes_leave_a_document_of_a_critical_flight_where_it_is(self, bench: Bench) -> None:
        for version in (1, 2):
            bench.window.add(batch(price_part(version, sku=self.HOT)))
        assert len(self.crews.under_way) == 1
        for row_version, sku in ((1, self.HOT), (2, self.HOT), (1, self.ALSO_HOT)):
            bench.window.add(batch(product_part(row_version, sku=sku)))

        self.crews.end_one(1)
        bench.window.look()
        assert bench.written == [[self.ALSO_HOT]]

        bench.window.close()
        assert bench.written == [[self.ALSO_HOT], [self.HOT], [self.HOT]]

    def test_normal_changes_leave_a_document_to_its_critical_change_that_waits(self, bench: Bench) -> None:
        bench.window.add(batch(price_part(sku=self.HOT)))
        bench.window.add(batch(product_part(sku=self.HOT)))
        bench.window.add(batch(product_part(sku=self.ALSO_HOT)))

        assert len(self.crews.under_way) == 1
        self.crews.end_one(0)
        bench.window.look()
        assert bench.written == [[self.ALSO_HOT]]

        assert len(decisions(bench.window.close())) == 2
        assert bench.written == [[self.ALSO_HOT], [self.HOT]]

    def test_a_document_that_is_hot_with_critical_changes_has_its_normal_ones_written_too(
        self, bench: Bench
    ) -> None:
        bench.window.add(batch(product_part(1, sku=self.HOT)))
        for version in (1, 3, 5):
            for each in (version, version + 1):
                bench.window.add(batch(price_part(each, sku=self.HOT)))
        self.crews.end_one(0)
        told = bench.window.look()

        assert (f"product:{self.HOT}", 1, Decision.APPLIED) in decisions(told)

    def test_under_a_light_load_all_is_written_together(self, bench: Bench) -> None:
        bench.window.add(batch(product_part(sku=self.ALSO_HOT)))
        bench.window.add(batch(price_part(sku=self.HOT)))
        bench.clock.advance(MAX_AGE_US)

        assert len(decisions(bench.window.look())) == 2
        assert len(bench.written) == 1

    def test_a_watermark_waits_for_what_is_overtaken(self, bench: Bench) -> None:
        self.backlog(bench)
        lane = lane_of(self.ALSO_HOT)
        bench.window.add(batch(price_part(sku=self.ALSO_HOT), mark(5)))
        bench.clock.advance(MAX_AGE_US)
        bench.window.look()
        self.crews.end_one(1)

        assert bench.window.look().watermarks == []
        assert bench.window.close().watermarks == [LaneWatermark(lane, "topic/0", 5)]


def test_a_critical_change_is_written_before_the_backlog() -> None:
    """Of any number of products, all of which came before it, but for what had taken off."""
    bench = Bench(max_changes=400, critical={"price"})
    crews = LateCrews.of(bench.window)
    for number in range(900):
        bench.window.add(batch(product_part(sku=f"SKU-{number}")))
    had_taken_off = len(crews.under_way)
    bench.window.add(batch(price_part(sku="D")))
    bench.clock.advance(MAX_AGE_US)
    bench.window.look()

    told = bench.window.close()

    assert len(decisions(told)) == 901
    assert ["D"] in bench.written[: had_taken_off + 1]
    assert sum(map(len, bench.written[had_taken_off + 1 :])) >= 400


def test_beside_critical_changes_few_normal_flights_are_under_way_and_each_crew_has_its_turn() -> None:
    bench = Bench(max_changes=2 * CREWS, critical={"price"})
    crews = LateCrews.of(bench.window)
    flew: set[int] = set()
    for number in range(100):
        bench.window.add(batch(price_part(sku=f"D-{number}")))
        bench.window.add(batch(product_part(sku=f"SKU-{number}")))
        flying = {n for n, crew in enumerate(bench.window._crews) if crew.normal.flight is not None}
        assert len(flying) <= 2
        flew |= flying
        if number % 5 == 4:
            crews.end_one(0)
            bench.window.look()
    assert flew == set(range(CREWS))
    bench.window.close()
    assert len(bench.store.documents) == 200


def test_a_hot_document_is_written_a_few_times_and_holds_up_no_other() -> None:
    """It has half of all changes; others of its lane are written with it or before it."""
    bench = Bench(max_changes=80)
    crews = LateCrews.of(bench.window)
    told = Decided()
    for row_version in range(1, 101):
        bench.window.add(batch(product_part(row_version, sku=TestCrews.HOT)))
        bench.window.add(batch(product_part(sku=f"SKU-{row_version + 1}")))
        if row_version == 50:
            bench.window.add(batch(product_part(sku=TestCrews.ALSO_HOT)))
        if row_version in {60, 80}:
            crews.end_one(0)
            told.add(bench.window.look())
    assert TestCrews.ALSO_HOT in {applied.document_id for applied in told.applied}
    told.add(bench.window.close())

    assert len(decisions(told)) == 201
    assert sum(call.count(TestCrews.HOT) for call in bench.written) <= 4


class TestRoom:
    """What the source may read on."""

    def test_is_two_flights_of_each_crew_less_what_is_pending(self) -> None:
        bench = Bench(max_changes=8, critical={"price"})
        crews = LateCrews.of(bench.window)
        bench.window.look()
        assert bench.room.left == (16, window_module.PENDING_MAX_BYTES)

        for row_version in (1, 2, 3):
            bench.window.add(batch(product_part(row_version)))
        bench.window.add(batch(price_part(1)))
        changes, left_bytes = bench.room.left
        assert changes == 13
        assert left_bytes < window_module.PENDING_MAX_BYTES

        crews.end_one(0)
        bench.window.look()
        assert bench.room.left[0] == 15
        bench.window.close()
        assert bench.room.left == (16, window_module.PENDING_MAX_BYTES)

    def test_is_given_again_for_what_is_written_without_a_flight(self, bench: Bench) -> None:
        bench.window.add(batch(product_part()))
        assert bench.room.left[0] == 799
        bench.clock.advance(MAX_AGE_US)
        bench.window.look()
        assert bench.room.left[0] == 800

    def test_what_a_stop_left_undecided_takes_room(self, bench: Bench) -> None:
        bench.window.add(batch(product_part()))
        bench.store.write_faults.append(Fault.UNAVAILABLE)
        bench.stop.request()
        bench.window.close()
        assert bench.room.left[0] == 799

    def test_there_is_none_for_more_bytes_than_may_be_pending(self, bench: Bench) -> None:
        bench.window.add(batch(large_part(window_module.PENDING_MAX_BYTES + 1, 1, "SKU-1")))
        assert bench.room.left == (799, 0)


class TestPace:
    def test_flights_shrink_while_the_store_is_slow(self) -> None:
        bench = Bench(max_changes=400)
        crews = LateCrews.of(bench.window)
        skus = [sku for sku in (f"SKU-{number}" for number in range(700)) if crew_of(sku) == 0][:150]
        for sku in skus:
            bench.window.add(batch(product_part(sku=sku)))
        bench.clock.advance(round(FLIGHT_LASTS_AT_MOST.total_seconds() * 2e6))
        crews.end_one(0)
        bench.window.look()
        assert bench.room.left[0] == 2 * (300 + 50) - 50
        bench.window.close()

        assert [len(call) for call in bench.written] == [100, 50]

    @pytest.mark.parametrize(
        ("takes", "flights"), [(0.5, [200, 400, 100]), (8, [200, 100, 100, 100, 100, 100])]
    )
    def test_critical_flights_grow_with_a_backlog_and_stay_worth_their_while(
        self, takes: float, flights: list[int]
    ) -> None:
        bench = Bench(max_changes=1_600, critical={"price"})
        crews = LateCrews.of(bench.window)
        skus = [sku for sku in (f"SKU-{number}" for number in range(4_000)) if crew_of(sku) == 0][:700]
        for sku in skus:
            bench.window.add(batch(price_part(sku=sku)))
        while crews.under_way:
            bench.clock.advance(round(FLIGHT_LASTS_AT_MOST.total_seconds() * 1e6 * takes))
            crews.end_one(0)
            bench.window.look()

        assert [len(call) for call in bench.written] == flights

    def test_what_does_not_fit_takes_the_next_flight(self) -> None:
        bench = Bench(max_changes=8)
        crews = LateCrews.of(bench.window)
        skus = [TestCrews.HOT, TestCrews.ALSO_HOT, TestCrews.ALSO_HOT_2]
        for sku in skus:
            bench.window.restore(lane_of(sku), [product_part(sku=sku)])
        bench.window.add(batch(product_part(2, sku=skus[0])))
        assert len(crews.under_way) == 1

        bench.window.close()

        assert bench.written == [skus[:2], skus[2:]]


class TestThreads:
    """The crews of production: threads."""

    @pytest.fixture
    def bench(self) -> Iterator[Bench]:
        bench = Bench(max_changes=2 * CREWS)
        self.may_write = threading.Event()
        bench.store.before_write = lambda: Waiting.until(self.may_write)
        yield bench
        self.may_write.set()
        bench.window.close()

    def fill(self, bench: Bench, first: int) -> Decided:
        """Two changes of one document, and so a crew's share."""
        assert bench.window.add(batch(product_part(first))) == Decided()
        return bench.window.add(batch(price_part(first)))

    def test_nobody_waits_for_a_flight_and_its_parts_are_pending_until_it_has_landed(
        self, bench: Bench
    ) -> None:
        assert self.fill(bench, 1) == Decided()
        assert bench.window.look() == Decided()
        assert bench.window.look_at() is not None
        assert bench.window.pending("04") == [product_part(1), price_part(1)]

        bench.window.add(batch(stock_part(1)))
        assert bench.window.pending("04") == [product_part(1), price_part(1), stock_part(1)]

        self.may_write.set()
        assert len(decisions(Waiting.for_landing(bench.window))) == 2
        assert bench.window.pending("04") == [stock_part(1)]

    def test_the_next_flight_of_the_crew_waits_for_it(self, bench: Bench) -> None:
        self.fill(bench, 1)
        self.fill(bench, 2)
        self.may_write.set()

        assert sorted(decisions(Waiting.for_landing(bench.window))) == [
            ("price:EUR:SKU-1", 1, Decision.APPLIED),
            ("product:SKU-1", 1, Decision.APPLIED),
        ]
        assert len(decisions(bench.window.close())) == 2

    def test_a_hot_lane_s_slow_flight_does_not_keep_another_crew_from_landing(self, bench: Bench) -> None:
        """The hot lane's write hangs until the end of the test."""
        hot = threading.Event()
        hot_thread: list[int] = []

        def hang_the_first() -> None:
            if not hot_thread:
                hot_thread.append(threading.get_ident())
                hot.set()
                Waiting.until(self.may_write)

        bench.store.before_write = hang_the_first
        new = [product_part(1, is_first=True), price_part(1, is_first=True)]
        bench.window.add(LaneBatch("04", new, []))
        Waiting.until(hot)

        for first in (1, 3):
            for row_version in (first, first + 1):
                bench.window.add(batch(product_part(row_version, sku="SKU-2")))
            told = Waiting.for_landing(bench.window)
            assert {applied.document_id for applied in told.applied} == {"SKU-2"}
        assert bench.window.pending("04") == new

    def test_its_watermarks_are_told_when_it_has_landed(self, bench: Bench) -> None:
        bench.window.add(LaneBatch("04", [], [mark(5)]))
        self.fill(bench, 1)
        bench.window.add(batch(stock_part(1)))
        bench.window.add(LaneBatch("04", [], [mark(9)]))
        assert bench.window.look() == Decided()

        self.may_write.set()

        assert Waiting.for_landing(bench.window).watermarks == [LaneWatermark("04", "topic/0", 5)]
        assert bench.window.close().watermarks == [LaneWatermark("04", "topic/0", 9)]

    def test_an_error_in_the_background_ends_the_flow(self, bench: Bench) -> None:
        bench.store.write_faults.append(Fault.CRASH_BEFORE_WRITE)
        self.fill(bench, 1)
        self.may_write.set()

        with pytest.raises(Crash):
            bench.window.close()
        bench.window = Bench().window

    def test_crews_write_documents_of_their_own(self, bench: Bench) -> None:
        self.may_write.set()
        parts: dict[str, list[Part]] = {}
        for number in range(40):
            parts.setdefault(lane_of(f"SKU-{number}"), []).append(product_part(sku=f"SKU-{number}"))
        told = Decided()
        for lane, of_lane in parts.items():
            told.add(bench.window.add(LaneBatch(lane, of_lane, [])))
        told.add(bench.window.close())

        assert len(decisions(told)) == 40
        crews = [{crew_of(document_id) for document_id in call} for call in bench.written]
        background = [crew for crew in crews if len(crew) == 1]
        assert set().union(*background) == set(range(CREWS))
        assert len(background) >= len(crews) - 1, "but for the rest, which is written together"


class Waiting:
    """For other threads, with a deadline."""

    SECONDS = 30

    @classmethod
    def until(cls, event: threading.Event) -> None:
        assert event.wait(cls.SECONDS)

    @classmethod
    def for_landing(cls, window: Window) -> Decided:
        deadline = time.monotonic() + cls.SECONDS
        while time.monotonic() < deadline:
            if decided := window.look():
                return decided
        raise TimeoutError("nothing has landed")
