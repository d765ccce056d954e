"""One embedded server: how it starts, when it is ready, how it stops, and what to read when it fails."""

import os
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM, Signals
from typing import ClassVar, Literal, TypedDict

from syncline.model.errors import ServerDidNotStart
from syncline.stack import ports
from syncline.stack.privileges import AS_WE_ARE, Privileges, without_root
from syncline.stack.processes import ServerProcesses
from syncline.stack.progress import Progress

LOG_BYTES_KEPT = 16 * 1024 * 1024
LOG_LINES_SHOWN = 20
SECONDS_TO_LET_GO = 5.0


class Addresses(TypedDict, total=False):
    """Where the running servers listen, by the names of the settings that say so."""

    postgres_dsn: str
    redis_url: str
    kafka_bootstrap_servers: str
    elasticsearch_url: str


class NotReady(Exception):
    """The server runs and does not answer yet."""


@dataclass(frozen=True)
class ServerStatus:
    name: str
    state: Literal["running", "starting", "stopped"]
    address: str
    pid: int | None
    memory_bytes: int
    log: Path


class Server(ABC):
    """A server in a folder of its own: data, log, ports and process record."""

    name: ClassVar[str]
    programs: ClassVar[frozenset[str]]
    port_names: ClassVar[Sequence[str]] = ("port",)
    refuses_root: ClassVar[bool] = False
    stop_signal: ClassVar[Signals] = SIGTERM
    seconds_to_start: ClassVar[float] = 120.0
    seconds_to_stop: ClassVar[float] = 20.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.data = self.folder / "data"
        self.log = self.folder / f"{self.name}.log"
        self.processes = ServerProcesses(self.folder, self.programs)

    @abstractmethod
    def install(self, progress: Progress) -> None:
        """Have the server's programs on this machine."""

    @abstractmethod
    def prepare(self) -> None:
        """Write the configuration for ``self.ports``, and the data folder if there is none."""

    @abstractmethod
    def command(self) -> list[str]:
        """The command that runs the server in the foreground."""

    @abstractmethod
    def probe(self) -> None:
        """Return when the server answers as its clients need it; raise ``NotReady`` otherwise."""

    @abstractmethod
    def addresses(self) -> Addresses:
        """What the settings say to reach it."""

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def start(self, progress: Progress) -> None:
        """Start the server and wait until it answers; one that runs already is only waited for."""
        started = time.monotonic()
        try:
            self._make_folder()
            was_up = self.is_up()
            if not was_up:
                self.processes.kill()  # orphans of a main process that was killed
                self._settle_ports(progress)
                self.prepare()
                self._shorten_log()
                self._privileges.hand_over(self.folder)
                self.processes.start(
                    [*self._privileges.prefix, *self.command()], self.environment(), self.log
                )
        except OSError as error:
            raise ServerDidNotStart(
                f"{self.name} did not start: {error}. Its folder is {self.folder}."
            ) from error
        self._wait(started + self.seconds_to_start)
        took = f"ready after {time.monotonic() - started:.1f} s"
        progress.say(f"{self.name} at {self.address}: {'was already running' if was_up else took}")

    def stop(self) -> None:
        """Stop the server as its makers intend, with nothing lost and no process left."""
        self.processes.end(self.stop_signal, self.seconds_to_stop)

    def kill(self) -> None:
        """Kill the server with all its processes, as a crash would."""
        self.processes.kill()

    def is_up(self) -> bool:
        return self.processes.main() is not None

    def status(self) -> ServerStatus:
        main = self.processes.main()
        state: Literal["running", "starting", "stopped"] = "stopped"
        if main:
            try:
                self.probe()
                state = "running"
            except NotReady:
                state = "starting"
        return ServerStatus(
            self.name,
            state,
            self.address if self.ports else "",
            main.pid if main else None,
            self.processes.memory(),
            self.log,
        )

    @property
    def ports(self) -> dict[str, int]:
        """The ports of the last start, which may have been another process's; none before the first."""
        return ports.remembered(self._ports_file) or {}

    @property
    def address(self) -> str:
        return f"{ports.LOOPBACK}:{self.ports['port']}"

    @property
    def _ports_file(self) -> Path:
        return self.folder / "ports.json"

    @property
    def _privileges(self) -> Privileges:
        return without_root() if self.refuses_root else AS_WE_ARE

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def _settle_ports(self, progress: Progress) -> None:
        known = self.ports
        if set(known) == set(self.port_names) and self._come_free(known.values()):
            return
        ports.remember(self._ports_file, ports.choose(self.port_names))
        if known:
            progress.say(f"{self.name} moves to {self.address}: another program took {known}")

    def _come_free(self, numbers: Collection[int]) -> bool:
        """A process that was killed holds its ports until the last of its threads has ended."""
        deadline = time.monotonic() + SECONDS_TO_LET_GO
        while not all(map(ports.is_free, numbers)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _wait(self, deadline: float) -> None:
        reason = "it did not answer"
        while time.monotonic() < deadline:
            if self.processes.main() is None:
                raise ServerDidNotStart(self._failure("it ended while it started"))
            try:
                self.probe()
            except NotReady as not_yet:
                reason = f"it is not ready: {not_yet}"
                time.sleep(0.05)
            else:
                return
        raise ServerDidNotStart(self._failure(reason))

    def _failure(self, reason: str) -> str:
        return (
            f"{self.name} did not start: {reason}. Read {self.log}, which ends:\n{self._log_end()}\n"
            "If its data cannot be saved, `./run stack reset` deletes it and the next start is afresh."
        )

    def _log_end(self) -> str:
        try:
            with self.log.open(errors="replace") as lines:
                return "".join(f"  {line}" for line in deque(lines, LOG_LINES_SHOWN)).rstrip()
        except OSError as error:
            return f"  {error}"

    def _shorten_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_KEPT:
            self.log.replace(self.log.with_suffix(".log.old"))
