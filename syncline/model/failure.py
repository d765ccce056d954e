"""A change that could not go on, for quarantine."""

from typing import NamedTuple

from syncline.model.change import Change, ReplayOf
from syncline.model.errors import ChangeError
from syncline.model.message import Message


class Failure(NamedTuple):
    """The raw message, the step that gave up, and why. ``change`` is there once it was decoded."""

    step: str
    message: Message
    error: ChangeError
    change: Change | None = None
    undecoded_replay_of: ReplayOf | None = None

    @property
    def replay_of(self) -> ReplayOf | None:
        """The entry of the quarantine that failed again."""
        return self.undecoded_replay_of if self.change is None else self.change.replay_of
