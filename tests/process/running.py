"""Flows as processes of their own, run as a person or ``waxctl`` runs them."""

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from syncline.flow_processes import FLOWS
from syncline.provision import create_recovery_folder
from syncline.settings import Settings
from tests.waiting import eventually

Command = Callable[..., str]
"""The fixture of that name: takes the arguments of ``syncline``, and answers what it said."""


class Flow:
    """One process, and what it said on standard error."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def text(self) -> str:
        return self._log.read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.text.splitlines() if line.startswith("{")]

    def await_event(self, event: str, **fields: str) -> None:
        def told() -> bool:
            assert self.process.poll() is None, self.text
            return any(
                line["event"] == event and all(value in str(line.get(name)) for name, value in fields.items())
                for line in self.events
            )

        eventually(told, what=f"{event} {fields}")

    def end(self, signal_number: int) -> float:
        """Send the signal, and answer how long the process took to end."""
        sent = time.monotonic()
        self.process.send_signal(signal_number)
        self.process.wait(30)
        return time.monotonic() - sent

    def outcome(self) -> int:
        return self.process.wait(60)


class Running:
    """Starts flows with these settings; each test has a recovery folder of its own."""

    _numbers = itertools.count()

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._folder = settings.home / f"run-{next(self._numbers)}"
        self._folder.mkdir()
        self._made = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._made.close()
        shutil.rmtree(self._folder)

    @property
    def recovery_folder(self) -> Path:
        return create_recovery_folder(self.settings.model_copy(update={"home": self._folder}), "recovery")

    def start(self, flow: str, **environment: object) -> Flow:
        """``python -m bytewax.run dataflows.FLOW``, with other settings where they are given."""
        return self.start_as_it_is(flow, self.recovery_folder if FLOWS[flow] else None, environment)

    def start_as_it_is(
        self,
        flow: str,
        recovery_folder: Path | None,
        environment: Mapping[str, object],
        largest_file_bytes: int | None = None,
    ) -> Flow:
        """With a recovery folder that is not looked at before, and in which no file may become too large."""
        log = self._folder / f"{flow}-{next(self._numbers)}.log"
        command = [sys.executable, "-m", "bytewax.run", f"dataflows.{flow}", "-s", "1"]
        if recovery_folder is not None:
            command += ["-r", str(recovery_folder), "-b", "0"]
        if largest_file_bytes is not None:
            # Python ignores the signal that says so, and gets the error instead.
            command = ["prlimit", f"--fsize={largest_file_bytes}", *command]
        variables = {f"SYNCLINE_{name.upper()}": str(value) for name, value in environment.items()}
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=os.environ | self.settings.as_environment() | variables,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._made.callback(_kill, process)
        return Flow(process, log)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
