"""Looking at something again and again while something else goes on."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Sample = dict[str, Any]
"""What was seen, with the time of the look: ``at_us``."""


@contextmanager
def every(seconds: float, look: Callable[[], Sample]) -> Iterator[list[Sample]]:
    """The samples so far, complete when the block is left; a look that fails ends it with the same error."""
    samples: list[Sample] = []
    failures: list[Exception] = []
    over = threading.Event()

    def go_on() -> None:
        try:
            while not over.wait(seconds):
                samples.append({"at_us": time.time_ns() // 1_000, **look()})
        except Exception as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]
