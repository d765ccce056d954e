"""Step 8: take stale entries out of the cache, after the copy has the new state and never before.

Best effort, but not careless: while Redis is away the flow goes on, and what is still to be invalidated
is kept in the snapshot until Redis has taken it.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import bytewax.operators as op
import structlog
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream, StatefulBatchLogic
from redis import Redis
from redis.exceptions import AuthenticationError, ConnectionError, NoPermissionError, RedisError, TimeoutError  # noqa: A004

from syncline.circuit import Circuit
from syncline.clock import Clock, system_clock_us
from syncline.model.decision import Applied, Decided
from syncline.model.errors import BadCredentials, FatalError, Misconfigured, Unavailable

_log = structlog.get_logger()

SNAPSHOT_FORMAT = 1
TIMEOUT_SECONDS = 1.0
RETRY_AFTER = timedelta(milliseconds=250)
"""With what the circuit adds, well within the second that stale entries may outlive Redis's return."""
KEYS_PER_COMMAND = 5_000


class RedisInvalidation:
    """Removes keys from one Redis; thread-safe, connects at the first call."""

    def __init__(self, url: str, circuit: Circuit) -> None:
        self._circuit = circuit
        try:
            self._client = Redis.from_url(
                url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
            )
        except ValueError as error:
            raise Misconfigured(f"redis_url: {error}") from error

    def close(self) -> None:
        self._client.close()

    def remove(self, keys: Iterable[str]) -> None:
        """Remove the keys that exist. Raises ``Unavailable``, at once while the circuit is open, or a
        ``FatalError``."""
        self._circuit.attempt(self._remove, list(keys))

    def _remove(self, names: Sequence[str]) -> None:
        try:
            for start in range(0, len(names), KEYS_PER_COMMAND):
                self._client.unlink(*names[start : start + KEYS_PER_COMMAND])
        except (AuthenticationError, NoPermissionError) as error:
            raise BadCredentials(f"Redis denies access: {error}") from error
        except (ConnectionError, TimeoutError) as error:
            raise Unavailable(f"Redis does not answer: {error}") from error
        except RedisError as error:
            raise FatalError(f"Redis refuses to remove keys: {error}") from error


class Invalidated(NamedTuple):
    """Changes that are in the copy and whose stale cache entries are gone, or kept to be removed."""

    decided: Decided
    invalidated_at_us: int


KeysOf = Callable[[Iterable[Applied]], Iterable[str]]
State = dict[str, Any]


class InvalidateLogic(StatefulBatchLogic[Decided, Invalidated, State]):
    """One lane's invalidations."""

    def __init__(
        self,
        cache: RedisInvalidation,
        keys_of: KeysOf,
        retry_after: timedelta,
        clock: Clock,
        resume_state: State | None,
    ) -> None:
        self._cache = cache
        self._keys_of = keys_of
        self._retry_after = retry_after
        self._clock = clock
        self._retry_at: datetime | None = None
        self._pending: set[str] = set()
        if resume_state is not None:
            if resume_state["format"] != SNAPSHOT_FORMAT:
                raise FatalError("the snapshot of pending invalidations has another format")
            self._pending = set(resume_state["pending"])
            self._retry_at = self._now() if self._pending else None

    def on_batch(self, values: list[Decided]) -> tuple[list[Invalidated], bool]:
        for decided in values:
            self._pending.update(self._keys_of(decided.applied))
        if self._retry_at is None:
            self._remove()
        now_us = self._clock()
        return [Invalidated(decided, now_us) for decided in values], False

    def on_notify(self) -> tuple[list[Invalidated], bool]:
        self._remove()
        return [], False

    def on_eof(self) -> tuple[list[Invalidated], bool]:
        self._remove()
        return [], False

    def notify_at(self) -> datetime | None:
        return self._retry_at

    def snapshot(self) -> State:
        return {"format": SNAPSHOT_FORMAT, "pending": sorted(self._pending)}

    def _remove(self) -> None:
        if not self._pending:
            return
        try:
            self._cache.remove(self._pending)
        except Unavailable as error:
            self._retry_at = self._now() + self._retry_after
            _log.warning("invalidations wait", keys=len(self._pending), error=str(error))
        else:
            self._pending = set()
            self._retry_at = None

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock() / 1e6, UTC)


@operator
def invalidate(
    step_id: str,
    up: KeyedStream[Decided],
    cache: RedisInvalidation,
    keys_of: KeysOf,
    retry_after: timedelta = RETRY_AFTER,
    clock: Clock = system_clock_us,
) -> KeyedStream[Invalidated]:
    """Remove what each change makes stale. Redelivered changes too: the first time may have died here."""

    def build(resume_state: State | None) -> InvalidateLogic:
        return InvalidateLogic(cache, keys_of, retry_after, clock, resume_state)

    return op.stateful_batch("lanes", up, build)
