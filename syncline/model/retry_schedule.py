"""When a change that a store could not take for now is tried again."""

from datetime import timedelta

FIRST_WAIT = timedelta(seconds=1)
LONGEST_WAIT = timedelta(minutes=5)
_DOUBLINGS = 9
"""After so many waits the next one would be longer than the longest."""


def wait_before_retry(turned_back: int, draw: float) -> timedelta:
    """How long a change waits that a store has turned back so many times, at least once.

    It is the part ``draw`` (from 0 to 1, evenly drawn) of 1, 2, 4, 8, 16, 32, 64, 128, 256 and from then on
    300 seconds: exponential backoff with full jitter (M. Brooker, "Exponential Backoff And Jitter", 2015). So
    changes that were turned back together come apart. Ten waits are 13.5 minutes at the longest, and half
    of that on average.
    """
    return draw * longest_wait(turned_back)


def longest_wait(turned_back: int) -> timedelta:
    if turned_back > _DOUBLINGS:
        return LONGEST_WAIT
    return FIRST_WAIT * (1 << (turned_back - 1))
