"""Work that leaves each call to a store to whoever drives it.

Python's threads compute in turns, and hand over at a price: deciding in several threads took half as long
again as in one. So all computing is done in the worker's own thread, and other threads only wait for answers.
"""

from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")

Call = Callable[[], Any]
Work = Generator[Call, Any, T]
"""Yields a call, is sent its answer or thrown its error, and returns what it came to."""


def do(work: Work[T]) -> T:
    """Make each call here and now."""
    try:
        call = next(work)
        while True:
            try:
                answer = call()
            except Exception as error:  # noqa: BLE001 - it is the work's to handle
                call = work.throw(error)
            else:
                call = work.send(answer)
    except StopIteration as done:
        result: T = done.value
        return result


class Underway(Generic[T]):
    """Work whose calls are made in the background; it goes on only when it is told to."""

    def __init__(self, work: Work[T], executor: Executor) -> None:
        self._work = work
        self._executor = executor
        self.answer: Future[Any] | None = None
        """Of the call that is being made; ``None`` when all is done."""
        self._result: list[T] = []
        self._go_on(partial(next, work))

    def go_on(self) -> None:
        """Take the answer, if there is one, and get to the next call or to the end."""
        while self.answer is not None and self.answer.done():
            error = self.answer.exception()
            if error is None:
                self._go_on(partial(self._work.send, self.answer.result()))
            else:
                self._go_on(partial(self._work.throw, error))

    @property
    def is_done(self) -> bool:
        return self.answer is None

    @property
    def result(self) -> T:
        """What the work came to; to be asked when it is done."""
        [result] = self._result
        return result

    def _go_on(self, step: Callable[[], Call]) -> None:
        try:
            self.answer = self._executor.submit(step())
        except StopIteration as done:
            self.answer = None
            self._result = [done.value]
