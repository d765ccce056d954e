"""A flow as operating system processes: one, or several as a Bytewax cluster."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from syncline import last_words
from syncline.isolation import forget_journal
from syncline.model.errors import Misconfigured
from syncline.settings import Settings

FLOWS: Mapping[str, bool] = {"outbox_relay": False, "catalog_search": True, "customer_profiles": True}
"""The flows that there are, and whether they keep snapshots."""

EPOCH_SECONDS = 1
STOP_TIMEOUT_SECONDS = 20.0
BEREAVED_TIMEOUT_SECONDS = 3.0
"""A process whose peer has died can take no snapshot any more; it may still say why it ends."""
_POLL_SECONDS = 0.1


def check_flow(flow: str) -> str:
    """The name itself. Raises ``Misconfigured`` where there is no such flow."""
    if flow not in FLOWS:
        raise Misconfigured(f"flow: there is no {flow!r}; there are {', '.join(FLOWS)}")
    return flow


def check_share(flow: str, processes: int, partitions: int) -> int:
    """The number of processes itself. Raises ``Misconfigured`` where they cannot share the partitions evenly.

    They go through their epochs together, so all would go at the pace of those that read most.
    """
    if FLOWS[check_flow(flow)] and partitions % processes:
        even = " or ".join(str(number) for number in range(1, partitions + 1) if partitions % number == 0)
        raise Misconfigured(
            f"processes: {processes} cannot share {partitions} partitions evenly, and all would go at the "
            f"pace of the one that reads most; take {even}, or widen the topics (topic_partitions)"
        )
    return processes


class FlowProcesses:
    """Starts the processes of one flow, and ends them together: Bytewax's peers need each other.

    Use it as a context; leaving it stops what still runs. Each process leaves its last words in a folder
    of its own below ``run_folder``, where one is given.
    """

    def __init__(
        self,
        flow: str,
        settings: Settings,
        recovery_folder: Path | None,
        processes: int = 1,
        log: Path | None = None,
        run_folder: Path | None = None,
    ) -> None:
        self.flow = check_flow(flow)
        self._settings = settings
        self._recovery_folder = recovery_folder
        self._count = processes
        self._log = log
        self._run_folder = run_folder
        self._files = ExitStack()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.failed_first: list[int] = []
        """Which had failed when the first failure was seen; the others may have died of theirs."""

    def __enter__(self) -> "FlowProcesses":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        output: IO[bytes] | None = None
        if self._log is not None:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            output = self._files.enter_context(self._log.open("ab"))
        addresses = [f"127.0.0.1:{port}" for port in free_ports(self._count)] if self._count > 1 else []
        for number in range(self._count):
            cluster = ["-i", str(number), "-a", ";".join(addresses)] if addresses else []
            self.processes.append(
                subprocess.Popen(
                    [*self._command(), *cluster],
                    env=self._environment(number),
                    # Its end tells a process whose supervisor was killed.
                    stdin=subprocess.DEVNULL if self._run_folder is None else subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT if output else None,
                    # Ctrl-C reaches this process alone, which passes it on.
                    start_new_session=True,
                )
            )

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "bytewax.run", f"dataflows.{self.flow}", "-s", str(EPOCH_SECONDS)]
        if self._recovery_folder is not None:
            command += ["-r", str(self._recovery_folder), "-b", "0"]
        return command

    def _environment(self, number: int) -> dict[str, str]:
        environment = os.environ | self._settings.as_environment()
        if self._settings.health_port:
            environment["SYNCLINE_HEALTH_PORT"] = str(self._settings.health_port + number)
        if self._run_folder is not None:
            last_words.forget(self.run_folder_of(number))
            forget_journal(self.run_folder_of(number))
            environment[last_words.RUN_FOLDER] = str(self.run_folder_of(number))
        return environment

    def run_folder_of(self, number: int) -> Path:
        """Where the process leaves its last words."""
        if self._run_folder is None:
            raise ValueError("these processes have no run folder")
        return (self._run_folder / str(number)).resolve()

    def signal(self, signal_number: signal.Signals) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal_number)

    def wait(self) -> int:
        """Wait until all have ended; one that fails takes the others with it. Answers the worst exit code."""
        while any(process.poll() is None for process in self.processes):
            self.failed_first = self._failed()
            if self.failed_first:
                self.stop(BEREAVED_TIMEOUT_SECONDS)
                break
            time.sleep(_POLL_SECONDS)
        self.failed_first = self.failed_first or self._failed()
        return max((abs(process.returncode) for process in self.processes), default=0)

    def _failed(self) -> list[int]:
        return [n for n, process in enumerate(self.processes) if process.poll() not in {None, 0}]

    def stop(self, timeout_seconds: float = STOP_TIMEOUT_SECONDS) -> None:
        """End them cleanly, with a last snapshot; what does not end in time is killed."""
        self.signal(signal.SIGTERM)
        deadline = time.monotonic() + timeout_seconds
        for process in self.processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._close()

    def kill(self) -> None:
        """End them as a crash would."""
        self.signal(signal.SIGKILL)
        for process in self.processes:
            process.wait()
        self._close()

    def _close(self) -> None:
        for process in self.processes:
            if process.stdin is not None:
                process.stdin.close()
        self._files.close()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on; all are found before any is let go."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for candidate in sockets:
            candidate.bind(("127.0.0.1", 0))
        return [int(candidate.getsockname()[1]) for candidate in sockets]
