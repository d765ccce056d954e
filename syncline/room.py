"""Back-pressure within a worker: how much more of the log there is room for, and how much is done in time.

A queue between the two would do as well, were it bounded; Bytewax's are not.
"""

import sys
import threading
from datetime import timedelta


class Room:
    """How many normal changes, and how many bytes of them, the window of this worker still takes.

    The window tells, the source asks; each worker is a thread, and has its own. Until told there is room for
    any number. In a cluster the changes of one worker's partitions go to the windows of all: each reads what
    its own has room for, which evens out where partitions and documents are spread alike.
    """

    def __init__(self) -> None:
        self._of_worker = threading.local()

    def tell(self, changes: int, size_bytes: int) -> None:
        self._of_worker.left = (max(0, changes), max(0, size_bytes))

    @property
    def left(self) -> tuple[int, int]:
        """Changes and bytes."""
        left: tuple[int, int] = getattr(self._of_worker, "left", (sys.maxsize, sys.maxsize))
        return left


class Pace:
    """How many things at once are done in a given time: at most so many, fewer while they take long.

    It begins with few, and doubles: what takes long is only known when it is over.
    """

    def __init__(self, most: int, fewest: int, lasts_at_most: timedelta) -> None:
        self.fitting = min(2 * fewest, most)
        self._most = most
        self._fewest = min(fewest, most)
        self._lasts_at_most = lasts_at_most

    def took(self, count: int, time: timedelta) -> None:
        """So many together took so long. Of few most of the time may not be theirs: they tell nothing."""
        if 2 * count < self.fitting:
            return
        if time > self._lasts_at_most:
            self.fitting = min(self.fitting, max(self._fewest, int(count * (self._lasts_at_most / time))))
        elif count >= self.fitting:
            self.fitting = min(self._most, 2 * self.fitting)
