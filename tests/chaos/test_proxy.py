"""Each fault of a proxy, on a server of a few lines that answers what it is sent."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from syncline.stack.ports import LOOPBACK
from tests.chaos.proxy import Proxies, Proxy


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back all that comes, and ``end`` once nothing more does."""
    listener = socket.create_server((LOOPBACK, 0))

    def answer(connection: socket.socket) -> None:
        try:
            with connection:
                while data := connection.recv(65_536):
                    connection.sendall(data)
                connection.sendall(b"end")
        except OSError:
            return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    yield int(listener.getsockname()[1])
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    with Proxies() as proxies:
        yield proxies.to(lambda: echo)


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with connect(proxy) as client:
        assert asked(client, b"before") == b"before"
        yield client


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection((LOOPBACK, proxy.port), timeout=20)


def asked(client: socket.socket, what: bytes) -> bytes:
    client.sendall(what)
    return client.recv(1_000)


def is_broken(client: socket.socket) -> bool:
    try:
        return asked(client, b"?") == b""
    except OSError:
        return True


def answers_within(client: socket.socket, seconds: float) -> bool:
    client.settimeout(seconds)
    try:
        return bool(client.recv(1_000))
    except TimeoutError:
        return False
    finally:
        client.settimeout(20)


def test_what_is_delayed_comes_whole(proxy: Proxy, client: socket.socket) -> None:
    with proxy.delayed(0.1):
        began = time.monotonic()
        assert asked(client, b"late") == b"late"
        assert time.monotonic() - began >= 0.2, "both ways are held up"


def test_a_cut_breaks_connections_and_refuses_new_ones(proxy: Proxy, client: socket.socket) -> None:
    with proxy.cut():
        assert is_broken(client)
        with connect(proxy) as other:
            assert is_broken(other)
    with connect(proxy) as after:
        assert asked(after, b"after") == b"after"


def test_what_is_stalled_comes_in_the_end(proxy: Proxy, client: socket.socket) -> None:
    with proxy.stalled():
        client.sendall(b"held")
        assert not answers_within(client, 0.2)
    assert client.recv(1_000) == b"held"


def test_a_silent_connection_breaks_in_the_end(proxy: Proxy, client: socket.socket) -> None:
    with proxy.silent():
        client.sendall(b"held")
        assert not answers_within(client, 0.2)
    assert is_broken(client)


def test_half_closed_towards_the_client(proxy: Proxy, client: socket.socket) -> None:
    with proxy.half_closed("near"):
        assert client.recv(1_000) == b""
        client.sendall(b"still taken")
        with connect(proxy) as other:
            assert asked(other, b"whole") == b"whole"
    assert is_broken(client)


def test_half_closed_towards_the_server(proxy: Proxy, client: socket.socket) -> None:
    with proxy.half_closed("far"):
        assert client.recv(1_000) == b"end", "the server's last word still comes"
    assert is_broken(client)
