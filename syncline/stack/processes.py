"""The processes of one server: which they are, and how none of them is left behind.

They are known in two ways. The process that was started is recorded with its creation time, so that
another program that got the same number later is never mistaken for it. And one of the server's programs
whose working folder is inside the server's own folder belongs to it: this finds its children, the orphans
of a killed launcher, and what a command that was itself killed half-way could not record.
"""

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

import psutil

# Held so that a server that ends while this process lives is reaped, and not reported as forgotten.
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class ServerProcesses:
    folder: Path
    programs: frozenset[str]

    @property
    def _record(self) -> Path:
        return self.folder / "process.json"

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> psutil.Process:
        """Start the server in a session of its own, so that it outlives this process and its terminal."""
        with log.open("ab") as output:
            child = subprocess.Popen(
                command,
                cwd=self.folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        _started.append(child)
        process = psutil.Process(child.pid)
        self._record.write_text(json.dumps({"pid": process.pid, "created": process.create_time()}))
        return process

    def main(self) -> psutil.Process | None:
        """The process that was started, if it still runs."""
        reap_ended()
        try:
            record = json.loads(self._record.read_text())
            process = psutil.Process(record["pid"])
            is_it = process.create_time() == record["created"] and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, KeyError, psutil.Error):
            return None
        return process if is_it else None

    def all(self) -> list[psutil.Process]:
        """Every running process of the server, the main one first."""
        main = self.main()
        found = {main.pid: main} if main else {}
        for pid in psutil.pids():  # not process_iter: it remembers programs from before an exec
            if pid not in found and (process := self._own(pid)):
                found[pid] = process
        return list(found.values())

    def end(self, signal: Signals, grace: float) -> None:
        """Ask the main process to stop, and kill what is left of the server after ``grace`` seconds."""
        if main := self.main():
            with suppress(psutil.NoSuchProcess):
                main.send_signal(signal)
            deadline = time.monotonic() + grace
            while self.all() and time.monotonic() < deadline:
                psutil.wait_procs(self.all(), timeout=0.2)
        self.kill()

    def kill(self) -> None:
        """End every process of the server at once, as a crash would."""
        while processes := self.all():
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(processes, timeout=5)
        self._record.unlink(missing_ok=True)

    def memory(self) -> int:
        """Bytes of memory of all its processes; what they share is counted once (proportional set size)."""
        total = 0
        for process in self.all():
            with suppress(psutil.Error):
                total += process.memory_full_info().pss
        return total

    def _own(self, pid: int) -> psutil.Process | None:
        """The process of this number, if it is the server's."""
        try:
            process = psutil.Process(pid)
            is_own = Path(process.exe()).name in self.programs and Path(process.cwd()).is_relative_to(
                self.folder
            )
        except (psutil.Error, OSError):
            return None
        return process if is_own else None


def reap_ended() -> None:
    """Take leave of the servers that this process started and that have ended, whoever ended them."""
    # One by one: servers are started side by side, and a list made anew would lose one that was just added.
    for child in list(_started):
        if child.poll() is not None:
            with suppress(ValueError):
                _started.remove(child)
