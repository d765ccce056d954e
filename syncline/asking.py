"""Asking a server so that a stop need not wait for the answer.

A client that has sent its request can only be waited for, and a server that hangs keeps it waiting for its
whole time-out. So another thread asks, and is left behind where a stop has become overdue.
"""

from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from syncline.model.errors import Unavailable
from syncline.stopping import Stop

_LOOK_SECONDS = 0.05

T = TypeVar("T")

_Calls = SimpleQueue[Callable[[], None] | None]


class Asking:
    """Makes calls in threads that do not outlive the process. Thread-safe.

    The threads are kept for the next call: to start one for each took 0.9 ms on a busy machine, to hand a
    call over takes 0.1 ms.
    """

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._idle: list[_Calls] = []
        """A queue leads to a thread."""

    def __call__(self, call: Callable[[], T]) -> T:
        """What the call answers. Raises ``Unavailable`` once the stop is overdue.

        What a call that was under way may yet do is not known then, as after any time-out.
        """
        answers: SimpleQueue[Future[T]] = SimpleQueue()

        def ask() -> None:
            answer: Future[T] = Future()
            try:
                answer.set_result(call())
            except BaseException as error:  # noqa: BLE001 - it is raised where the answer is waited for
                answer.set_exception(error)
            answers.put(answer)
            del answer  # The error's traceback holds this frame, and with it all that the call was about.

        self._check()
        calls = self._take()
        calls.put(ask)
        while True:
            try:
                answer = answers.get(timeout=_LOOK_SECONDS)
            except Empty:
                self._check()
            else:
                self._idle.append(calls)
                try:
                    return answer.result()
                finally:
                    del answer  # As above.

    def close(self) -> None:
        """End the threads that wait for a call."""
        while self._idle:
            self._idle.pop().put(None)

    def _check(self) -> None:
        if self._stop.is_overdue:
            raise Unavailable("no server is waited for any more, since a stop was requested")

    def _take(self) -> _Calls:
        try:
            return self._idle.pop()
        except IndexError:
            calls: _Calls = SimpleQueue()
            Thread(target=_make, args=(calls,), name="ask", daemon=True).start()
            return calls


def _make(calls: _Calls) -> None:
    while (call := calls.get()) is not None:
        call()
        del call  # It holds its request, which may be large, until the next one comes.
