"""The embedded servers together: start, stop, look, throw away."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from syncline.model.errors import Misconfigured, ServerDidNotStart
from syncline.settings import embedded_addresses_file
from syncline.stack.artifacts import DownloadFailed, cache_folder
from syncline.stack.elasticsearch import Elasticsearch
from syncline.stack.kafka import Kafka
from syncline.stack.postgres import Postgres
from syncline.stack.processes import reap_ended
from syncline.stack.progress import Progress, Silent
from syncline.stack.redis import Redis
from syncline.stack.server import Addresses, Server, ServerStatus

KINDS: dict[str, Callable[[Path], Server]] = {
    kind.name: kind for kind in (Postgres, Redis, Kafka, Elasticsearch)
}


class Stack:
    """The servers under ``home/stack``, each in its own folder.

    Any number of processes may use one home: a lock lets one of them change it at a time.
    """

    def __init__(self, home: Path, servers: Collection[str] = tuple(KINDS)) -> None:
        if unknown := set(servers) - set(KINDS):
            raise Misconfigured(f"no such server: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
        self.home = home
        self._folder = embedded_addresses_file(home).parent
        self.servers = {name: KINDS[name](self._folder / name) for name in KINDS if name in servers}

    def up(self, progress: Progress | None = None) -> Addresses:
        """Start what does not run, wait until all answer, and record their addresses."""
        progress = progress or Silent()
        with self._lock():
            for server in self.servers.values():
                _install(server, progress)
            self._together(lambda server: server.start(progress))
            return self._write_addresses()

    @contextmanager
    def while_this_process_lives(self, progress: Progress | None = None) -> Iterator[Addresses]:
        """Have the servers up within the block; they are stopped even when this process is killed."""
        watchdog = subprocess.Popen(
            [sys.executable, "-m", "syncline.stack.watchdog", str(self.home.resolve())],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            # Leaving the block closes the watchdog's input, which makes it stop the servers.
            with watchdog:
                yield self.up(progress)
        finally:
            reap_ended()

    def down(self) -> None:
        """Stop all servers and leave no process; the data stays."""
        if not self._folder.exists():
            return
        with self._lock():
            embedded_addresses_file(self.home).unlink(missing_ok=True)
            self._together(Server.stop)

    def reset(self) -> None:
        """Stop all servers and delete their data, logs and ports."""
        self.down()
        if self._folder.exists():
            with self._lock():
                for server in self.servers.values():
                    if server.folder.exists():
                        shutil.rmtree(server.folder)

    def addresses(self) -> Addresses:
        """Where the servers listen, or would listen again."""
        addresses: Addresses = {}
        for server in self.servers.values():
            if server.ports:
                addresses.update(server.addresses())
        return addresses

    def status(self) -> list[ServerStatus]:
        return [server.status() for server in self.servers.values()]

    def start(self, name: str, progress: Progress | None = None) -> Addresses:
        """Start one server, on the ports and data that it had."""
        progress = progress or Silent()
        with self._lock():
            _install(self.servers[name], progress)
            self.servers[name].start(progress)
            return self._write_addresses()

    def stop(self, name: str) -> None:
        """Stop one server as its makers intend; its address stays recorded."""
        with self._lock():
            self.servers[name].stop()

    def kill(self, name: str) -> None:
        """Kill one server with all its processes, as a crash would; its address stays recorded."""
        with self._lock():
            self.servers[name].kill()

    def _together(self, action: Callable[[Server], None]) -> None:
        """Do it to all servers at once, and report every failure."""
        with ThreadPoolExecutor(len(self.servers)) as pool:
            running = [pool.submit(action, server) for server in self.servers.values()]
        failures = [failure for done in running if (failure := done.exception())]
        if len(failures) > 1 and all(isinstance(failure, ServerDidNotStart) for failure in failures):
            raise ServerDidNotStart("\n".join(map(str, failures)))
        if failures:
            raise failures[0]

    def _write_addresses(self) -> Addresses:
        addresses = self.addresses()
        file = embedded_addresses_file(self.home)
        temporary = file.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            # A JSON string of these plain characters is a TOML string too.
            out.writelines(f"{name} = {json.dumps(value)}\n" for name, value in addresses.items())
        temporary.replace(file)
        return addresses

    @contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = (self._folder / "lock").open("w")
        except OSError as error:
            raise Misconfigured(f"cannot write in {self.home} (setting home): {error}") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _install(server: Server, progress: Progress) -> None:
    try:
        server.install(progress)
    except OSError as error:
        raise DownloadFailed(f"cannot keep {server.name}'s programs in {cache_folder()}: {error}") from error
