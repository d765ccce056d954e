"""The compilers inside Kafka and Elasticsearch: for minutes after a start they take cores from all else.

Their threads are told by name; HotSpot calls them ``C1 CompilerThread0``, ``C2 CompilerThread0`` and so on,
and ends those that have nothing to do. (Source: Linux, proc(5), "/proc/pid/task/tid/stat".)
"""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

_NAMES = ("C1 Compiler", "C2 Compiler")
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class CompilerWatch:
    """Measures from when it is made."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._before = cpu_seconds()

    def percent_of_a_core(self) -> float:
        """What the compilers of this machine's Java processes took since."""
        spent = spent_seconds(self._before, cpu_seconds())
        return round(100 * spent / (time.monotonic() - self._since), 1)


def cpu_seconds(processes: Path = Path("/proc")) -> dict[str, float]:
    """What each compiler's thread has taken so far, by the thread's id."""
    return dict(_threads(processes))


def spent_seconds(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """What was taken meanwhile, but for threads that have ended."""
    return sum(seconds - before.get(thread, 0.0) for thread, seconds in after.items())


def _threads(processes: Path) -> Iterator[tuple[str, float]]:
    for process in processes.glob("[0-9]*"):
        try:
            if (process / "comm").read_text() != "java\n":
                continue
            for thread in (process / "task").iterdir():
                name, _, fields = (thread / "stat").read_text().partition("(")[2].rpartition(")")
                if name.startswith(_NAMES):
                    user, system = fields.split()[11:13]
                    yield thread.name, (int(user) + int(system)) / _TICKS_A_SECOND
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while it was looked at
