"""What surrounds a flow: stopping, health, and how an error is told."""

import io
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import psycopg
import pytest
import structlog
from bytewax.errors import BytewaxRuntimeError
from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig
from elasticsearch import ApiError, ConnectionTimeout, SerializationError, TransportError
from elasticsearch import ConnectionError as ElasticConnectionError
from psycopg import conninfo, errors

from syncline import elasticsearch, postgres
from syncline.asking import Asking
from syncline.health import Health, application
from syncline.model.dependency import Dependency, DependencyState
from syncline.model.errors import (
    BadCredentials,
    FatalError,
    Misconfigured,
    MissingResource,
    Overloaded,
    SynclineError,
    TransientError,
    Unavailable,
)
from syncline.process import _excepthook, configure_logs, root_cause
from syncline.settings import Settings
from syncline.stopping import Stop
from tests.road import Road
from tests.waiting import eventually


@pytest.fixture
def logs() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The lines of a process's log."""
    before, level = logging.getLogger().handlers[:], logging.getLogger().level
    stream, stderr = io.StringIO(), sys.stderr
    sys.stderr = stream
    configure_logs("INFO")
    yield lambda: [orjson.loads(line) for line in stream.getvalue().splitlines()]
    sys.stderr = stderr
    logging.basicConfig(handlers=before, level=level, force=True)
    structlog.reset_defaults()


def test_a_wait_ends_with_its_time_or_with_a_stop() -> None:
    stop = Stop()
    begun = time.monotonic()
    stop.wait(0.1)
    assert 0.1 <= time.monotonic() - begun < 1
    stop.request()
    begun = time.monotonic()
    stop.wait(30)
    assert time.monotonic() - begun < 1


def threads_that_ask() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ask"]


def test_an_answer_is_passed_on_whatever_it_is() -> None:
    def fail() -> None:
        raise MissingResource("gone")

    stop = Stop()
    asking = Asking(stop)
    assert asking(lambda: 7) == 7
    with pytest.raises(MissingResource, match="gone"):
        asking(fail)
    stop.request()
    assert asking(lambda: 7) == 7, "there is a while left for a last write"
    assert len(threads_that_ask()) == 1
    asking.close()
    eventually(lambda: not threads_that_ask(), what="the end of the thread")


def test_a_call_that_is_silent_is_let_go_of_a_while_after_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncline.stopping.LET_GO_SECONDS", 0.5)
    stop, answer = Stop(), threading.Event()
    asking = Asking(stop)

    def ask() -> bool:
        stop.request()
        return answer.wait(60)

    begun = time.monotonic()
    with pytest.raises(Unavailable, match="a stop was requested"):
        asking(ask)
    assert 0.5 <= time.monotonic() - begun < 5
    called: list[None] = []
    with pytest.raises(Unavailable, match="a stop was requested"):
        asking(lambda: called.append(None))
    assert called == [], "nothing more is begun"
    answer.set()
    asking.close()


SLEEPER = """
import sys, time
from datetime import timedelta
from syncline.stopping import Stop, stop_on_signals
stop = Stop()
stop_on_signals(stop, force_after=timedelta(seconds=1))
print("ready", flush=True)
while not stop.requested:
    time.sleep(0.01)
print("asked", flush=True)
time.sleep(60 if "stuck" in sys.argv else 0)
"""


