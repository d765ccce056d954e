"""Whether a Redis answers, without each caller having to wait for that.

Here a call is tried once and soon given up. After a failure nobody calls: one thread asks until Redis answers
again.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004
    MasterDownError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    TimeoutError,  # noqa: A004
)
from redis.retry import Retry

from syncline.circuit import Circuit, CircuitState
from syncline.model.errors import BadCredentials, FatalError, Misconfigured, SynclineError, Unavailable

P = ParamSpec("P")
T = TypeVar("T")

TIMEOUT_SECONDS = 0.5
SHORTEST_WAIT_SECONDS = 0.02
_AWAY = (ConnectionError, TimeoutError, BusyLoadingError, MasterDownError, ReadOnlyError)


class RedisContact:
    """One Redis. Thread-safe; connects at the first call."""

    def __init__(self, url: str, circuit: Circuit, on_connect: Callable[[Any], None] | None = None) -> None:
        try:
            self.client = Redis.from_url(
                url,
                socket_timeout=TIMEOUT_SECONDS,
                socket_connect_timeout=TIMEOUT_SECONDS,
                retry=Retry(NoBackoff(), 0),
                redis_connect_func=on_connect,
            )
        except ValueError as error:
            raise Misconfigured(f"redis_url: {error}") from error
        self._circuit = circuit
        self._lock = threading.Lock()
        self._asking: threading.Thread | None = None
        self._closed = threading.Event()

    def close(self) -> None:
        self._closed.set()
        if (asking := self._asking) is not None:
            asking.join()
        self.client.close()

    @property
    def is_away(self) -> bool:
        return self._circuit.state is not CircuitState.CLOSED

    def call(self, command: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What the command answers.

        Raises ``Unavailable``, at once while Redis is known to be away, or a ``FatalError``.
        """
        if self.is_away:
            self._ask_in_background()
            raise self._circuit.away()
        try:
            return self._circuit.attempt(self._typed, command, *args, **kwargs)
        except Unavailable:
            self._ask_in_background()
            raise

    def _typed(self, command: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except (AuthenticationError, NoPermissionError) as error:
            raise BadCredentials(f"Redis denies access: {error}") from error
        except _AWAY as error:
            raise Unavailable(f"Redis does not answer: {error}") from error
        except RedisError as error:
            raise FatalError(f"Redis refuses a command: {error}") from error

    def _ask_in_background(self) -> None:
        with self._lock:
            if self._asking is None and not self._closed.is_set():
                self._asking = threading.Thread(target=self._ask, name="redis-contact", daemon=True)
                self._asking.start()

    def _ask(self) -> None:
        while self.is_away and not self._closed.wait(max(SHORTEST_WAIT_SECONDS, self._circuit.wait_seconds)):
            with suppress(SynclineError):  # That it is refused is told to whoever calls next.
                self._circuit.attempt(self._typed, self.client.ping)
        with self._lock:
            self._asking = None
