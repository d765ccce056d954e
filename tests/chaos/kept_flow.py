"""A flow as a process that is started again whenever it ends."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from syncline.flow_processes import FLOWS, STOP_TIMEOUT_SECONDS
from syncline.provision import create_recovery_folder
from syncline.settings import Settings

ROOT = Path(__file__).parents[2]
_LOOK_SECONDS = 0.3
_MOST_DEATHS = 5
_LAST_WORDS_BYTES = 3_000


class KeptFlow:
    """``deaths`` are the last words of each process that ended though nobody ended it."""

    _numbers = itertools.count()

    def __init__(self, flow: str, settings: Settings, environment: dict[str, str]) -> None:
        self.flow = flow
        self.deaths: list[str] = []
        self.log = settings.home / "logs" / f"{flow}-{next(self._numbers)}.log"
        self._settings = settings
        self._environment = environment
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        self.start()
        watch = threading.Thread(target=self._watch, daemon=True)
        watch.start()
        try:
            yield
        finally:
            self._over.set()
            watch.join()
            self._end()

    def start(self) -> None:
        command = [sys.executable, "-m", "bytewax.run", self._module, "-s", "1"]
        if FLOWS[self.flow]:
            command += ["-r", str(create_recovery_folder(self._settings, self.flow)), "-b", "0"]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | self._settings.as_environment() | self._environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def kill(self) -> None:
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            self._process = None

    def forget(self) -> None:
        """Lose the recovery folder; for a flow that was killed."""
        shutil.rmtree(self._settings.recovery_folder / self.flow)

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def last_words(self) -> str:
        return self.log.read_bytes()[-_LAST_WORDS_BYTES:].decode(errors="replace")

    @property
    def _module(self) -> str:
        return f"tests.chaos.flows:{self.flow}" if FLOWS[self.flow] else f"dataflows.{self.flow}"

    def _signal(self, signal_number: signal.Signals) -> None:
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal_number)

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_SECONDS) and len(self.deaths) < _MOST_DEATHS:
            with self._lock:
                if self._process is not None and (code := self._process.poll()) is not None:
                    self.deaths.append(f"{self.flow} ended with {code}: {self.last_words()}")
                    self.start()

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            code = self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self.deaths.append(f"{self.flow} did not end when it was told to: {self.last_words()}")
        else:
            if code != 0:
                self.deaths.append(f"{self.flow} ended with {code}: {self.last_words()}")
