"""``syncline notify``: tells people of what waits for them."""

from typing import Annotated

import structlog
import typer

from syncline.clock import system_clock_us
from syncline.health import Health, serve
from syncline.model.errors import TransientError
from syncline.monitor.notifying import Notifier
from syncline.monitor.overdue_references import OverdueReferences
from syncline.monitor.targets import log_nothing_of_libraries, targets
from syncline.policies.reading import load_policies
from syncline.process import configure_logs
from syncline.settings import Settings
from syncline.stopping import Stop, stop_on_signals

_log = structlog.get_logger()


def notify(
    once: Annotated[
        bool,
        typer.Option("--once", help="Tell what is new and end: for cron. Exit code 1 if a target fails."),
    ] = False,
) -> None:
    """Tell the data quality team and the owning services what waits for them, until Ctrl-C.

    One message a target and SYNCLINE_NOTIFY_INTERVAL_S at most, to the addresses in SYNCLINE_NOTIFY_TARGETS.
    """
    settings = Settings.load()
    stop = Stop()
    configure_logs(settings.log_level)
    log_nothing_of_libraries()
    policies = load_policies(settings.policies_dir)
    notifier = Notifier(
        settings.postgres_dsn.get_secret_value(),
        list(targets(settings.notify_targets)),
        policies.recipients,
        policies.topics(settings.topic_prefix),
        policies.personal,
        OverdueReferences.of(settings, policies),
        settings.notify_interval_s * 1_000_000,
        system_clock_us,
    )
    stop_on_signals(stop)
    if notifier.without_target:
        _log.warning("some have no address in notify_targets", recipients=notifier.without_target)
    if once:
        raise typer.Exit(1 if notifier.round(stop) else 0)
    _until_stopped(notifier, settings, stop)


def _until_stopped(notifier: Notifier, settings: Settings, stop: Stop) -> None:
    health = Health(ready_within_seconds=settings.notify_interval_s + settings.ready_within_s)
    if settings.health_port:
        serve(health, settings.health_port)
    _log.info("notifying", interval_s=settings.notify_interval_s)
    while not stop.requested:
        try:
            notifier.round(stop)
            health.progress()
        except TransientError as error:
            _log.warning("looking again at the next interval", error=str(error))
        stop.wait(settings.notify_interval_s)
    _log.info("stopped")
