"""The process of ``observed_catalog_search``, and what it observed."""

import os
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import Any, Self

import orjson

from bench.observed_catalog_search import OBSERVATIONS
from syncline.flow_processes import EPOCH_SECONDS, STOP_TIMEOUT_SECONDS
from syncline.model.errors import FatalError
from syncline.settings import Settings

FLOW = "catalog_search"
Observation = dict[str, Any]

_POLL_SECONDS = 0.1
_QUIET_US = 500_000
_WORK = {"messages", "asked", "written"}
_LAST_WORDS = 12


class ObservedFlow:
    """Runs the flow with recovery on, as ``syncline run`` does. Leaving the context ends it cleanly."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._observed = settings.home / "observations.jsonl"
        self._log = settings.home / "catalog_search.log"
        self._read_so_far = 0
        self._rest = b""
        self.observations: list[Observation] = []
        """What was seen so far; complete when the context is left."""

    def __enter__(self) -> Self:
        self._observed.touch()
        command = [sys.executable, "-m", "bytewax.run", "bench.observed_catalog_search"]
        recovery = ["-r", str(self._settings.recovery_folder / FLOW), "-s", str(EPOCH_SECONDS), "-b", "0"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *recovery],
                env=os.environ | self._settings.as_environment() | {OBSERVATIONS: str(self._observed)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            code = self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._look()
        if kind is None and code != 0:
            raise self._failure(code)

    @property
    def pid(self) -> int:
        return self._process.pid

    def pause(self) -> None:
        """Stop the whole process, its client of Kafka included, until it is to go on."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def wait_until_drained(self, messages: int, timeout_seconds: float) -> None:
        """Wait until so many messages were read in all, and the store has had nothing to do for a while."""
        self._look()
        deadline = time.monotonic() + timeout_seconds
        while not self._is_drained(messages):
            if (code := self._process.poll()) is not None:
                raise self._failure(code)
            if time.monotonic() > deadline:
                raise FatalError(
                    f"the flow read {self._messages:,} of {messages:,} messages in {timeout_seconds:.0f} s"
                )
            time.sleep(_POLL_SECONDS)
            self._look()

    def _is_drained(self, messages: int) -> bool:
        if self._messages < messages:
            return False
        last_us = max((each["at_us"] for each in self.observations if _WORK & each.keys()), default=0)
        return bool(time.time_ns() // 1000 - last_us >= _QUIET_US)

    @property
    def _messages(self) -> int:
        return sum(observed.get("messages", 0) for observed in self.observations)

    def _look(self) -> None:
        with self._observed.open("rb") as file:
            file.seek(self._read_so_far)
            news = file.read()
        self._read_so_far += len(news)
        *lines, self._rest = (self._rest + news).split(b"\n")
        self.observations += [orjson.loads(line) for line in lines]

    def _failure(self, code: int) -> FatalError:
        last_words = self._log.read_text(errors="replace").splitlines()[-_LAST_WORDS:]
        return FatalError("\n".join([f"the flow ended with exit code {code}; its last words:", *last_words]))
