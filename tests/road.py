"""A road to a server that can be closed, opened and silenced: how a server is away for one test alone."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from syncline.stack.ports import LOOPBACK


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


class Road:
    """A port of loopback that leads to another one while the road is open, and refuses while it is not."""

    def __init__(self, port: int, *, is_open: bool = True) -> None:
        self._target = (LOOPBACK, port)
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._is_silent = False
        self.breaks_at: bytes | None = None
        """One connection is broken where it is about to send something that begins so."""
        self.swallowed_bytes = 0
        self._lock = threading.Lock()
        if is_open:
            self._accept_in_background()
        else:
            self._listener.close()

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def open(self) -> None:
        self._listener = socket.create_server((LOOPBACK, self.port))
        self._accept_in_background()

    def close(self) -> None:
        """Refuse new connections, and break those that there are. What is silent is so no more."""
        _end(self._listener)
        with self._lock:
            for connection in self._connections:
                _end(connection)
        for thread in self._threads:
            thread.join()
        self._connections.clear()
        self._threads.clear()
        self._is_silent = False

    @property
    def travellers(self) -> int:
        """How many connections there are."""
        with self._lock:
            return sum(connection.fileno() >= 0 for connection in self._connections) // 2

    def silence(self) -> None:
        """Go on taking connections and what is sent, and answer nothing, as a server does that hangs."""
        self._is_silent = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _accept_in_background(self) -> None:
        self._start(threading.Thread(target=self._accept, args=(self._listener,)))

    def _start(self, thread: threading.Thread) -> None:
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                try:
                    far = socket.create_connection(self._target)
                except OSError:
                    near.close()
                    continue
                with self._lock:
                    self._connections |= {near, far}
                self._start(threading.Thread(target=self._pump, args=(near, far)))
                self._start(threading.Thread(target=self._pump, args=(far, near)))

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if self.breaks_at is not None and data.startswith(self.breaks_at):
                    self.breaks_at = None
                    break
                if self._is_silent:
                    self.swallowed_bytes += len(data)
                else:
                    target.sendall(data)
        _end(source)
        _end(target)


def _end(connection: socket.socket) -> None:
    # A close alone does not wake a thread that waits in the socket.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
