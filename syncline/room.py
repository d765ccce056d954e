"""Back-pressure within a worker: what reads the log asks here how much more of it there is room for.

A queue between the two would do as well, were it bounded; Bytewax's are not.
"""

import sys
import threading


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
