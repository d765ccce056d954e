"""Stale entries are invalidated; what Redis cannot take now is kept and taken later."""

import json
from collections.abc import Iterator

import pytest
from redis import Redis

from sinks.redis_invalidation import Invalidated, InvalidateLogic, RedisInvalidation, State
from syncline.circuit import Circuits
from syncline.model.cache import SERVER
from syncline.model.decision import Applied, Decided, Decision, LaneWatermark, Stamps, Verdict
from syncline.model.errors import BadCredentials, FatalError, Misconfigured, Unavailable
from syncline.model.part import Part
from syncline.policies.cache_keys import PRODUCT_RULES
from syncline.settings import Settings
from syncline.stopping import Stop
from tests.changes import NOON_US, price_part, product_part
from tests.road import Road
from tests.waiting import eventually

SECOND_US = 1_000_000
RETRY_US = SECOND_US // 4


class Now:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.us = NOON_US

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def redis(own: Settings) -> Iterator[Redis]:
    with Redis.from_url(own.redis_url.get_secret_value(), decode_responses=True) as redis:
        redis.flushdb()
        yield redis


@pytest.fixture
def road(own: Settings) -> Iterator[Road]:
    port = own.redis_url.get_secret_value().rpartition(":")[2].partition("/")[0]
    with Road(int(port)) as road:
        yield road


@pytest.fixture
def cache(own: Settings, road: Road) -> Iterator[RedisInvalidation]:
    database = own.redis_url.get_secret_value().rpartition("/")[2]
    cache = RedisInvalidation(f"redis://{road.address}/{database}", Circuits(Stop()).redis)
    yield cache
    cache.close()


def logic(cache: RedisInvalidation, now: Now, state: State | None = None) -> InvalidateLogic:
    return InvalidateLogic(cache, PRODUCT_RULES.stale, None, now, state)


def decided(part: Part) -> Decided:
    stamps = Stamps(NOON_US, NOON_US, NOON_US, NOON_US)
    return Decided([Applied(part.document_id, [Verdict(part, Decision.APPLIED)], 1, stamps)])


def fill(redis: Redis, *keys: str) -> None:
    for key in keys:
        redis.set(key, "stale")


def test_what_a_change_makes_stale_is_removed_and_nothing_else(
    redis: Redis, cache: RedisInvalidation
) -> None:
    fill(redis, "product:SKU-1", "price:SKU-1:EUR", "price:SKU-1:USD", "product:SKU-2")
    changes = [decided(product_part()), decided(price_part())]
    now = Now()
    told, is_done = logic(cache, now).on_batch(changes)
    assert not is_done
    assert told == [Invalidated(change, NOON_US) for change in changes]
    assert redis.exists("product:SKU-1", "price:SKU-1:EUR") == 0
    assert sorted(redis.keys()) == ["price:SKU-1:USD", "product:SKU-2", SERVER]


def test_many_keys_are_removed_whatever_their_number(redis: Redis, cache: RedisInvalidation) -> None:
    keys = [f"product:{n}" for n in range(12_001)]
    redis.mset(dict.fromkeys(keys, "stale"))
    cache.invalidate(keys)
    assert redis.keys() == [SERVER]
    cache.invalidate([])


def test_a_watermark_passes(cache: RedisInvalidation) -> None:
    mark = Decided(watermarks=[LaneWatermark("00", "t/0", NOON_US)])
    assert logic(cache, Now()).on_batch([mark]) == ([Invalidated(mark, NOON_US)], False)


def test_while_redis_is_away_the_flow_goes_on_and_the_keys_wait(
    redis: Redis, cache: RedisInvalidation, road: Road
) -> None:
    fill(redis, "product:SKU-1", "price:SKU-1:EUR")
    now = Now()
    lane = logic(cache, now)
    road.close()
    told, _ = lane.on_batch([decided(product_part())])
    assert len(told) == 1
    assert redis.get("product:SKU-1") == "stale"
    state = lane.snapshot()
    assert json.loads(json.dumps(state)) == state
    assert "product:SKU-1" in state["pending"]
    due = lane.notify_at()
    assert due is not None
    assert due.timestamp() * SECOND_US == NOON_US + RETRY_US

    # While it waits, more changes come: they join the queue, in order, and no call is made for each.
    assert len(lane.on_batch([decided(price_part())])[0]) == 1
    assert "price:SKU-1:EUR" in lane.snapshot()["pending"]

    now.us += RETRY_US
    lane.on_notify()
    assert lane.notify_at() is not None, "still away: it is tried again"
    road.open()
    eventually(lambda: not cache._redis.is_away)
    now.us += RETRY_US
    assert lane.on_notify() == ([], False)
    assert redis.keys() == [SERVER]
    assert lane.snapshot()["pending"] == []
    assert lane.notify_at() is None


def test_what_waited_is_removed_by_the_next_start(redis: Redis, cache: RedisInvalidation, road: Road) -> None:
    fill(redis, "product:SKU-1")
    now = Now()
    lane = logic(cache, now)
    road.close()
    lane.on_batch([decided(product_part())])
    lane.on_eof()
    state = lane.snapshot()
    road.open()
    eventually(lambda: not cache._redis.is_away)
    resumed = logic(cache, now, state)
    due = resumed.notify_at()
    assert due is not None
    assert due.timestamp() * SECOND_US <= now()
    resumed.on_notify()
    assert redis.keys() == [SERVER]
    assert logic(cache, now, resumed.snapshot()).notify_at() is None


def test_a_connection_that_broke_is_made_anew(redis: Redis, cache: RedisInvalidation, road: Road) -> None:
    cache.invalidate(["any"])
    road.close()
    with pytest.raises(Unavailable, match="Redis does not answer"):
        cache.invalidate(["product:SKU-1"])
    road.open()
    eventually(lambda: not cache._redis.is_away)
    fill(redis, "product:SKU-1")
    cache.invalidate(["product:SKU-1"])
    assert redis.keys() == [SERVER]


def test_a_wrong_password_is_told(own: Settings, redis: Redis) -> None:
    redis.acl_setuser("reader", enabled=True, passwords=["+secret"], commands=["+get"], keys=["*"])
    address = own.redis_url.get_secret_value().rpartition("//")[2]
    for user in ("reader:wrong", "reader:secret", "nobody:secret"):
        denied = RedisInvalidation(f"redis://{user}@{address}", Circuits(Stop()).redis)
        with pytest.raises(BadCredentials, match="Redis denies access"):
            denied.invalidate(["product:SKU-1"])
        denied.close()
    redis.acl_deluser("reader")


def test_a_url_that_is_none_is_told() -> None:
    with pytest.raises(Misconfigured, match="redis_url"):
        RedisInvalidation("localhost", Circuits(Stop()).redis)


def test_a_snapshot_of_another_format_is_told(cache: RedisInvalidation) -> None:
    with pytest.raises(FatalError, match="another format"):
        logic(cache, Now(), {"format": 99, "pending": []})
