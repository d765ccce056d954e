"""Up to when a copy has everything: never ahead of the slowest lane, and kept when its process is no more."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest
from prometheus_client import REGISTRY
from redis import Redis

from sinks.freshness import Freshness
from sinks.postgres import PostgresWriter
from syncline.settings import Settings
from tests.changes import NOON_US

OWNERS = {"p.catalog.product": "catalog", "p.pricing.price": "pricing", "p.pricing.tax": "pricing"}
COUNTS = {"p.catalog.product": 2, "p.pricing.price": 1, "p.pricing.tax": 1, "p.sync.reentry": 1}
LANES = ("00", "01", "02")
CATALOG = ("p.catalog.product/0", "p.catalog.product/1")


def freshness(flow: str = "tests", now_us: int = NOON_US) -> Freshness:
    return Freshness(flow, OWNERS, lambda: COUNTS, LANES, lambda: now_us)


def say(freshness: Freshness, time_us: int, *partitions: str, lanes: tuple[str, ...] = LANES) -> None:
    for partition in partitions:
        for lane in lanes:
            freshness.reached(lane, partition, time_us)


def test_nothing_is_known_of_an_owner_until_all_its_partitions_have_spoken() -> None:
    told = freshness()
    assert told.by_owner() == {}
    say(told, 5, CATALOG[0])
    assert told.by_owner() == {}
    say(told, 7, CATALOG[1])
    assert told.by_owner() == {"catalog": dict.fromkeys(LANES, 5)}
    say(told, 9, "p.pricing.price/0")
    assert "pricing" not in told.by_owner()
    say(told, 3, "p.pricing.tax/0")
    assert told.by_owner()["pricing"] == dict.fromkeys(LANES, 3)


def test_each_lane_goes_by_its_own_slowest_partition() -> None:
    told = freshness()
    say(told, 10, *CATALOG)
    told.reached("01", CATALOG[0], 20)
    told.reached("02", CATALOG[0], 20)
    told.reached("02", CATALOG[1], 15)
    assert told.by_owner() == {"catalog": {"00": 10, "01": 10, "02": 15}}


def test_a_lane_that_has_not_met_every_partition_is_not_told_of() -> None:
    told = freshness()
    say(told, 10, CATALOG[0])
    told.reached("02", CATALOG[1], 10)
    assert told.by_owner() == {"catalog": {"02": 10}}


def test_what_was_told_late_takes_nothing_back() -> None:
    told = freshness()
    say(told, 10, *CATALOG)
    say(told, 8, *CATALOG)
    assert told.by_owner() == {"catalog": dict.fromkeys(LANES, 10)}


def test_the_topic_of_what_comes_back_has_no_owner_among_the_services() -> None:
    told = freshness()
    say(told, 10, "p.sync.reentry/0")
    assert told.by_owner() == {}


def test_prometheus_reads_an_age_that_grows() -> None:
    now = [NOON_US]
    told = Freshness("ageing", OWNERS, lambda: COUNTS, LANES, lambda: now[0])

    def age() -> float:
        labels = {"flow": "ageing", "owner": "catalog"}
        return REGISTRY.get_sample_value("syncline_freshness_seconds", labels) or 0.0

    assert math.isnan(age())
    say(told, NOON_US - 2_000_000, *CATALOG)
    assert age() == 2
    now[0] += 60_000_000
    assert age() == 62


@pytest.fixture
def dsn(own: Settings) -> str:
    dsn = own.postgres_dsn.get_secret_value()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE sync.freshness")
    return dsn


@pytest.fixture
def redis(own: Settings) -> Iterator[Redis]:
    with Redis.from_url(own.redis_url.get_secret_value(), decode_responses=True) as redis:
        redis.flushdb()
        yield redis


class Places:
    """Where readers look."""

    def __init__(self, dsn: str, redis: Redis) -> None:
        self._dsn = dsn
        self._redis = redis

    def tell(self, told: Freshness) -> None:
        writer = PostgresWriter(self._dsn, "freshness", "tests")
        writer.write(told.rows())
        writer.close()
        told.tell_redis(self._redis)

    @property
    def as_of(self) -> dict[str, int]:
        """What both say, in microseconds since the epoch."""
        with psycopg.connect(self._dsn) as connection:
            rows = connection.execute("SELECT owner, as_of FROM sync.freshness WHERE as_of IS NOT NULL")
            in_postgres = {owner: _microseconds(as_of) for owner, as_of in rows}
        in_redis = self._redis.hgetall("syncline:freshness:tests")
        assert {owner: int(as_of_us) for owner, as_of_us in in_redis.items()} == in_postgres
        return in_postgres


def _microseconds(time: datetime) -> int:
    since_epoch = time - datetime.fromtimestamp(0, UTC)
    return round(since_epoch.total_seconds() * 1e6)


@pytest.fixture
def places(dsn: str, redis: Redis) -> Places:
    return Places(dsn, redis)


def test_readers_are_told_of_the_lowest_of_all_lanes(places: Places) -> None:
    told = freshness()
    places.tell(told)
    assert places.as_of == {}
    say(told, NOON_US + 123_457, *CATALOG)
    told.reached("01", CATALOG[0], NOON_US + 900_000)
    places.tell(told)
    assert places.as_of == {"catalog": NOON_US + 123_457}
    say(told, NOON_US + 500_000, *CATALOG)
    places.tell(told)
    assert places.as_of == {"catalog": NOON_US + 500_000}


def test_of_several_processes_the_slowest_counts_and_nothing_is_told_before_all_have_spoken(
    places: Places,
) -> None:
    one, other = freshness(), freshness()
    say(one, NOON_US + 50, *CATALOG, lanes=("00", "02"))
    places.tell(one)
    assert places.as_of == {}
    say(other, NOON_US + 20, *CATALOG, lanes=("01",))
    places.tell(other)
    assert places.as_of == {"catalog": NOON_US + 20}
    say(one, NOON_US + 90, *CATALOG, lanes=("00", "02"))
    places.tell(one)
    assert places.as_of == {"catalog": NOON_US + 20}
    say(other, NOON_US + 95, *CATALOG, lanes=("01",))
    places.tell(other)
    assert places.as_of == {"catalog": NOON_US + 90}


def test_a_process_that_is_no_more_has_left_its_last_word(places: Places) -> None:
    """One that starts anew says nothing until it knows; then it may know less, never more than is so."""
    before = freshness()
    say(before, NOON_US + 70, *CATALOG)
    places.tell(before)
    started_again = freshness()
    places.tell(started_again)
    assert places.as_of == {"catalog": NOON_US + 70}
    say(started_again, NOON_US + 40, *CATALOG, lanes=("00",))
    places.tell(started_again)
    assert places.as_of == {"catalog": NOON_US + 40}


def test_redis_that_lost_everything_is_told_again(places: Places, redis: Redis) -> None:
    told = freshness()
    say(told, NOON_US, *CATALOG)
    places.tell(told)
    redis.flushdb()
    places.tell(told)
    assert places.as_of == {"catalog": NOON_US}
    assert redis.hgetall("syncline:freshness:tests") == {"catalog": str(NOON_US)}
