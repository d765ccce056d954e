"""What a change makes stale is invalidated after it, or kept until Redis takes it; the flow goes on
meanwhile.

Only an absent Redis is played here; what a real one does is shown by the tests of the whole flow.
"""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import wait
from datetime import UTC, datetime

import pytest

from sinks.index_refresh import IndexRefresh
from sinks.redis_invalidation import (
    LOOK_AFTER,
    MAX_WAITING_NAMES,
    Invalidated,
    InvalidateLogic,
    RedisInvalidation,
)
from syncline.circuit import Circuits
from syncline.model.decision import Applied, Decided, Decision, LaneWatermark, Stamps, Verdict
from syncline.model.errors import FatalError, Unavailable
from syncline.model.part import Part
from syncline.policies.cache_keys import PRODUCT_RULES
from syncline.stopping import Stop
from tests.changes import price_part, product_part
from tests.operators.simulation import ManualClock


class AwayForAWhile(RedisInvalidation):
    """Is away when told so, and keeps account of what it was asked to invalidate."""

    def __init__(self) -> None:
        super().__init__("redis://127.0.0.1:1", Circuits(Stop()).redis)
        self.is_away = False
        self.invalidated: list[set[str]] = []

    def invalidate(self, names: Iterable[str]) -> None:
        if self.is_away:
            raise Unavailable
        self.invalidated.append(set(names))


def decided(part: Part, decision: Decision = Decision.APPLIED) -> Decided:
    return Decided([Applied(part.document_id, [Verdict(part, decision)], 1, Stamps(0, 0, 0, 0))])


PRODUCT, PRICE = decided(product_part()), decided(price_part())
MARK = Decided(watermarks=[LaneWatermark("04", "topic/0", 5)])
ENTRIES = {"product:SKU-1"}
PRICE_ENTRIES = {"product:SKU-1", "price:SKU-1:EUR"}
LISTINGS = {"category:kitchen", "search:products"}


class Lane:
    """One that has no index to refresh, unless it is given one."""

    def __init__(self, state: dict[str, object] | None = None, refresh: IndexRefresh | None = None) -> None:
        self.cache = AwayForAWhile()
        self.clock = ManualClock()
        self.logic = InvalidateLogic(self.cache, PRODUCT_RULES.stale, refresh, self.clock, state)


@pytest.fixture
def lane() -> Lane:
    return Lane()


def test_a_batch_s_names_are_invalidated_together_and_its_changes_go_on(lane: Lane) -> None:
    emitted, is_complete = lane.logic.on_batch([PRODUCT, MARK, PRICE])

    now_us = lane.clock.now_us
    assert emitted == [Invalidated(each, now_us) for each in (PRODUCT, MARK, PRICE)]
    assert not is_complete
    assert lane.cache.invalidated == [PRICE_ENTRIES | LISTINGS]
    assert lane.logic.notify_at() is None


@pytest.mark.parametrize("decision", Decision)
def test_whatever_was_decided_the_names_are_invalidated(lane: Lane, decision: Decision) -> None:
    """The first delivery may have died between the write and the invalidation."""
    lane.logic.on_batch([decided(product_part(), decision)])

    assert lane.cache.invalidated == [ENTRIES | LISTINGS]


def test_a_watermark_alone_asks_nothing_of_redis(lane: Lane) -> None:
    assert lane.logic.on_batch([MARK]) == ([Invalidated(MARK, lane.clock.now_us)], False)

    assert lane.cache.invalidated == []


def test_while_redis_is_away_the_flow_goes_on_and_the_names_are_kept(lane: Lane) -> None:
    lane.cache.is_away = True

    emitted, _ = lane.logic.on_batch([PRODUCT])
    lane.logic.on_batch([PRICE])

    assert emitted == [Invalidated(PRODUCT, lane.clock.now_us)]
    assert lane.logic.notify_at() == datetime(2026, 1, 1, 12, 0, 0, 250_000, UTC)
    assert lane.logic.snapshot() == {
        "format": 2,
        "pending": sorted(PRICE_ENTRIES | LISTINGS),
        "listings": [],
    }


