"""Every error that Syncline raises, in one tree.

    SynclineError
    ├── TransientError            the same call may work later: hold the place, back off, try again
    │   ├── Unavailable
    │   │   └── Overloaded
    │   └── Fenced
    ├── Postponed                 the store takes others, not this one now: the retry queue, the flow goes on
    ├── ChangeError               one change is at fault: it goes to quarantine, the flow goes on
    │   ├── Undecodable
    │   ├── NotOwner
    │   ├── Untransformable
    │   ├── Invalid
    │   │   └── Contradictory
    │   ├── Refused
    │   └── Poison
    ├── NotPossible               what a person asked for cannot be done as things stand; nothing was changed
    └── FatalError                nothing will help but a person: stop with a clear message
        ├── BadCredentials
        ├── MissingResource
        ├── Misconfigured
        ├── CopyReplaced
        ├── LogTruncated
        ├── LogReplaced
        ├── RecoveryUnusable
        ├── SourceRestored
        └── ServerDidNotStart

How an error is treated follows from its class alone, never from its text. An exception from outside
this tree that reaches a flow is a bug, and as fatal as one.
"""

from typing import ClassVar


class SynclineError(Exception):
    """Syncline failed."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class TransientError(SynclineError):
    """The target cannot be reached or is overloaded; the same call may work later."""


class Unavailable(TransientError):
    """A server refused the connection, timed out, or asked for less load."""


class Overloaded(Unavailable):
    """A server answers, and asks for less load."""


class Fenced(TransientError):
    """Another process has taken over this one's work; wait for it to let go."""


class Postponed(SynclineError):
    """The store takes other changes, and not this one for now.

    It is no ``TransientError``: to hold the place for it would hold up all others. It is no
    ``ChangeError``: nothing is wrong with it, and it needs no person unless it goes on for long.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)


class ChangeError(SynclineError):
    """One change is at fault; others are not."""


class Undecodable(ChangeError):
    """The bytes of this message are not a change that Syncline knows."""


class NotOwner(ChangeError):
    """The service that speaks does not own what it speaks of."""

    def __init__(self, entity: str, owner: str, producer: str) -> None:
        super().__init__(f"{entity} belongs to {owner}; {producer} may not write it")
        self.owner = owner


class Untransformable(ChangeError):
    """The fields of this change do not fit the document's mapping."""


class Invalid(ChangeError):
    """The change breaks a rule of the data policy."""


class Contradictory(Invalid):
    """Values of the change contradict each other, by a rule of the business."""


class Refused(ChangeError):
    """The store refuses this change for what it is; trying again cannot help."""


class Poison(ChangeError):
    """The flow died of this change each time that it was read."""


class NotPossible(SynclineError):
    """What was asked for cannot be done as things stand."""


class FatalError(SynclineError):
    """Syncline cannot go on without a person's help."""

    remedy: ClassVar[str] = "read the flow's log"
    """What a person does first; the error itself names what it is about."""


class BadCredentials(FatalError):
    """The server rejected the user name, password or permissions."""

    remedy = "correct the user or the password in the settings"


class MissingResource(FatalError):
    """A topic, index, table or schema that the flow needs does not exist."""

    remedy = "syncline setup"


class Misconfigured(FatalError):
    """A setting is missing or does not fit the others."""

    remedy = "correct the settings"


class CopyReplaced(FatalError):
    """The copy is not the one that was written to; what it held must be loaded again."""

    remedy = "remove the recovery folder as the error says"


class LogTruncated(FatalError):
    """The log no longer holds the changes that come next; the sources must be read again."""

    remedy = "remove the recovery folder as the error says"


class LogReplaced(FatalError):
    """The log is not the one that was read; what it held and was not read must be sent again."""

    remedy = "remove the recovery folder as the error says"


class RecoveryUnusable(FatalError):
    """The recovery folder is corrupt, or of another version; without it the flow reads the log anew."""

    remedy = "remove the recovery folder as the error says"


class SourceRestored(FatalError):
    """A source was restored to an earlier point: its changes would be older than what the copies hold."""

    remedy = "set SYNCLINE_GENERATION as the error says"


class ServerDidNotStart(FatalError):
    """An embedded server did not become ready."""


def remedy_of(error: str) -> str:
    """What a person does first about an error whose text begins with the name of its class."""
    kind, _, _ = error.partition(":")
    remedies = {known.__name__: known.remedy for known in FatalError.__subclasses__()}
    return remedies.get(kind, FatalError.remedy)
