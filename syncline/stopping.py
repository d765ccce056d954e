"""Ending a flow cleanly: whoever waits or reads asks here whether it should go on.

Bytewax takes a last snapshot when every source raises ``StopIteration``. So a signal only sets a flag;
the sources see it and end, and whoever waits for a store lets go.
"""

import math
import signal
import time
from datetime import timedelta
from types import FrameType

LET_GO_SECONDS = 1.5
"""How long after the request a server is still waited for: time enough for a last write, and short enough
that the process ends within 5 s."""
_POLL_SECONDS = 0.05


class Stop:
    """A flag that only ever goes up.

    A plain attribute rather than ``threading.Event``: the handler may interrupt the main thread inside
    the event's own lock, and then wait for it for ever.
    """

    def __init__(self) -> None:
        self.requested = False
        self._overdue_at = math.inf

    def request(self) -> None:
        if not self.requested:
            self._overdue_at = time.monotonic() + LET_GO_SECONDS
        self.requested = True

    @property
    def is_overdue(self) -> bool:
        """Whether it was requested so long ago that no server is waited for any more."""
        return time.monotonic() >= self._overdue_at

    def wait(self, seconds: float) -> None:
        """Sleep so long, or until a stop is requested."""
        deadline = time.monotonic() + seconds
        while not self.requested and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _POLL_SECONDS))


def stop_on_signals(stop: Stop, force_after: timedelta = timedelta(seconds=30)) -> None:
    """Request the stop on SIGTERM and SIGINT. Only the main thread may call this.

    A process that has not ended ``force_after`` the first signal, or that gets a second one, is ended by
    the alarm's or the signal's default: the next start resumes from the last snapshot all the same.
    """

    def handle(signal_number: int, _frame: FrameType | None) -> None:
        stop.request()
        signal.signal(signal_number, signal.SIG_DFL)
        signal.alarm(int(force_after.total_seconds()))

    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, handle)