def test_when_redis_is_back_all_that_was_kept_is_invalidated_at_once(lane: Lane) -> None:
    lane.cache.is_away = True
    lane.logic.on_batch([PRODUCT])
    lane.clock.advance(250_000)
    lane.logic.on_notify()
    assert lane.logic.notify_at() == datetime(2026, 1, 1, 12, 0, 0, 500_000, UTC)

    lane.cache.is_away = False
    lane.logic.on_batch([PRICE])
    assert lane.cache.invalidated == []
    assert lane.logic.on_notify() == ([], False)

    assert lane.cache.invalidated == [PRICE_ENTRIES | LISTINGS]
    assert lane.logic.notify_at() is None
    assert lane.logic.snapshot() == {"format": 2, "pending": [], "listings": []}


def test_the_end_of_input_tries_once_more_and_keeps_what_is_left(lane: Lane) -> None:
    lane.cache.is_away = True
    lane.logic.on_batch([PRODUCT])

    assert lane.logic.on_eof() == ([], False)
    assert lane.logic.snapshot()["pending"] == sorted(ENTRIES | LISTINGS)

    lane.cache.is_away = False
    lane.logic.on_eof()
    assert lane.logic.snapshot()["pending"] == []


def test_a_resumed_lane_invalidates_what_its_snapshot_kept(lane: Lane) -> None:
    lane.cache.is_away = True
    lane.logic.on_batch([PRODUCT])

    resumed = Lane(lane.logic.snapshot())

    assert resumed.logic.notify_at() == datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    resumed.logic.on_notify()
    assert resumed.cache.invalidated == [ENTRIES | LISTINGS]


def test_a_lane_resumed_with_nothing_kept_asks_for_nothing(lane: Lane) -> None:
    assert Lane(lane.logic.snapshot()).logic.notify_at() is None


def test_a_snapshot_of_another_format_is_fatal() -> None:
    with pytest.raises(FatalError, match="another format"):
        Lane({"format": 0, "pending": []})


