"""How the stack tells a person what it is doing: a moving display on a terminal, plain lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bar


class Progress(Protocol):
    """What ``Stack.up`` reports to; it is called from several threads."""

    def say(self, message: str) -> None:
        """Report one step, as a line."""
        ...

    def downloading(self, what: str, size: int) -> AbstractContextManager[Callable[[int], None]]:
        """Report a download of ``size`` bytes; the function given counts the bytes as they come."""
        ...


class Silent:
    """Reports nothing."""

    def say(self, message: str) -> None: ...

    @contextmanager
    def downloading(self, what: str, size: int) -> Iterator[Callable[[int], None]]:  # noqa: ARG002
        yield lambda _: None


class Terminal:
    """Reports to a person, on standard error so that a command's output stays clean."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)

    def say(self, message: str) -> None:
        self._console.print(message, markup=False)

    @contextmanager
    def downloading(self, what: str, size: int) -> Iterator[Callable[[int], None]]:
        if not self._console.is_terminal:
            self.say(f"downloading {what}, {size / 1e6:.0f} MB")
            yield lambda _: None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=self._console) as bar:
            task = bar.add_task(f"downloading {what}", total=size)
            yield lambda count: bar.advance(task, count)
