"""The clock that the data path is given; tests give another."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Answers the time in microseconds since the epoch."""


def system_clock_us() -> int:
    return time.time_ns() // 1000
