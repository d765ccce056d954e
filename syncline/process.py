"""What a process that runs a flow needs around it: logs, signals, health, and word of why it ended.

``python -m bytewax.run dataflows.NAME`` calls the flow module's ``flow()``, which calls :func:`start`;
importing the module does none of this.
"""

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import TracebackType

import structlog
from structlog.typing import Processor

from syncline import last_words
from syncline.health import Health, serve
from syncline.last_words import Cause
from syncline.model.errors import Misconfigured, SynclineError, TransientError
from syncline.recovery_folder import own_recovery_folder, what_is_wrong_with
from syncline.settings import Settings
from syncline.stopping import Stop, stop_on_signals

_log = structlog.get_logger()


def settings_or_exit() -> Settings:
    """The settings, or the end of this process with one line on what is wrong with them."""
    try:
        return Settings.load()
    except Misconfigured as error:
        last_words.leave(error)
        sys.exit(f"Misconfigured: {error}")


def start(flow: str, settings: Settings, on_failure: Callable[[str], None]) -> tuple[Stop, Health]:
    """Prepare this process to run the flow; call it once, from the main thread."""
    stop = Stop()
    sys.excepthook = _excepthook(flow, stop, on_failure)
    _spare_backtraces()
    configure_logs(settings.log_level)
    stop_on_signals(stop)
    if last_words.own_run_folder() is not None:
        threading.Thread(target=_end_with_supervisor, name="supervisor", daemon=True).start()
    health = Health(ready_within_seconds=settings.ready_within_s)
    if settings.health_port:
        serve(health, settings.health_port)
    _collect_garbage_seldom()
    _log.info("starting", flow=flow)
    return stop, health


def _end_with_supervisor() -> None:
    """The other end of the standard input is held by whoever keeps this process alive, and closes with it."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _spare_backtraces() -> None:
    """Our errors pass through Bytewax as panics; 60 lines on Rust's stack say nothing of them."""
    if os.environ.get("RUST_BACKTRACE") != "full":
        os.environ["RUST_BACKTRACE"] = "0"


def _collect_garbage_seldom() -> None:
    """A batch makes hundreds of thousands of small objects, and hardly a cycle among them: with the default
    thresholds looking for one took a fifth of the flow's time. Batches under way hold less than this one."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(1_000_000, 50, 100)


def configure_logs(level: str) -> None:
    """One line of JSON an event, on standard error; a person at a terminal gets colours instead.

    What libraries log by Python's own logging takes the same road.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    for_person = sys.stderr.isatty()
    renderer: Processor = (
        structlog.dev.ConsoleRenderer() if for_person else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    try:
        logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    except ValueError as error:
        raise Misconfigured(f"log_level: {level!r} is none; use DEBUG, INFO, WARNING or ERROR") from error
    # One line for each request is too many, and that a server is away is told by whoever waits for it.
    logging.getLogger("elastic_transport.transport").setLevel(logging.WARNING)
    logging.getLogger("elastic_transport.node_pool").setLevel(logging.ERROR)


Excepthook = Callable[[type[BaseException], BaseException, TracebackType | None], None]


def _excepthook(flow: str, stop: Stop, on_failure: Callable[[str], None]) -> Excepthook:
    def end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        cause = root_cause(error)
        if last_words.cause_of(cause) is Cause.ENGINE and (folder := own_recovery_folder()) is not None:
            cause = what_is_wrong_with(folder) or cause
        if stop.requested and isinstance(cause, TransientError):
            # It was told to stop while it held its place, and what it held was not done: no failure.
            _log.info("stopped; the next start resumes from the last snapshot", flow=flow, held_by=str(cause))
            raise SystemExit(0)
        message = f"{type(cause).__name__}: {cause}"
        if isinstance(cause, SynclineError):
            _log.error("the flow ended", flow=flow, error=message)
        else:
            sys.__excepthook__(kind, error, trace)
        try:
            last_words.leave(cause)
        except OSError as unheard:
            _log.warning("no last words could be left", flow=flow, error=str(unheard))
        try:
            on_failure(message)
        except SynclineError as unheard:
            _log.warning("no record could be left of why", flow=flow, error=str(unheard))

    return end


def root_cause(error: BaseException) -> BaseException:
    """Bytewax wraps what an operator raises; the first error of Syncline's own in the chain is the cause."""
    chain = [error]
    while (earlier := chain[-1].__cause__ or chain[-1].__context__) is not None and earlier not in chain:
        chain.append(earlier)
    return next((link for link in chain if isinstance(link, SynclineError)), chain[-1])
