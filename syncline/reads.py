"""Reading through the cache: what a service embeds to read a copy fast, and to know how old the answer is.

    reads = Reads("redis://127.0.0.1:6379/0", flow="catalog_search")
    answer = reads.get("product:SKU-1", load=lambda: read_from_the_store("SKU-1"))

A fill never puts back what an invalidation removed: a miss takes a lease, and with it the tokens that the
entry depends on (``syncline/model/cache.py``), before the store is read; the entry is filled only if all are
unchanged then. The cache's absence never fails a read, and the store's only where the cache has nothing to
answer with.

Sources: R. Nishtala et al., "Scaling Memcache at Facebook", 2013, section 3.2.1 (leases); RFC 5861
(``stale-if-error``, ``stale-while-revalidate``).
"""

import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any, NamedTuple

import psycopg
import structlog

from syncline import cache_scripts
from syncline.circuit import REDIS_LONGEST_WAIT_SECONDS, Circuit
from syncline.model.answer import Answer, Forward, Source
from syncline.model.cache import entry_key, freshness_key, lease_key, token_keys
from syncline.model.errors import SynclineError, TransientError
from syncline.redis_contact import RedisContact
from syncline.stopping import Stop

__all__ = ["Answer", "Forward", "Lifetimes", "Load", "Reads", "Source"]

Load = Callable[[], bytes | None]
"""Reads the store; ``None`` says that it has none."""

SEARCH_DELAY = timedelta(seconds=5)
"""A search may not find yet what was written so long before: the index is refreshed every 3 s at least, which
takes a while."""
_FRESHNESS_KEPT_SECONDS = 1.0
_FRESHNESS_MISSING_SECONDS = 10.0
_AS_OF = "SELECT owner, (extract(epoch FROM as_of) * 1000000)::bigint FROM sync.freshness WHERE flow = %s"
_TELL_EVERY_SECONDS = 60.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Lifetimes:
    fresh: timedelta = timedelta(minutes=5)
    """Longest that a value is served as fresh, whatever invalidations are lost."""
    none: timedelta = timedelta(minutes=1)
    """The same, where the store has none."""
    stale_if_error: timedelta = timedelta(hours=1)
    """How long after that it still answers, flagged, while the store is away."""
    stale_while_revalidate: timedelta = timedelta(0)
    """How old a stale value may be that is served, flagged, while another reader fills the entry; 0:
    never."""
    lease: timedelta = timedelta(seconds=5)
    """Longest that a reader may take to read the store, and still fill the entry."""


class _Entry(NamedTuple):
    read_at_us: int
    fresh_until_us: int
    value: bytes | None
    as_of_us: int | None

    @classmethod
    def of(cls, fields: Sequence[bytes | None]) -> "_Entry | None":
        read_at_us, fresh_until_us, is_none, value, as_of_us, _ = fields
        if read_at_us is None or fresh_until_us is None:
            return None
        return cls(
            int(read_at_us),
            int(fresh_until_us),
            None if is_none == b"1" else value,
            int(as_of_us) if as_of_us else None,
        )


class _Look(NamedTuple):
    now_us: int
    """The server's, as all times of entries."""
    is_fresh: bool
    lease: str | None
    tokens: bytes
    as_of_us: int | None
    entry: _Entry | None


