"""Step 8: make stale entries of the cache stale, after the copy has the new state and never before.

Best effort, but not careless: while Redis is away the flow goes on, and what is still to be invalidated
is kept in the snapshot until Redis has taken it. Where that is too much, a whole namespace is invalidated.

Listings are found by searches, which see a write only after a refresh of the index. Invalidated before it, a
listing could be filled with the old state again; so they wait for one.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import bytewax.operators as op
import structlog
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream, StatefulBatchLogic

from sinks.index_refresh import IndexRefresh
from syncline.circuit import Circuit
from syncline.clock import Clock, system_clock_us
from syncline.model.cache import EPOCH_OF_ALL, SERVER, invalidated_keys, namespace_of
from syncline.model.decision import Applied, Decided
from syncline.model.errors import FatalError, Unavailable
from syncline.policies.cache_keys import Stale
from syncline.redis_contact import RedisContact

_log = structlog.get_logger()

SNAPSHOT_FORMAT = 2
FIRST_FORMAT = 1
"""It did not tell listings from other names."""
RETRY_AFTER = timedelta(milliseconds=250)
"""With what the circuit adds, well within the second that stale entries may outlive Redis's return."""
LOOK_AFTER = timedelta(seconds=0.1)
"""How long listings wait before it is looked whether the index was refreshed."""
LONGEST_LAST_REFRESH = timedelta(seconds=1)
"""At a stop; what still waits then is the next start's."""
MAX_WAITING_NAMES = 10_000
"""A lane's, of either kind; with more, the namespaces stand for them."""
KEYS_PER_COMMAND = 5_000


class RedisInvalidation:
    """Invalidates names in one Redis; thread-safe, connects at the first call."""

    def __init__(self, url: str, circuit: Circuit) -> None:
        self._redis = RedisContact(url, circuit, on_connect=self._connected)
        self._is_known = False

    def close(self) -> None:
        self._redis.close()

    def invalidate(self, names: Iterable[str]) -> None:
        """Invalidate entries and tags; a name without a colon is a namespace, all of which is.

        Raises ``Unavailable``, also where only some of it was done, or a ``FatalError``.
        """
        keys = [key for name in names for key in invalidated_keys(name)]
        if keys:
            self._redis.call(self._unlink, keys)

    def _unlink(self, keys: list[str]) -> None:
        pipeline = self._redis.client.pipeline(transaction=False)
        for start in range(0, len(keys), KEYS_PER_COMMAND):
            pipeline.unlink(*keys[start : start + KEYS_PER_COMMAND])
        pipeline.execute()
        if not self._is_known:
            self._get_to_know_the_server()

    def _connected(self, connection: Any) -> None:  # noqa: ANN401 - the library tells no type
        self._is_known = False
        connection.on_connect()

    def _get_to_know_the_server(self) -> None:
        """A server that was restarted from its disk, or a replica that took over, may have entries and tokens
        of before an invalidation that its predecessor took."""
        self._is_known = True
        run_id = self._redis.client.info("server")["run_id"]
        known = self._redis.client.set(SERVER, run_id, get=True)
        if known != run_id.encode():
            self._redis.client.unlink(EPOCH_OF_ALL)
        if known not in {None, run_id.encode()}:
            _log.info("another Redis server than before: all of the cache is invalidated")


class Invalidated(NamedTuple):
    """Changes that are in the copy and whose stale cache entries are invalidated, or kept to be."""

    decided: Decided
    invalidated_at_us: int


StaleOf = Callable[[Iterable[Applied]], Stale]
State = dict[str, Any]


class InvalidateLogic(StatefulBatchLogic[Decided, Invalidated, State]):
    """One lane's invalidations. Without an index to refresh, listings wait for nothing."""

    def __init__(
        self,
        cache: RedisInvalidation,
        stale_of: StaleOf,
        refresh: IndexRefresh | None,
        clock: Clock,
        resume_state: State | None,
    ) -> None:
        self._cache = cache
        self._stale_of = stale_of
        self._refresh = refresh
        self._clock = clock
        self._pending: set[str] = set()
        self._listings: dict[int, set[str]] = {}
        """By the number of the first refresh that they may follow: the next one's, and those of one that
        runs."""
        self._retry_at: datetime | None = None
        if resume_state is not None:
            self._resume(resume_state)

    def _resume(self, state: State) -> None:
        if state["format"] not in {FIRST_FORMAT, SNAPSHOT_FORMAT}:
            raise FatalError("the snapshot of pending invalidations has another format")
        self._pending = set(state["pending"])
        self._await_refresh(state["listings"] if state["format"] == SNAPSHOT_FORMAT else state["pending"])
        self._retry_at = self._now() if self._pending else None

    def on_batch(self, values: list[Decided]) -> tuple[list[Invalidated], bool]:
        for decided in values:
            stale = self._stale_of(decided.applied)
            self._pending |= stale.entries
            self._await_refresh(stale.listings)
        self._pending = _bounded(self._pending)
        if self._retry_at is None:
            self._send()
        now_us = self._clock()
        return [Invalidated(decided, now_us) for decided in values], False

    def on_notify(self) -> tuple[list[Invalidated], bool]:
        self._send()
        return [], False

    def on_eof(self) -> tuple[list[Invalidated], bool]:
        if self._refresh is not None and self._listings:
            self._refresh.await_done(max(self._listings), LONGEST_LAST_REFRESH)
        self._send()
        return [], False

    def notify_at(self) -> datetime | None:
        if self._retry_at is None and self._listings:
            return self._now() + LOOK_AFTER
        return self._retry_at

    def snapshot(self) -> State:
        listings = set().union(*self._listings.values())
        return {"format": SNAPSHOT_FORMAT, "pending": sorted(self._pending), "listings": sorted(listings)}

    def _await_refresh(self, listings: Iterable[str]) -> None:
        if self._refresh is None:
            self._pending.update(listings)
            return
        number = self._refresh.next_number()
        waiting = self._listings.get(number, set()).union(listings)
        if waiting:
            self._listings[number] = _bounded(waiting)

    def _send(self) -> None:
        if self._refresh is not None:
            for number in sorted(self._listings):
                if self._refresh.is_done(number):
                    self._pending |= self._listings.pop(number)
        if not self._pending:
            return
        try:
            self._cache.invalidate(self._pending)
        except Unavailable as error:
            self._retry_at = self._now() + RETRY_AFTER
            _log.debug("invalidations wait", names=len(self._pending), error=str(error))
        else:
            self._pending = set()
            self._retry_at = None

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock() / 1e6, UTC)


def _bounded(names: set[str]) -> set[str]:
    if len(names) <= MAX_WAITING_NAMES:
        return names
    namespaces = {namespace_of(name) for name in names}
    _log.warning(
        "too many invalidations wait; all of the namespaces is invalidated", namespaces=sorted(namespaces)
    )
    return namespaces


@operator
def invalidate(
    step_id: str,
    up: KeyedStream[Decided],
    cache: RedisInvalidation,
    stale_of: StaleOf,
    refresh: IndexRefresh | None = None,
    clock: Clock = system_clock_us,
) -> KeyedStream[Invalidated]:
    """Invalidate what each change makes stale. Redelivered changes too: the first time may have died here."""

    def build(resume_state: State | None) -> InvalidateLogic:
        return InvalidateLogic(cache, stale_of, refresh, clock, resume_state)

    return op.stateful_batch("lanes", up, build)
