"""What a change makes stale is removed after it, or kept until Redis takes it; the flow goes on meanwhile.

Only an absent Redis is played here; what a real one does is shown by the tests of the whole flow.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from sinks.redis_invalidation import Invalidated, InvalidateLogic, RedisInvalidation
from syncline.circuit import Circuits
from syncline.model.decision import Applied, Decided, Decision, LaneWatermark, Stamps, Verdict
from syncline.model.errors import FatalError, Unavailable
from syncline.model.part import Part
from syncline.policies.cache_keys import cache_keys
from syncline.stopping import Stop
from tests.changes import price_part, product_part
from tests.operators.simulation import ManualClock


class AwayForAWhile(RedisInvalidation):
    """Is away when told so, and keeps account of what it was asked to remove."""

    def __init__(self) -> None:
        super().__init__("redis://127.0.0.1:1", Circuits(Stop()).redis)
        self.is_away = False
        self.removed: list[set[str]] = []

    def remove(self, keys: Iterable[str]) -> None:
        if self.is_away:
            raise Unavailable
        self.removed.append(set(keys))


def decided(part: Part, decision: Decision = Decision.APPLIED) -> Decided:
    return Decided([Applied(part.document_id, [Verdict(part, decision)], 1, Stamps(0, 0, 0, 0))])


PRODUCT, PRICE = decided(product_part()), decided(price_part())
MARK = Decided(watermarks=[LaneWatermark("04", "topic/0", 5)])
PRODUCT_KEYS, PRICE_KEYS = {"product:SKU-1", "category:kitchen"}, {"product:SKU-1", "price:SKU-1:EUR"}


class Lane:
    def __init__(self, state: dict[str, object] | None = None) -> None:
        self.cache = AwayForAWhile()
        self.clock = ManualClock()
        self.logic = InvalidateLogic(self.cache, cache_keys, timedelta(seconds=1), self.clock, state)


@pytest.fixture
def lane() -> Lane:
    return Lane()


def test_a_batch_s_keys_are_removed_together_and_its_changes_go_on(lane: Lane) -> None:
    emitted, is_complete = lane.logic.on_batch([PRODUCT, MARK, PRICE])

    now_us = lane.clock.now_us
    assert emitted == [Invalidated(each, now_us) for each in (PRODUCT, MARK, PRICE)]
    assert not is_complete
    assert lane.cache.removed == [PRODUCT_KEYS | PRICE_KEYS]
    assert lane.logic.notify_at() is None


@pytest.mark.parametrize("decision", Decision)
def test_whatever_was_decided_the_keys_go(lane: Lane, decision: Decision) -> None:
    """The first delivery may have died between the write and the invalidation."""
    lane.logic.on_batch([decided(product_part(), decision)])

    assert lane.cache.removed == [PRODUCT_KEYS]


def test_a_watermark_alone_asks_nothing_of_redis(lane: Lane) -> None:
    assert lane.logic.on_batch([MARK]) == ([Invalidated(MARK, lane.clock.now_us)], False)

    assert lane.cache.removed == []


def test_while_redis_is_away_the_flow_goes_on_and_the_keys_are_kept(lane: Lane) -> None:
    lane.cache.is_away = True

    emitted, _ = lane.logic.on_batch([PRODUCT])
    lane.logic.on_batch([PRICE])

    assert emitted == [Invalidated(PRODUCT, lane.clock.now_us)]
    assert lane.logic.notify_at() == datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC)
    assert lane.logic.snapshot() == {"format": 1, "pending": sorted(PRODUCT_KEYS | PRICE_KEYS)}


def test_when_redis_is_back_all_that_was_kept_is_removed_at_once(lane: Lane) -> None:
    lane.cache.is_away = True
    lane.logic.on_batch([PRODUCT])
    lane.clock.advance(1_000_000)
    lane.logic.on_notify()
    assert lane.logic.notify_at() == datetime(2026, 1, 1, 12, 0, 2, tzinfo=UTC)

    lane.cache.is_away = False
    lane.logic.on_batch([PRICE])
    assert lane.cache.removed == []
    assert lane.logic.on_notify() == ([], False)

    assert lane.cache.removed == [PRODUCT_KEYS | PRICE_KEYS]
    assert lane.logic.notify_at() is None
    assert lane.logic.snapshot() == {"format": 1, "pending": []}


def test_the_end_of_input_tries_once_more_and_keeps_what_is_left(lane: Lane) -> None:
    lane.cache.is_away = True
    lane.logic.on_batch([PRODUCT])

    assert lane.logic.on_eof() == ([], False)
    assert lane.logic.snapshot()["pending"] == sorted(PRODUCT_KEYS)

    lane.cache.is_away = False
    lane.logic.on_eof()
    assert lane.logic.snapshot()["pending"] == []


def test_a_resumed_lane_removes_what_its_snapshot_kept(lane: Lane) -> None:
    lane.cache.is_away = True
    lane.logic.on_batch([PRODUCT])

    resumed = Lane(lane.logic.snapshot())

    assert resumed.logic.notify_at() == datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    resumed.logic.on_notify()
    assert resumed.cache.removed == [PRODUCT_KEYS]


def test_a_lane_resumed_with_nothing_kept_asks_for_nothing(lane: Lane) -> None:
    assert Lane(lane.logic.snapshot()).logic.notify_at() is None


def test_a_snapshot_of_another_format_is_fatal() -> None:
    with pytest.raises(FatalError, match="another format"):
        Lane({"format": 0, "pending": []})
