"""A port that leads to a server, and what can befall the connections on the way.

All proxies of a test share one thread.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from syncline.stack.ports import LOOPBACK

T = TypeVar("T")
Side = Literal["near", "far"]
_CHUNK_BYTES = 65_536


class _Link:
    """One connection of a client, and the one that it has to the server."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.sides: dict[Side, asyncio.StreamWriter] = {"near": near, "far": far}
        self.ended: set[Side] = set()

    def end(self, side: Side) -> None:
        """Tell this side that nothing more comes; it may still send."""
        if side not in self.ended:
            self.ended.add(side)
            with suppress(OSError):
                self.sides[side].write_eof()

    def abort(self) -> None:
        for writer in self.sides.values():
            writer.transport.abort()


class Proxy:
    """Connections to it go on to the port that ``target`` answers. One fault at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: Callable[[], int]) -> None:
        self._loop = loop
        self._target = target
        self._links: set[_Link] = set()
        self._delay_seconds = 0.0
        self._refuses = False
        self._flows = asyncio.Event()
        self._flows.set()
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        self._abort_all()

    @contextmanager
    def delayed(self, seconds: float) -> Iterator[None]:
        """All that passes is held up for so long."""
        self._delay_seconds = seconds
        yield
        self._delay_seconds = 0.0

    @contextmanager
    def cut(self) -> Iterator[None]:
        """All connections break, and none is taken."""
        self._refuses = True
        self._now(self._abort_all)
        yield
        self._refuses = False

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Connections are taken and nothing passes; then all of it does."""
        self._now(self._flows.clear)
        yield
        self._now(self._flows.set)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Connections are taken and nothing passes; then they break."""
        self._now(self._flows.clear)
        yield
        self._now(self._abort_all)
        self._now(self._flows.set)

    @contextmanager
    def half_closed(self, side: Side) -> Iterator[None]:
        """This side of each connection is told that the other has ended, and may still send to it; then the
        connections break. Those that are made meanwhile are whole."""

        def end_all() -> list[_Link]:
            links = list(self._links)
            for link in links:
                link.end(side)
            return links

        def abort_them() -> None:
            for link in links:
                link.abort()

        links = self._now(end_all)
        yield
        self._now(abort_them)

    def break_all(self) -> None:
        self._now(self._abort_all)

    def _now(self, action: Callable[[], T]) -> T:
        async def act() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result()

    def _abort_all(self) -> None:
        for link in list(self._links):
            link.abort()

    async def _serve(self, near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        if self._refuses:
            near.transport.abort()
            return
        try:
            far_reader, far = await asyncio.open_connection(LOOPBACK, self._target())
        except OSError:
            near.transport.abort()
            return
        link = _Link(near, far)
        self._links.add(link)
        try:
            await asyncio.gather(self._pump(near_reader, link, "far"), self._pump(far_reader, link, "near"))
        except OSError:
            link.abort()
        finally:
            self._links.discard(link)
            near.close()
            far.close()

    async def _pump(self, reader: asyncio.StreamReader, link: _Link, to: Side) -> None:
        writer = link.sides[to]
        while data := await reader.read(_CHUNK_BYTES):
            if self._delay_seconds:
                await asyncio.sleep(self._delay_seconds)
            await self._flows.wait()
            if to not in link.ended:
                writer.write(data)
                await writer.drain()
        await self._flows.wait()
        link.end(to)


class Proxies:
    """The thread that they share. Leaving the block breaks all connections."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._made: list[Proxy] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def to(self, target: Callable[[], int]) -> Proxy:
        proxy = Proxy(self._loop, target)
        self._run(proxy.open())
        self._made.append(proxy)
        return proxy

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _end(self) -> None:
        for proxy in self._made:
            await proxy.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
