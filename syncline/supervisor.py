"""Keeping a flow alive: it is started again when it ends badly, later each time, and a crash loop says why.

The settings are read anew at each start, so that what a person corrects in their file is picked up.
"""

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from msgspec import DecodeError
from msgspec.structs import replace

from sinks.status import record_failure
from syncline import last_words
from syncline.flow_processes import FLOWS, FlowProcesses, check_flow
from syncline.isolation import Isolation, Journal, Poison, count, read_journal, read_plan, write_plan
from syncline.jitter import JITTER
from syncline.last_words import Cause, LastWords
from syncline.model.errors import SynclineError, remedy_of
from syncline.provision import create_recovery_folder
from syncline.settings import Settings
from syncline.stopping import Stop

_log = structlog.get_logger()

CRASH_LOOP_ENDS = 3
"""So many bad ends in a row, none of them after a healthy stretch, are a crash loop."""
HEALTHY = timedelta(minutes=1)
"""A flow that has lived so long starts with a clean slate when it ends."""
_TOLD_TO_END = {signal.SIGTERM, signal.SIGINT, signal.SIGALRM}
"""The alarm is a process's own, where a stop takes too long."""
RECORD_TIMEOUT_SECONDS = 5.0
"""How long the next start waits for the record of why it is one."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """The n-th wait in a row is drawn evenly from 0 to ``first * 2**(n - 1)``, at most ``longest``:
    exponential backoff with full jitter (M. Brooker, "Exponential Backoff And Jitter", 2015).

    What only a person can mend is tried at the longest interval: it may be mended meanwhile.
    """

    first: timedelta = timedelta(seconds=0.5)
    longest: timedelta = timedelta(seconds=30)

    def wait(self, ends_in_a_row: int, *, is_fatal: bool, draw: Callable[[], float]) -> timedelta:
        if is_fatal:
            return self.longest
        # Beyond 2**16 the longest counts in any case.
        bound: timedelta = min(self.longest, self.first * 2 ** min(ends_in_a_row - 1, 16))
        return bound * draw()


class Ends:
    """The bad ends of a flow in a row."""

    def __init__(self) -> None:
        self.count = 0
        self.since: datetime | None = None

    def add(self, lived: timedelta, now: datetime) -> None:
        if lived >= HEALTHY:
            self.count = 0
        if self.count == 0:
            self.since = now
        self.count += 1

    @property
    def are_a_loop(self) -> bool:
        return self.count >= CRASH_LOOP_ENDS


class Supervisor:
    """Runs the processes of one flow until a stop is requested or they end well.

    All of them are started again when one of them dies: Bytewax's peers need each other.
    """

    def __init__(
        self,
        flow: str,
        processes: int = 1,
        load: Callable[[], Settings] = Settings.load,
        backoff: Backoff | None = None,
        log: Path | None = None,
    ) -> None:
        self.flow = check_flow(flow)
        self.running: FlowProcesses | None = None
        self._count = processes
        self._load = load
        self._settings = load()
        self._backoff = backoff or Backoff()
        self._log = log
        self._stop = Stop()
        self._isolation = Isolation(self._known_poison())

    def stop(self, signal_number: signal.Signals = signal.SIGTERM) -> None:
        """End the flow, and don't start it again. May be called by a signal's handler."""
        self._stop.request()
        if self.running is not None:
            self.running.signal(signal_number)

    def run(self) -> int:
        """Answers the exit code: 0 where the flow ended well, else that of its last life."""
        ends = Ends()
        while True:
            begun = time.monotonic()
            code, words = self._live()
            if words is None or self._stop.requested:
                return code
            ends.add(timedelta(seconds=time.monotonic() - begun), datetime.now(UTC))
            wait = self._backoff.wait(ends.count, is_fatal=words.is_fatal, draw=JITTER.random)
            if words.may_be_a_change:
                poison = self._isolation.died(words.error, self._journals())
                if poison is not None:
                    self._tell_poison(poison)
                    ends = Ends()
                    continue
                if self._isolation.is_in_snapshot:
                    self._set_recovery_aside()
                if self._isolation.suspects:
                    # Few deaths are left until it is found, and each is worth having soon.
                    wait = timedelta()
            self._tell(words, ends, wait)
            self._stop.wait(wait.total_seconds())
            if self._stop.requested:
                return code

    def _live(self) -> tuple[int, LastWords | None]:
        """One life of the flow: the exit code, and what was said at a bad end."""
        try:
            self._settings = self._load()
            folder = create_recovery_folder(self._settings, self.flow) if FLOWS[self.flow] else None
            write_plan(self._run_folder, self._isolation.plan)
        except (SynclineError, OSError) as error:
            return 1, replace(last_words.words_of(error), cause=Cause.OURS, is_spoken=False)
        # A suspect must die in the process that read it: peers hand on to each other.
        processes = 1 if self._isolation.suspects else self._count
        self.running = FlowProcesses(
            self.flow, self._settings, folder, processes, self._log, self._run_folder
        )
        with self.running as running:
            if self._stop.requested:
                # The signal came when there was nobody yet to pass it on to.
                running.signal(signal.SIGTERM)
            code = running.wait()
            return code, None if code == 0 else _why(running)

    @property
    def _run_folder(self) -> Path:
        return self._settings.run_folder / self.flow

    def _known_poison(self) -> tuple[Poison, ...]:
        try:
            return read_plan(self._run_folder).poison
        except DecodeError as error:
            _log.warning("what is poison will be found anew", folder=str(self._run_folder), error=str(error))
            return ()

    def _journals(self) -> list[Journal]:
        if self.running is None:
            return []
        folders = [self.running.run_folder_of(number) for number in range(len(self.running.processes))]
        return [read_journal(folder) for folder in folders]

    def _tell_poison(self, poison: Poison) -> None:
        _log.error(
            "a change kills the flow: it goes to quarantine",
            flow=self.flow,
            position=f"{poison.topic}/{poison.partition}@{poison.offset}",
            error=poison.error,
            what_to_do=f"syncline quarantine list --flow {self.flow}",
        )

    def _set_recovery_aside(self) -> None:
        """What is read anew can be isolated; what comes out of a snapshot cannot. It costs time alone."""
        folder = self._settings.recovery_folder / self.flow
        aside = folder.with_name(f"{self.flow}.aside-{datetime.now(UTC):%Y%m%dT%H%M%S}")
        folder.rename(aside)
        _log.error(
            "what kills the flow is in its recovery folder: the flow reads its log from the beginning",
            flow=self.flow,
            set_aside=str(aside),
        )

    def _tell(self, words: LastWords, ends: Ends, wait: timedelta) -> None:
        next_try = f"{wait.total_seconds():.1f} s"
        if self._isolation.suspects or not ends.are_a_loop:
            _log.warning(
                "starting the flow again",
                flow=self.flow,
                error=words.error,
                next_try_in=next_try,
                changes_suspected=count(self._isolation.suspects),
            )
            if not words.is_spoken:
                self._record(words.error)
            return
        since = f"{ends.since:%Y-%m-%d %H:%M:%S} UTC"
        _log.error(
            "crash loop",
            flow=self.flow,
            error=words.error,
            ends=ends.count,
            since=since,
            next_try_in=next_try,
            what_to_do=remedy_of(words.error),
            recovery_folder=str(self._settings.recovery_folder / self.flow) if FLOWS[self.flow] else None,
        )
        self._record(f"{words.error} (crash loop: {ends.count} ends since {since})")

    def _record(self, error: str) -> None:
        """Leave word in ``sync.status``; a database that hangs does not hold up the next start for long."""
        dsn = self._settings.postgres_dsn.get_secret_value()

        def record() -> None:
            try:
                record_failure(self.flow, dsn, error)
            except SynclineError as unheard:
                _log.warning("no record could be left of why", flow=self.flow, error=str(unheard))

        recording = threading.Thread(target=record, name="record", daemon=True)
        recording.start()
        recording.join(RECORD_TIMEOUT_SECONDS)


def _why(ended: FlowProcesses) -> LastWords:
    """What those that failed first said, or what their ends say: the one that explains the others."""
    return min((_words_of(ended, number) for number in ended.failed_first), key=lambda words: words.cause)


def _words_of(ended: FlowProcesses, number: int) -> LastWords:
    spoken = last_words.heard(ended.run_folder_of(number))
    if spoken is not None:
        return spoken
    code = ended.processes[number].returncode
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return LastWords(
        f"Killed: process {number + 1} of {len(ended.processes)} ended by {how}, without a word",
        Cause.TOLD if -code in _TOLD_TO_END else Cause.SIGNAL,
        is_spoken=False,
    )
