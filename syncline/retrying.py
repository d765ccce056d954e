"""Holding the place in the log while a whole target is away.

The log is the queue: while a call is tried again, nothing new is read, so memory stays flat.
"""

import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from syncline.model.errors import TransientError
from syncline.stopping import Stop

FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 10.0

_log = structlog.get_logger()


def hold_place(stop: Stop, doing: str) -> Retrying:
    """Try again on a transient error until it works or a stop is requested; then the error is raised.

    The n-th wait is drawn evenly from 0 to ``0.1 s * 2**(n - 1)``, at most 10 s: exponential backoff with
    full jitter (M. Brooker, "Exponential Backoff And Jitter", 2015).
    """

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        _log.warning("holding the place", doing=doing, attempt=state.attempt_number, error=str(error))

    return Retrying(
        retry=retry_if_exception_type(TransientError),
        wait=wait_random_exponential(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS),
        stop=lambda _state: stop.requested,
        sleep=stop.wait,
        before_sleep=tell,
        reraise=True,
    )