def test_more_names_than_a_lane_keeps_become_their_namespaces(lane: Lane) -> None:
    lane.cache.is_away = True
    skus = [f"SKU-{number}" for number in range(MAX_WAITING_NAMES // 2)]
    for sku in skus:
        lane.logic.on_batch([decided(price_part(sku=sku))])

    assert len(lane.logic.snapshot()["pending"]) < MAX_WAITING_NAMES
    lane.cache.is_away = False
    lane.logic.on_notify()

    [sent] = lane.cache.invalidated
    assert {"product", "price", "category", "search"} <= sent | {"category"}
    assert f"product:{skus[0]}" not in sent


class Index:
    """One whose refreshes end when they are told to."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.refreshes = 0
        self.is_over = False
        self._ends = threading.Event()
        self.refresh = IndexRefresh(self._refresh, clock)

    def _refresh(self) -> None:
        self.refreshes += 1
        self._ends.wait()
        if not self.is_over:
            self._ends.clear()

    def end(self) -> None:
        """Let go of all that wait: their threads would keep this process from ending."""
        self.is_over = True
        self._ends.set()

    def finish(self) -> None:
        assert self.refresh._running is not None
        self._ends.set()
        wait([self.refresh._running])


class TestListings:
    """They wait for a refresh of the index that began after the write."""

    @pytest.fixture
    def index(self) -> Iterator[Index]:
        index = Index(ManualClock())
        yield index
        index.end()

    @pytest.fixture
    def lane(self, index: Index) -> Lane:
        return Lane(refresh=index.refresh)

    def test_entries_are_invalidated_at_once_and_listings_after_the_refresh(
        self, lane: Lane, index: Index
    ) -> None:
        lane.logic.on_batch([PRODUCT])
        index.finish()
        assert lane.cache.invalidated == [ENTRIES]
        assert lane.logic.snapshot() == {"format": 2, "pending": [], "listings": sorted(LISTINGS)}
        due = lane.logic.notify_at()
        assert due == datetime(2026, 1, 1, 12, tzinfo=UTC) + LOOK_AFTER

        lane.logic.on_notify()
        assert lane.cache.invalidated == [ENTRIES, LISTINGS]
        assert lane.logic.notify_at() is None
        assert index.refreshes == 1

    def test_a_refresh_that_had_begun_before_the_write_is_not_enough(self, lane: Lane, index: Index) -> None:
        lane.logic.on_batch([PRODUCT])
        lane.logic.on_batch([decided(product_part(category="garden"))])
        index.finish()
        lane.logic.on_notify()
        assert lane.cache.invalidated[2:] == [LISTINGS]
        assert lane.logic.snapshot()["listings"] == ["category:garden", "search:products"]

    def test_what_changes_all_the_time_is_invalidated_after_each_refresh(
        self, lane: Lane, index: Index
    ) -> None:
        """A later change must not have the listing wait for ever."""
        lane.logic.on_batch([PRODUCT])
        for _ in range(3):
            lane.logic.on_batch([PRODUCT])
            index.finish()
            index.clock.advance(1_000_000)
            lane.logic.on_batch([PRODUCT])
        assert [names for names in lane.cache.invalidated if names >= LISTINGS] == [LISTINGS | ENTRIES] * 3

    def test_the_index_is_refreshed_once_a_second_at_most(self, lane: Lane, index: Index) -> None:
        for _ in range(10):
            lane.logic.on_batch([PRODUCT])
            lane.logic.on_notify()
        index.finish()
        for _ in range(2):
            lane.logic.on_notify()
        assert index.refreshes == 1

    @pytest.mark.parametrize(("took_ms", "distance_ms"), [(50, 1_000), (200, 2_000), (2_000, 3_000)])
    def test_refreshes_that_take_long_are_far_between(
        self, lane: Lane, index: Index, took_ms: int, distance_ms: int
    ) -> None:
        lane.logic.on_batch([PRODUCT])
        index.clock.advance(took_ms * 1_000)
        index.finish()
        lane.logic.on_batch([PRODUCT])
        index.clock.advance((distance_ms - took_ms) * 1_000 - 1)
        lane.logic.on_notify()
        assert index.refresh.next_number() == 2

        index.clock.advance(1)
        lane.logic.on_notify()
        assert index.refresh.next_number() == 3

    def test_at_the_end_of_input_a_refresh_is_waited_for(self) -> None:
        refreshes: list[int] = []
        refresh = IndexRefresh(lambda: refreshes.append(1), ManualClock())
        lane = Lane(refresh=refresh)
        for _ in range(2):
            lane.logic.on_batch([PRODUCT])
            lane.logic.on_eof()
        assert lane.cache.invalidated[-1] >= LISTINGS
        assert lane.logic.snapshot()["listings"] == []
        assert len(refreshes) <= 4

    def test_one_that_fails_leaves_them_to_the_next_start(self) -> None:
        def fail() -> None:
            raise Unavailable

        lane = Lane(refresh=IndexRefresh(fail, ManualClock()))
        lane.logic.on_batch([PRODUCT])
        lane.logic.on_eof()
        assert lane.logic.snapshot()["listings"] == sorted(LISTINGS)
        assert lane.cache.invalidated == [ENTRIES]

    def test_a_resumed_lane_waits_for_a_refresh_of_its_own(self, lane: Lane, index: Index) -> None:
        lane.logic.on_batch([PRODUCT])
        index.finish()
        another = Index(ManualClock())
        resumed = Lane(lane.logic.snapshot(), another.refresh)
        resumed.logic.on_notify()
        assert resumed.cache.invalidated == []
        another.finish()
        resumed.logic.on_notify()
        assert resumed.cache.invalidated == [LISTINGS]

    def test_what_an_older_version_kept_may_be_listings(self, index: Index) -> None:
        kept = sorted(ENTRIES | LISTINGS)
        resumed = Lane({"format": 1, "pending": kept}, index.refresh)
        resumed.logic.on_notify()
        index.finish()
        resumed.logic.on_notify()
        assert resumed.cache.invalidated == [set(kept)] * 2