def sleeper(*arguments: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", SLEEPER, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_request_and_the_second_one_an_order(number: signal.Signals) -> None:
    with sleeper() as process:
        process.send_signal(number)
        assert process.wait(10) == 0
    with sleeper("stuck") as process:
        process.send_signal(number)
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        process.send_signal(number)
        assert process.wait(10) != 0


def test_a_process_that_does_not_end_is_ended() -> None:
    with sleeper("stuck") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGALRM


def test_ready_is_who_read_a_short_while_ago() -> None:
    now = [100.0]
    health = Health(ready_within_seconds=15, clock=lambda: now[0])
    answers: list[tuple[str, dict[str, Any]]] = []

    def ask(path: str) -> tuple[str, dict[str, Any]]:
        status: list[str] = []
        body = application(health)({"PATH_INFO": path}, lambda line, _headers: status.append(line))  # type: ignore[arg-type]
        answers.append((status[0][:3], orjson.loads(b"".join(body))))
        return answers[-1]

    nothing = {"seconds_since_progress": None, "dependencies": list[str]()}
    assert ask("/ready") == ("503", {"ok": False, **nothing})
    assert ask("/live") == ("200", {"ok": True, **nothing})
    health.progress()
    now[0] += 15
    away = Dependency(
        "redis", DependencyState.DOWN, datetime(2026, 1, 1, 12, tzinfo=UTC), "open", False, "no answer"
    )
    health.dependencies = lambda: [away]
    status, told = ask("/ready")
    assert (status, told["seconds_since_progress"]) == ("200", 15.0), "whatever it depends on"
    assert told["dependencies"] == [
        {
            "target": "redis",
            "state": "down",
            "since": "2026-01-01T12:00:00+00:00",
            "circuit": "open",
            "holds_place": False,
            "last_error": "no answer",
        }
    ]
    now[0] += 1
    assert ask("/ready")[0] == "503"
    assert ask("/live")[0] == "200"


def wrapped(cause: Exception) -> BytewaxRuntimeError:
    """As Bytewax raises what an operator raised."""
    try:
        try:
            try:
                raise KeyError("driver")
            except KeyError as first:
                raise cause from first
        except Exception as second:
            raise BytewaxRuntimeError("error calling the operator") from second
    except BytewaxRuntimeError as error:
        return error


def test_the_cause_is_our_own_error_or_else_the_first() -> None:
    missing = MissingResource("gone")
    assert root_cause(missing) is missing
    assert root_cause(wrapped(missing)) is missing
    assert repr(root_cause(wrapped(ValueError("bug")))) == "KeyError('driver')"


def hook(
    stop: Stop, told: list[str], on_failure: Callable[[str], None] | None = None
) -> Callable[[Exception], None]:
    end = _excepthook("tests", stop, on_failure or told.append)
    return lambda error: end(type(error), error, error.__traceback__)


def test_a_fatal_error_is_one_line_and_a_record(logs: Callable[[], list[dict[str, Any]]]) -> None:
    told: list[str] = []
    hook(Stop(), told)(wrapped(MissingResource("the alias 'x' is gone")))
    assert told == ["MissingResource: the alias 'x' is gone"]
    [line] = logs()
    assert (line["level"], line["error"], line["flow"]) == ("error", told[0], "tests")


def test_a_bug_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    hook(Stop(), told)(wrapped(ValueError("bug")))
    assert told == ["KeyError: 'driver'"]
    assert "Traceback" in capsys.readouterr().err


def test_a_stop_that_was_asked_for_is_no_failure_of_what_was_held(
    logs: Callable[[], list[dict[str, Any]]],
) -> None:
    told: list[str] = []
    stop = Stop()
    hook(stop, told)(wrapped(Unavailable("away")))
    stop.request()
    with pytest.raises(SystemExit, match="0"):
        hook(stop, told)(wrapped(Unavailable("away")))
    hook(stop, told)(wrapped(MissingResource("gone")))
    assert told == ["Unavailable: away", "MissingResource: gone"]
    assert [line["level"] for line in logs()] == ["error", "info", "error"]


def test_that_no_record_could_be_left_is_told_too(logs: Callable[[], list[dict[str, Any]]]) -> None:
    def fail(_message: str) -> None:
        raise Unavailable("PostgreSQL is away")

    hook(Stop(), [], fail)(MissingResource("gone"))
    assert [line["level"] for line in logs()] == ["error", "warning"]


def test_logs_of_libraries_are_lines_of_json_too(logs: Callable[[], list[dict[str, Any]]]) -> None:
    logging.getLogger("kafka").warning("a broker is %s", "away")
    logging.getLogger("elastic_transport.transport").info("GET / [status:200]")
    [line] = logs()
    assert (line["event"], line["level"]) == ("a broker is away", "warning")


def test_a_log_level_that_is_none_is_told(logs: Callable[[], list[dict[str, Any]]]) -> None:
    with pytest.raises(Misconfigured, match="log_level: 'LOUD'"):
        configure_logs("LOUD")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.InvalidPassword("x"), BadCredentials),
        (errors.InsufficientPrivilege("x"), BadCredentials),
        (errors.UndefinedTable("x"), MissingResource),
        (errors.InvalidSchemaName("x"), MissingResource),
        (errors.AdminShutdown("x"), Unavailable),
        (errors.DeadlockDetected("x"), Unavailable),
        (errors.DiskFull("x"), Unavailable),
        (psycopg.OperationalError("the connection is closed"), Unavailable),
        (psycopg.InterfaceError("the connection is closed"), Unavailable),
        (errors.ProgramLimitExceeded("too large"), FatalError),
        (errors.CheckViolation("x"), FatalError),
        (errors.SyntaxError("x"), FatalError),
    ],
)
def test_errors_of_postgresql_have_a_class(error: psycopg.Error, kind: type[SynclineError]) -> None:
    with pytest.raises(kind, match="writing: ") as told:
        postgres.raise_typed(error, "writing")
    assert type(told.value) is kind
    assert told.value.__cause__ is error