class Reads:
    """Reads of one flow's copy. Thread-safe; connects at the first read.

    ``unavailable`` are the errors by which ``load`` says that the store is away; others are the caller's own.
    ``owners`` are those of whose data the copy is made: how fresh it is is unknown until it is known of each.
    ``freshness_dsn`` is the database with ``sync.freshness``, asked while Redis cannot say how fresh the copy
    is.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        flow: str,
        owners: Collection[str] = (),
        freshness_dsn: str | None = None,
        unavailable: tuple[type[Exception], ...] = (TransientError,),
        lifetimes: Lifetimes | None = None,
        cache_name: str = "syncline",
    ) -> None:
        self._redis = RedisContact(redis_url, Circuit("redis", Stop(), REDIS_LONGEST_WAIT_SECONDS))
        self._look_script = self._redis.client.register_script(_script("look"))
        self._fill_script = self._redis.client.register_script(_script("fill"))
        self._freshness_key = freshness_key(flow)
        self._freshness = FreshnessTable(flow, owners, freshness_dsn)
        self._owners = owners
        self._unavailable = unavailable
        self._lifetimes = lifetimes or Lifetimes()
        self._cache_name = cache_name
        self._tell_again_at = 0.0

    def close(self) -> None:
        self._redis.close()

    def get(self, name: str, load: Load, tags: Collection[str] = ()) -> Answer:
        """The value by that name: cached and fresh, else read from the store, else stale and flagged as that.

        ``tags`` are what the entry is invalidated with besides its own name, and mark it as found by a
        search; they must be the same at each read of the name. Raises what ``load`` raises, where the cache
        cannot help.
        """
        look = self._look(name, tags)
        if look is None:
            return self._from_store_alone(load, tags)
        entry = look.entry
        if entry is not None and look.is_fresh:
            return self._cached(look, entry, None)
        kept = self._lifetimes.stale_while_revalidate
        if entry is not None and look.lease is None and look.now_us - entry.read_at_us <= _us(kept):
            return self._cached(look, entry, None, "being-filled")
        as_of_us = self._as_of_us(look.as_of_us, tags)
        try:
            value = load()
        except self._unavailable as error:
            if entry is None:
                raise
            _log.warning("the store is away; a stale entry answers", name=name, error=str(error))
            return self._cached(look, entry, Forward.STALE, "store-away")
        stored = self._fill(name, tags, look, value, as_of_us)
        return Answer(
            value,
            0.0,
            stale=False,
            as_of=_time(as_of_us),
            source=Source.STORE,
            cache=self._cache_name,
            forward=Forward.NO_ENTRY if entry is None else Forward.STALE,
            stored=stored,
            ttl=self._fresh_for(value).total_seconds() if stored else None,
            detail="" if stored else "being-filled" if look.lease is None else "overtaken",
        )

    def _look(self, name: str, tags: Collection[str]) -> _Look | None:
        drawn = uuid.uuid4().hex
        keys = [entry_key(name), lease_key(name), self._freshness_key, *token_keys(name, tags)]
        lifetimes = self._lifetimes
        tokens_kept = max(lifetimes.fresh, lifetimes.none) + lifetimes.lease
        try:
            now_us, state, tokens, freshness, fields = self._redis.call(
                self._look_script, keys, [drawn, _ms(lifetimes.lease), _ms(tokens_kept)]
            )
        except SynclineError as error:
            self._tell(error)
            return None
        lease = drawn if state == b"leased" else None
        by_owner = {
            owner.decode(): int(at_us) for owner, at_us in zip(freshness[::2], freshness[1::2], strict=True)
        }
        as_of_us = _slowest(by_owner, self._owners)
        return _Look(int(now_us), state == b"fresh", lease, tokens, as_of_us, _Entry.of(fields))

    def _fill(
        self, name: str, tags: Collection[str], look: _Look, value: bytes | None, as_of_us: int | None
    ) -> bool:
        if look.lease is None:
            return False
        fresh_for = self._fresh_for(value)
        fields: dict[str, Any] = {
            "read_at_us": look.now_us,
            "fresh_until_us": look.now_us + _us(fresh_for),
            "is_none": int(value is None),
            "value": value or b"",
            "as_of_us": "" if as_of_us is None else as_of_us,
        }
        keys = [entry_key(name), lease_key(name), *token_keys(name, tags)]
        kept = fresh_for + self._lifetimes.stale_if_error
        said = [each for field in fields.items() for each in field]
        try:
            return bool(
                self._redis.call(self._fill_script, keys, [look.lease, look.tokens, _ms(kept), *said])
            )
        except SynclineError as error:
            self._tell(error)
            return False

    def _from_store_alone(self, load: Load, tags: Collection[str]) -> Answer:
        as_of_us = self._as_of_us(None, tags)
        return Answer(
            load(),
            0.0,
            stale=False,
            as_of=_time(as_of_us),
            source=Source.STORE,
            cache=self._cache_name,
            forward=Forward.BYPASS,
            detail="cache-away",
        )

    def _cached(self, look: _Look, entry: _Entry, forward: Forward | None, detail: str = "") -> Answer:
        left = (entry.fresh_until_us - look.now_us) / 1e6
        return Answer(
            entry.value,
            max(0.0, (look.now_us - entry.read_at_us) / 1e6),
            stale=not look.is_fresh,
            as_of=_time(entry.as_of_us),
            source=Source.CACHE,
            cache=self._cache_name,
            forward=forward,
            # When it was invalidated is not known, but that it was.
            ttl=left if look.is_fresh else min(left, -1.0),
            detail=detail,
        )

    def _as_of_us(self, in_redis_us: int | None, tags: Collection[str]) -> int | None:
        """To be called before the store is read: what is said of the copy then is true of all that is read
        later."""
        as_of_us = self._freshness.as_of_us() if in_redis_us is None else in_redis_us
        if as_of_us is None or not tags:
            return as_of_us
        return as_of_us - _us(SEARCH_DELAY)

    def _tell(self, error: SynclineError) -> None:
        """Now and then: while the cache is away each read fails to use it."""
        now = time.monotonic()
        if now >= self._tell_again_at:
            self._tell_again_at = now + _TELL_EVERY_SECONDS
            _log.warning("the cache is of no use", error=f"{type(error).__name__}: {error}")

    def _fresh_for(self, value: bytes | None) -> timedelta:
        return self._lifetimes.none if value is None else self._lifetimes.fresh


class FreshnessTable:
    """What ``sync.freshness`` says of a flow, at most a second old; not having it fails nothing. Thread-safe.

    One thread at a time asks; others take what was said before, which is older and so never too much.
    """

    def __init__(self, flow: str, owners: Collection[str], dsn: str | None) -> None:
        self._flow = flow
        self._owners = owners
        self._dsn = dsn
        self._lock = threading.Lock()
        self._as_of_us: int | None = None
        self._ask_again_at = 0.0

    def as_of_us(self) -> int | None:
        if self._dsn is not None and self._lock.acquire(blocking=False):
            try:
                self._bring_up_to_date(self._dsn)
            finally:
                self._lock.release()
        return self._as_of_us

    def _bring_up_to_date(self, dsn: str) -> None:
        if time.monotonic() < self._ask_again_at:
            return
        try:
            with psycopg.connect(
                dsn, connect_timeout=2, options="-c statement_timeout=1000", application_name="syncline-reads"
            ) as connection:
                by_owner: dict[str, int | None] = dict(connection.execute(_AS_OF, (self._flow,)).fetchall())
            self._as_of_us = _slowest(by_owner, self._owners)
            self._ask_again_at = time.monotonic() + _FRESHNESS_KEPT_SECONDS
        except psycopg.Error as error:
            # What it said before stays true.
            _log.warning(
                "sync.freshness does not say how fresh the copy is", error=" ".join(str(error).split())
            )
            self._ask_again_at = time.monotonic() + _FRESHNESS_MISSING_SECONDS


def _slowest(by_owner: Mapping[str, int | None], owners: Collection[str]) -> int | None:
    """``None`` where it is unknown of any."""
    at_us = [by_owner.get(owner) for owner in {*owners, *by_owner}]
    known = [each for each in at_us if each is not None]
    return min(known) if known and len(known) == len(at_us) else None


def _script(name: str) -> str:
    return (resources.files(cache_scripts) / f"{name}.lua").read_text()


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)


def _us(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def _time(at_us: int | None) -> datetime | None:
    return None if at_us is None else datetime.fromtimestamp(at_us / 1e6, UTC)
