"""Each race of readers with the flow, one interleaving at a time: what ``load`` does happens between a lease
and its fill."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from redis import Redis

from sinks.index_refresh import LONGEST_DISTANCE
from sinks.redis_invalidation import RedisInvalidation
from syncline.circuit import Circuits
from syncline.model.answer import Answer, Forward, Source
from syncline.model.cache import EPOCH_OF_ALL, SERVER, entry_key, freshness_key, invalidated_keys, lease_key
from syncline.model.errors import Misconfigured, Unavailable
from syncline.provision import search_index
from syncline.reads import SEARCH_DELAY, Lifetimes, Reads
from syncline.settings import Settings
from syncline.stopping import Stop
from tests.own import own_database
from tests.road import Road, port_of
from tests.waiting import eventually

NAME, LISTING, TAG = "product:SKU-1", "listing:kitchen", "category:kitchen"
FLOW = "catalog_search"
SHORT = timedelta(milliseconds=1)


@pytest.fixture
def reads(redis_url: str, redis: Redis) -> Iterator[Reads]:
    reads = Reads(redis_url, flow=FLOW)
    yield reads
    reads.close()


def never() -> bytes:
    raise AssertionError("the store was read")


def away() -> bytes:
    raise Unavailable("the store is away")


def with_lifetimes(reads: Reads, **changed: timedelta) -> Reads:
    reads._lifetimes = replace(Lifetimes(), **changed)
    return reads


def after(happened: Callable[[], object], value: bytes | None) -> Callable[[], bytes | None]:
    """The store is read, and before its answer is filled something happens."""

    def load() -> bytes | None:
        happened()
        return value

    return load


def test_a_miss_is_filled_and_the_next_read_is_a_hit(reads: Reads) -> None:
    missed = reads.get(NAME, lambda: b"v1")
    assert (missed.value, missed.age, missed.stale, missed.source) == (b"v1", 0.0, False, Source.STORE)
    assert (missed.forward, missed.stored, missed.age_header) == (Forward.NO_ENTRY, True, None)
    hit = reads.get(NAME, never)
    assert (hit.value, hit.stale, hit.source, hit.forward) == (b"v1", False, Source.CACHE, None)
    assert 0 < hit.age < 60
    assert hit.ttl is not None
    assert 200 < hit.ttl < 300


def test_an_invalidated_entry_is_read_again(reads: Reads, flow: RedisInvalidation) -> None:
    reads.get(NAME, lambda: b"v1")
    flow.invalidate([NAME])
    again = reads.get(NAME, lambda: b"v2")
    assert (again.value, again.forward, again.stored) == (b"v2", Forward.STALE, True)
    assert reads.get(NAME, never).value == b"v2"


@pytest.mark.parametrize("old", [b"v1", None], ids=["a value", "none"])
@pytest.mark.parametrize("invalidated", [NAME, "product"], ids=["its name", "all of its namespace"])
def test_a_fill_that_began_before_an_invalidation_puts_nothing_back(
    reads: Reads, flow: RedisInvalidation, old: bytes | None, invalidated: str
) -> None:
    overtaken = reads.get(NAME, after(lambda: flow.invalidate([invalidated]), old))
    assert (overtaken.value, overtaken.stored) == (old, False)
    assert reads.get(NAME, lambda: b"v2").value == b"v2"


@pytest.mark.parametrize("old", [b"v1", None], ids=["a value", "none"])
def test_nor_does_one_whose_name_was_filled_anew_meanwhile(
    reads: Reads, flow: RedisInvalidation, old: bytes | None
) -> None:
    def overtake() -> None:
        flow.invalidate([NAME])
        assert reads.get(NAME, lambda: b"v2").stored

    assert not reads.get(NAME, after(overtake, old)).stored
    assert reads.get(NAME, never).value == b"v2"


def test_a_fill_that_began_after_the_invalidation_stands(reads: Reads, flow: RedisInvalidation) -> None:
    def overtake() -> None:
        flow.invalidate([NAME])
        assert not reads.get(NAME, after(lambda: flow.invalidate([NAME]), b"v2")).stored

    assert not reads.get(NAME, after(overtake, b"v1")).stored
    assert reads.get(NAME, lambda: b"v3").stored
    assert reads.get(NAME, never).value == b"v3"


def test_that_there_is_none_is_cached_and_invalidated_too(reads: Reads, flow: RedisInvalidation) -> None:
    assert reads.get(NAME, lambda: None).stored
    known = reads.get(NAME, never)
    assert (known.value, known.source) == (None, Source.CACHE)
    assert known.ttl is not None
    assert known.ttl < 60
    flow.invalidate([NAME])
    assert reads.get(NAME, lambda: b"v1").value == b"v1"
    assert reads.get(NAME, never).value == b"v1"


def test_an_empty_value_is_not_none(reads: Reads) -> None:
    reads.get(NAME, lambda: b"")
    assert reads.get(NAME, never).value == b""


def test_an_expired_lease_fills_nothing(reads: Reads, redis: Redis) -> None:
    with_lifetimes(reads, lease=SHORT)
    late = after(lambda: eventually(lambda: not redis.exists(lease_key(NAME))), b"v1")
    assert not reads.get(NAME, late).stored
    assert not redis.exists(entry_key(NAME))


def test_nor_does_one_that_expired_and_is_another_s_now(reads: Reads, redis: Redis, redis_url: str) -> None:
    with_lifetimes(reads, lease=SHORT)
    other = Reads(redis_url, flow=FLOW)

    def be_late() -> None:
        eventually(lambda: not redis.exists(lease_key(NAME)))
        other.get(NAME, after(lambda: redis.persist(lease_key(NAME)), b"v2"))

    assert not reads.get(NAME, after(be_late, b"v1")).stored
    assert reads.get(NAME, never).value == b"v2"
    other.close()


@pytest.mark.parametrize("lost", ["epoch", "token", "lease", "all"])
def test_whatever_is_lost_between_lease_and_fill_nothing_is_filled(
    reads: Reads, redis: Redis, lost: str
) -> None:
    def lose() -> None:
        if lost == "all":
            redis.flushdb()
        else:
            redis.delete(*redis.keys(f"syncline:cache:{lost}*"))

    assert not reads.get(NAME, after(lose, b"v1")).stored
    assert not redis.exists(entry_key(NAME))


@pytest.mark.parametrize("lost", ["epoch", "token"])
def test_an_entry_whose_token_is_lost_is_not_fresh_and_never_again(
    reads: Reads, redis: Redis, lost: str
) -> None:
    reads.get(NAME, lambda: b"v1")
    redis.delete(*redis.keys(f"syncline:cache:{lost}*"))
    # Somebody else's read makes the tokens anew, and fills nothing.
    with pytest.raises(Unavailable):
        reads.get("product:SKU-2", away)
    assert reads.get(NAME, lambda: b"v2").value == b"v2"


def test_an_epoch_that_was_lost_is_made_anew_as_none_that_ever_was(reads: Reads, redis: Redis) -> None:
    """A counter would begin again, and fit entries and leases of before."""
    seen = set()
    for _ in range(5):
        with pytest.raises(Unavailable):
            reads.get(NAME, away)
        seen.add(redis.get(EPOCH_OF_ALL))
        redis.flushdb()
    assert len(seen) == 5


def test_a_redis_that_lost_all_of_it_fills_nothing_of_a_lease_of_before(
    reads: Reads, redis: Redis, redis_url: str
) -> None:
    """After a restart the first readers draw leases and epochs anew; one of before must fit none of them."""
    other = Reads(redis_url, flow=FLOW)

    def restart() -> None:
        redis.flushdb()
        other.get(NAME, after(lambda: redis.persist(lease_key(NAME)), b"v2"))

    assert not reads.get(NAME, after(restart, b"v1")).stored
    assert reads.get(NAME, never).value == b"v2"
    other.close()


class TestTags:
    def test_a_listing_is_invalidated_with_its_tag(self, reads: Reads, flow: RedisInvalidation) -> None:
        assert reads.get(LISTING, lambda: b"v1", [TAG]).stored
        assert reads.get(LISTING, never, [TAG]).value == b"v1"
        flow.invalidate([TAG])
        assert reads.get(LISTING, lambda: b"v2", [TAG]).value == b"v2"

    @pytest.mark.parametrize("invalidated", [TAG, "category"], ids=["the tag", "all tags of the namespace"])
    def test_a_fill_that_began_before_that_puts_nothing_back(
        self, reads: Reads, flow: RedisInvalidation, invalidated: str
    ) -> None:
        assert not reads.get(LISTING, after(lambda: flow.invalidate([invalidated]), b"v1"), [TAG]).stored
        assert reads.get(LISTING, lambda: b"v2", [TAG]).value == b"v2"

    def test_nor_where_another_listing_made_the_tag_anew(self, reads: Reads, flow: RedisInvalidation) -> None:
        def overtake() -> None:
            flow.invalidate([TAG])
            assert reads.get("listing:other", lambda: b"other", [TAG]).stored

        assert not reads.get(LISTING, after(overtake, b"v1"), [TAG]).stored
        assert reads.get(LISTING, lambda: b"v2", [TAG]).stored

    def test_other_tags_are_no_matter(self, reads: Reads, flow: RedisInvalidation) -> None:
        reads.get(LISTING, lambda: b"v1", [TAG])
        flow.invalidate(["category:garden", NAME])
        assert reads.get(LISTING, never, [TAG]).value == b"v1"


class TestHerd:
    def test_others_read_the_store_and_fill_nothing(self, reads: Reads) -> None:
        others: list[Answer] = []
        filled = reads.get(NAME, after(lambda: others.append(reads.get(NAME, lambda: b"v1")), b"v1"))
        [other] = others
        assert filled.stored
        assert (other.value, other.stored, other.source) == (b"v1", False, Source.STORE)
        assert other.cache_status_header == "syncline; fwd=uri-miss; detail=being-filled"

    def test_or_take_the_stale_entry_if_that_is_allowed(self, reads: Reads, flow: RedisInvalidation) -> None:
        with_lifetimes(reads, stale_while_revalidate=timedelta(minutes=1))
        reads.get(NAME, lambda: b"v1")
        flow.invalidate([NAME])
        others: list[Answer] = []
        reads.get(NAME, after(lambda: others.append(reads.get(NAME, never)), b"v2"))
        [other] = others
        assert (other.value, other.stale, other.forward) == (b"v1", True, None)
        assert other.cache_status_header == "syncline; hit; ttl=-1; detail=being-filled"
        assert reads.get(NAME, never).value == b"v2"

    def test_but_not_one_that_is_older(self, reads: Reads, flow: RedisInvalidation) -> None:
        with_lifetimes(reads, stale_while_revalidate=timedelta(microseconds=1))
        reads.get(NAME, lambda: b"v1")
        flow.invalidate([NAME])
        others: list[Answer] = []
        reads.get(NAME, after(lambda: others.append(reads.get(NAME, lambda: b"v2")), b"v2"))
        assert [(other.value, other.stale) for other in others] == [(b"v2", False)]


def test_a_stale_entry_answers_while_the_store_is_away_and_says_so(
    reads: Reads, flow: RedisInvalidation
) -> None:
    reads.get(NAME, lambda: b"v1")
    flow.invalidate([NAME])
    answer = reads.get(NAME, away)
    assert (answer.value, answer.stale, answer.source) == (b"v1", True, Source.CACHE)
    assert answer.age > 0
    assert answer.age_header == "1"
    assert answer.cache_status_header == "syncline; fwd=stale; ttl=-1; detail=store-away"


class TestStoreAway:
    def test_an_entry_past_its_time_answers_too(self, reads: Reads) -> None:
        with_lifetimes(reads, fresh=SHORT)
        reads.get(NAME, lambda: b"v1")
        eventually(lambda: reads.get(NAME, away).stale)
        answer = reads.get(NAME, away)
        assert answer.value == b"v1"
        assert answer.ttl is not None
        assert answer.ttl <= -1

    def test_but_not_for_ever(self, reads: Reads, redis: Redis) -> None:
        with_lifetimes(reads, fresh=SHORT, stale_if_error=SHORT)
        reads.get(NAME, lambda: b"v1")
        eventually(lambda: not redis.exists(entry_key(NAME)))
        with pytest.raises(Unavailable):
            reads.get(NAME, away)

    def test_what_is_not_said_to_mean_that_is_raised(self, reads: Reads, flow: RedisInvalidation) -> None:
        reads.get(NAME, lambda: b"v1")
        flow.invalidate([NAME])
        with pytest.raises(ZeroDivisionError):
            reads.get(NAME, after(lambda: 1 // 0, b""))


@pytest.mark.usefixtures("redis")
class TestRedisAway:
    @pytest.fixture
    def road(self, redis_url: str) -> Iterator[Road]:
        with Road(port_of(redis_url)) as road:
            yield road

    @pytest.fixture
    def away_reads(self, road: Road, redis_url: str) -> Iterator[Reads]:
        reads = Reads(f"redis://{road.address}/{redis_url.rpartition('/')[2]}", flow=FLOW)
        yield reads
        reads.close()

    def test_the_store_answers_and_the_cache_again_when_it_is_back(
        self, road: Road, away_reads: Reads
    ) -> None:
        away_reads.get(NAME, lambda: b"v1")
        road.close()
        for _ in range(3):
            answer = away_reads.get(NAME, lambda: b"v2")
            assert (answer.value, answer.stale, answer.source) == (b"v2", False, Source.STORE)
            assert answer.cache_status_header == "syncline; fwd=bypass; detail=cache-away"
        road.open()
        eventually(lambda: away_reads.get(NAME, lambda: b"v2").source is Source.CACHE)

    def test_one_read_alone_waits_for_a_redis_that_hangs(self, road: Road, away_reads: Reads) -> None:
        away_reads.get(NAME, lambda: b"v1")
        road.silence()
        away_reads.get(NAME, lambda: b"v1")
        assert away_reads._redis.is_away
        sent = road.swallowed_bytes
        done = [away_reads.get(NAME, lambda: b"v1").forward for _ in range(1_000)]
        assert set(done) == {Forward.BYPASS}
        # A thread of its own asks whether it is back: a PING or a greeting, and nothing of these reads.
        assert road.swallowed_bytes - sent < 2_000

    def test_a_fill_that_cannot_be_made_is_no_failure(self, road: Road, away_reads: Reads) -> None:
        answer = away_reads.get(NAME, after(road.close, b"v1"))
        assert (answer.value, answer.stored) == (b"v1", False)

    def test_a_redis_that_denies_access_is_no_failure_of_a_read(self, redis_url: str) -> None:
        denied = Reads(f"redis://nobody:wrong@{redis_url.rpartition('//')[2]}", flow=FLOW)
        assert denied.get(NAME, lambda: b"v1").value == b"v1"
        denied.close()

    def test_a_url_that_is_none_is_told(self) -> None:
        with pytest.raises(Misconfigured, match="redis_url"):
            Reads("localhost", flow=FLOW)


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def set_freshness(redis: Redis, **as_of: datetime) -> None:
    for owner, at in as_of.items():
        redis.hset(freshness_key(FLOW), owner, str(int(at.timestamp() * 1_000_000)))


class TestFreshness:
    def test_an_answer_is_as_fresh_as_the_slowest_owner(self, reads: Reads, redis: Redis) -> None:
        set_freshness(redis, catalog=NOON, pricing=NOON - timedelta(seconds=5))
        assert reads.get(NAME, lambda: b"v1").as_of == NOON - timedelta(seconds=5)
        set_freshness(redis, catalog=NOON + timedelta(hours=1), pricing=NOON + timedelta(hours=1))
        assert reads.get(NAME, never).as_of == NOON - timedelta(seconds=5), "what was read then is no younger"

    def test_it_is_what_was_known_before_the_store_was_read(self, reads: Reads, redis: Redis) -> None:
        set_freshness(redis, catalog=NOON)
        later = after(lambda: set_freshness(redis, catalog=NOON + timedelta(hours=1)), b"v1")
        assert reads.get(NAME, later).as_of == NOON

    def test_a_search_may_not_find_the_last_seconds(self, reads: Reads, redis: Redis) -> None:
        set_freshness(redis, catalog=NOON)
        assert reads.get(LISTING, lambda: b"v1", [TAG]).as_of == NOON - SEARCH_DELAY

    def test_searches_may_be_behind_by_the_time_between_two_refreshes_and_what_the_second_takes(self) -> None:
        interval = search_index(Settings())["settings"]["index"]["refresh_interval"]
        of_itself = timedelta(seconds=int(interval.removesuffix("s")))
        assert max(LONGEST_DISTANCE, of_itself) + timedelta(seconds=2) <= SEARCH_DELAY

    def test_unknown_is_said(self, reads: Reads) -> None:
        assert reads.get(NAME, lambda: b"v1").as_of is None
        assert reads.get(NAME, never).as_of is None

    def test_it_is_unknown_while_it_is_of_an_owner(self, redis_url: str, redis: Redis) -> None:
        set_freshness(redis, catalog=NOON)
        reads = Reads(redis_url, flow=FLOW, owners=("catalog", "pricing"))
        assert reads.get(NAME, lambda: b"v1").as_of is None
        reads.close()

    def test_without_redis_the_table_says_it(self, settings: Settings) -> None:
        with own_database(settings.postgres_dsn.get_secret_value(), "own_reads") as dsn:
            with psycopg.connect(dsn) as connection:
                connection.execute("CREATE SCHEMA sync")
                connection.execute("CREATE TABLE sync.freshness (flow text, owner text, as_of timestamptz)")
                connection.execute("INSERT INTO sync.freshness VALUES (%s, 'catalog', %s)", [FLOW, NOON])
            alone = Reads("redis://127.0.0.1:1/0", flow=FLOW, freshness_dsn=dsn)
            assert alone.get(NAME, lambda: b"v1").as_of == NOON
            assert alone.get(NAME, lambda: b"v1").as_of == NOON
            alone.close()
            with psycopg.connect(dsn) as connection:
                connection.execute("INSERT INTO sync.freshness VALUES (%s, 'pricing', NULL)", [FLOW])
            alone = Reads("redis://127.0.0.1:1/0", flow=FLOW, freshness_dsn=dsn)
            assert alone.get(NAME, lambda: b"v1").as_of is None
            alone.close()

    def test_nobody_who_could_say_it_is_no_failure(self) -> None:
        alone = Reads("redis://127.0.0.1:1/0", flow=FLOW, freshness_dsn="host=127.0.0.1 port=1")
        assert alone.get(NAME, lambda: b"v1").as_of is None
        alone.close()


class TestServerOfBefore:
    """Redis may come back with what it had on its disk, from before an invalidation."""

    def test_entries_of_another_server_are_stale(
        self, reads: Reads, redis: Redis, redis_url: str, flow: RedisInvalidation
    ) -> None:
        flow.invalidate(["product:any"])
        reads.get(NAME, lambda: b"v1")
        redis.set(SERVER, "the run id of a server that is no more")
        restarted = RedisInvalidation(redis_url, Circuits(Stop()).redis)
        restarted.invalidate(["product:any"])
        restarted.close()
        assert reads.get(NAME, lambda: b"v2").value == b"v2"

    def test_entries_of_this_one_are_not(self, reads: Reads, redis_url: str, flow: RedisInvalidation) -> None:
        flow.invalidate(["product:any"])
        reads.get(NAME, lambda: b"v1")
        again = RedisInvalidation(redis_url, Circuits(Stop()).redis)
        again.invalidate(["product:any"])
        again.close()
        assert reads.get(NAME, never).value == b"v1"


def test_a_plain_user_s_value_goes_with_the_invalidation(redis: Redis, flow: RedisInvalidation) -> None:
    redis.set(NAME, "of a service that keeps its own")
    flow.invalidate([NAME])
    assert not redis.exists(NAME)


def test_nothing_stays_for_ever(reads: Reads, redis: Redis, flow: RedisInvalidation) -> None:
    reads.get(LISTING, lambda: b"v1", [TAG])
    flow.invalidate([NAME])
    for key in redis.scan_iter("syncline:cache:*"):
        assert key.decode() == SERVER or redis.pttl(key) > 0, key


def test_many_threads_share_one_reader(reads: Reads) -> None:
    seen: list[bytes | None] = []
    threads = [
        threading.Thread(target=lambda: seen.append(reads.get(NAME, lambda: b"v1").value)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [b"v1"] * 8


def test_what_is_deleted_where_a_name_is_invalidated() -> None:
    assert invalidated_keys(NAME) == [NAME, f"syncline:cache:token:{NAME}", f"syncline:cache:lease:{NAME}"]
    assert invalidated_keys("product") == ["syncline:cache:epoch:product"]