def answered(status: int, kind: str = "an_error") -> ApiError:
    node = NodeConfig("http", "127.0.0.1", 9200)
    return ApiError(kind, ApiResponseMeta(status, "1.1", HttpHeaders(), 0.0, node), {})


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ElasticConnectionError("refused"), Unavailable),
        (ConnectionTimeout("timed out"), Unavailable),
        (SerializationError("a page of a proxy"), FatalError),
        (answered(429), Overloaded),
        (answered(503), Overloaded),
        (answered(502), Unavailable),
        (answered(401), BadCredentials),
        (answered(403), BadCredentials),
        (answered(404, "index_not_found_exception"), MissingResource),
        (answered(404, "search_context_missing_exception"), Unavailable),
        (answered(400), FatalError),
        (answered(500), FatalError),
    ],
)
def test_errors_of_elasticsearch_have_a_class(
    error: ApiError | TransportError, kind: type[SynclineError]
) -> None:
    with pytest.raises(kind) as told:
        elasticsearch.raise_typed(error, "products")
    assert type(told.value) is kind
    assert told.value.__cause__ is error


def test_failures_to_connect_have_a_class_and_one_line(settings: Settings) -> None:
    dsn = settings.postgres_dsn.get_secret_value()
    with Road(1, is_open=False) as road:
        cases: list[tuple[str, type[SynclineError]]] = [
            (conninfo.make_conninfo(dsn, password="wrong"), BadCredentials),
            (conninfo.make_conninfo(dsn, user="nobody"), BadCredentials),
            (conninfo.make_conninfo(dsn, port=road.port), Unavailable),
            (conninfo.make_conninfo(dsn, host="no-such-host.invalid"), Unavailable),
            ("this is no connection string", BadCredentials),
        ]
        for bad, kind in cases:
            with pytest.raises(kind) as told:
                postgres.connect(bad)
            assert isinstance(told.value, TransientError) == (kind is Unavailable)
            assert "\n" not in str(told.value)
    with postgres.connect(dsn, "by its name") as connection:
        assert connection.execute("SHOW application_name").fetchone() == ("by its name",)


def test_a_connection_that_breaks_on_the_password_is_no_refusal(settings: Settings) -> None:
    dsn = settings.postgres_dsn.get_secret_value()
    port = int(str(conninfo.conninfo_to_dict(dsn)["port"]))
    with Road(port) as road:
        by_road = conninfo.make_conninfo(dsn, port=road.port)
        road.breaks_at = b"p"  # a message of this type has the password
        with postgres.connect(by_road) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert road.breaks_at is None
