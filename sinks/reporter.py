"""Word of how a process is, once a second, whatever its flow is waiting for: what it depends on and how that
is, in ``sync.health``; how fresh its copy is, in ``sync.freshness`` and Redis.

Each target has a thread of its own, so one that is away holds up nothing that is told to another. Best
effort: what cannot be told now is told a second later, with what is true then.
"""

import atexit
from collections.abc import Callable
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import psycopg
import structlog

from sinks.freshness import Freshness
from sinks.postgres import PostgresWriter
from syncline.circuit import Circuits, CircuitState
from syncline.model.dependency import Dependency
from syncline.model.errors import SynclineError, Unavailable
from syncline.redis_contact import RedisContact

INTERVAL_SECONDS = 1.0
LAST_WORD_SECONDS = 0.5
"""How long the end of the process waits for the server to take back that it is at work."""

_log = structlog.get_logger()


class Reporter:
    """Tells of one process that runs a flow, until it ends."""

    def __init__(self, flow: str, dsn: str, circuits: Circuits) -> None:
        self._flow = flow
        self._run = str(uuid4())
        self._circuits = circuits
        self._health = PostgresWriter(dsn, "health", f"syncline-{flow}-health")
        self._freshness: Freshness | None = None
        self._fresh_rows = PostgresWriter(dsn, "freshness", f"syncline-{flow}-freshness")
        self._is_over = Event()
        # The threads do not outlive the process: a call that hangs must not keep it.
        self._telling = Thread(target=self._tell, name="report-postgres", daemon=True)

    def start(self) -> None:
        self._telling.start()
        atexit.register(self.close)

    def tell_freshness(self, freshness: Freshness, redis_url: str) -> None:
        """Tell from now on how fresh the copy is, too."""
        self._freshness = freshness
        redis = RedisContact(redis_url, self._circuits.redis)
        self._every_second("redis", lambda: redis.call(freshness.tell_redis, redis.client))

    def look_after(self, target: str, look: Callable[[], object]) -> None:
        """Ask the target from now on: an idle flow would not notice that it went away."""
        self._every_second(target, look)

    def close(self) -> None:
        """Take back that this process is at work; a server that is away or hangs is not waited for."""
        self._is_over.set()
        if self._circuits.postgres.state is CircuitState.CLOSED:
            self._telling.join(LAST_WORD_SECONDS)

    def _every_second(self, target: str, duty: Callable[[], object]) -> None:
        Thread(target=self._repeat, args=(target, duty), name=f"report-{target}", daemon=True).start()

    def _tell(self) -> None:
        self._repeat("postgres", lambda: self._circuits.postgres.attempt(self._tell_postgres))
        self._take_back()

    def _repeat(self, target: str, duty: Callable[[], object]) -> None:
        told = ""
        while not self._is_over.wait(INTERVAL_SECONDS):
            try:
                duty()
                told = ""
            except Unavailable:
                # Its circuit tells of that.
                continue
            except SynclineError as error:
                if str(error) != told:
                    told = str(error)
                    _log.warning("nothing can be told", flow=self._flow, of=target, error=told)
            except Exception:  # noqa: BLE001 - a bug here must not end what tells of the others
                _log.exception("nothing can be told", flow=self._flow, of=target)

    def _tell_postgres(self) -> None:
        self._health.write([self._row(dependency) for dependency in self._circuits.dependencies()])
        if self._freshness is not None:
            self._fresh_rows.write(self._freshness.rows())

    def _row(self, dependency: Dependency) -> dict[str, Any]:
        row = dependency._asdict()
        return {**row, "flow": self._flow, "run": self._run, "since": dependency.since.isoformat()}

    def _take_back(self) -> None:
        try:
            self._health.connect().execute("DELETE FROM sync.health WHERE run = %s", (self._run,))
        except (psycopg.Error, SynclineError) as error:
            _log.info("its rows in sync.health grow old", flow=self._flow, error=str(error))
