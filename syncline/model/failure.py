"""A change that could not go on, for quarantine or the retry queue."""

from typing import NamedTuple

from syncline.model.change import Change, ReplayOf, RetryOf
from syncline.model.errors import ChangeError, Postponed
from syncline.model.message import Message


class Failure(NamedTuple):
    """The raw message, the step that gave up, and why. ``change`` is there once it was decoded."""

    step: str
    message: Message
    error: ChangeError | Postponed
    change: Change | None = None
    undecoded_replay_of: ReplayOf | None = None
    undecoded_retry_of: RetryOf | None = None

    @property
    def replay_of(self) -> ReplayOf | None:
        """The entry of the quarantine that failed again."""
        return self.undecoded_replay_of if self.change is None else self.change.replay_of

    @property
    def retry_of(self) -> RetryOf | None:
        """The entry of the retry queue that failed again."""
        return self.undecoded_retry_of if self.change is None else self.change.retry_of
