"""Is this process alive, and is it getting on with its work? Over HTTP, for probes and Prometheus.

Ready means that the flow has read from its log a short while ago. A flow that holds its place for a
store that is away does not read, so it is not ready; it is alive all the same, and must not be restarted.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import orjson
from prometheus_client import make_wsgi_app

from syncline.model.dependency import Dependency
from syncline.model.errors import Misconfigured

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class Health:
    """Told of each read of the log; answers whether the last one was recent."""

    def __init__(self, ready_within_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._ready_within_seconds = ready_within_seconds
        self._clock = clock
        self._last_progress: float | None = None
        self.dependencies: Callable[[], Sequence[Dependency]] = list
        """Told beside the answer; it does not depend on them."""

    def progress(self) -> None:
        self._last_progress = self._clock()

    @property
    def seconds_since_progress(self) -> float | None:
        return None if self._last_progress is None else self._clock() - self._last_progress

    @property
    def is_ready(self) -> bool:
        since = self.seconds_since_progress
        return since is not None and since <= self._ready_within_seconds


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """A probe every few seconds is no news."""


def application(health: Health) -> "WSGIApplication":
    """``/live``, ``/ready`` and ``/metrics``."""
    metrics: WSGIApplication = make_wsgi_app()

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            return metrics(environ, start_response)
        if path not in {"/live", "/ready"}:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"There are /live, /ready and /metrics.\n"]
        good = path == "/live" or health.is_ready
        status = "200 OK" if good else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        return [
            orjson.dumps(
                {
                    "ok": good,
                    "seconds_since_progress": health.seconds_since_progress,
                    "dependencies": [dependency._asdict() for dependency in health.dependencies()],
                }
            )
        ]

    return answer


def serve(health: Health, port: int) -> None:
    """Serve in a background thread, on all interfaces: a probe comes from outside the container."""
    try:
        server = make_server("", port, application(health), server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        raise Misconfigured(
            f"health_port: {port} cannot be opened ({error.strerror}); choose another"
        ) from error
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
