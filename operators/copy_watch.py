"""Is the copy still the one that is written to?

An index that is deleted and made again under a running flow takes its writes: what was in it would be missing
without a word until the next start.
"""

from collections.abc import Callable

from syncline.clock import Clock
from syncline.model.errors import CopyReplaced

LOOK_EVERY_SECONDS = 10


class CopyWatch:
    """Looks now and then, as long as something is written."""

    def __init__(self, ask: Callable[[], str], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self.identity = ask()
        self._look_at_us = clock() + LOOK_EVERY_SECONDS * 1_000_000

    def look(self) -> None:
        """Raises ``CopyReplaced``."""
        if self._clock() < self._look_at_us:
            return
        self.compare(self.identity, self._ask(), "the flow wrote to")
        self._look_at_us = self._clock() + LOOK_EVERY_SECONDS * 1_000_000

    @staticmethod
    def compare(known: str, found: str, where: str) -> None:
        """Raises ``CopyReplaced`` where they differ."""
        if known != found:
            raise CopyReplaced(
                f"{where} the copy {known}, but this is {found}; remove the recovery folder, the flow then "
                "loads the copy from the log's beginning"
            )
