"""Refreshing a search index for what must follow that, in the background: at most once a second, and a tenth
of the time.

Source: Elasticsearch reference, "Near real-time search": a refresh makes all that was written before it
visible to searches. When the index refreshes by itself is not told, and an index that nobody searches does
not; so a refresh that began after a write was acknowledged is the only one that is known to have it.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta

import structlog

from syncline.clock import Clock, system_clock_us
from syncline.model.errors import TransientError

EVERY = timedelta(seconds=1)
"""At most, and no sooner than ten times as long as the last one took: at 500 changes/s two a second were near
half of what the store did."""
_SHARE_OF_TIME = 0.1
LONGEST_DISTANCE = timedelta(seconds=3)
"""Readers are told how far searches may be behind: ``syncline/reads.py``, ``SEARCH_DELAY``."""

_US = timedelta(microseconds=1)

_log = structlog.get_logger()


class IndexRefresh:
    """Refreshes have numbers, in the order in which they begin. Thread-safe; begins nothing by itself."""

    def __init__(self, refresh: Callable[[], None], clock: Clock = system_clock_us) -> None:
        self._refresh = refresh
        self._clock = clock
        self._lock = threading.Lock()
        self._thread: ThreadPoolExecutor | None = None
        self._running: Future[None] | None = None
        self._begun = 0
        self._next_at_us = 0
        self._done = 0

    def next_number(self) -> int:
        """Of the first refresh that begins after this call."""
        with self._lock:
            return self._begun + 1

    def await_done(self, number: int, longest: timedelta) -> bool:
        """The same as ``is_done``, having given it this time, and without keeping the distance of a
        second."""
        for _ in range(2):  # One may be under way that began too early.
            if self.is_done(number, at_once=True):
                return True
            if (running := self._running) is not None:
                wait([running], longest.total_seconds())
        return self.is_done(number)

    def is_done(self, number: int, *, at_once: bool = False) -> bool:
        """Whether this refresh, or a later one, has ended; where it has not, one is begun if it is time to.

        Raises what the refresh raised, where that is no ``TransientError``.
        """
        with self._lock:
            self._look()
            if self._done >= number:
                return True
            if self._running is None and (at_once or self._clock() >= self._next_at_us):
                self._begin()
            return False

    def _look(self) -> None:
        if self._running is None or not self._running.done():
            return
        error, self._running = self._running.exception(), None
        if error is None:
            self._done = self._begun
        elif isinstance(error, TransientError):
            _log.warning("the index is not refreshed; listings wait", error=str(error))
        else:
            raise error

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="index-refresh")
        self._begun += 1
        self._running = self._thread.submit(self._refresh_once, self._clock())

    def _refresh_once(self, begun_at_us: int) -> None:
        try:
            self._refresh()
        finally:
            distance_us = round((self._clock() - begun_at_us) / _SHARE_OF_TIME)
            self._next_at_us = begun_at_us + min(max(EVERY // _US, distance_us), LONGEST_DISTANCE // _US)
