"""Every error that Syncline raises, in one tree.

    SynclineError
    ├── TransientError            the same call may work later: hold the place, back off, try again
    │   ├── Unavailable
    │   └── Fenced
    ├── ChangeError               one change is at fault: it goes to quarantine, the flow goes on
    │   ├── Undecodable
    │   ├── Untransformable
    │   ├── Invalid
    │   └── Refused
    ├── NotPossible               what a person asked for cannot be done as things stand; nothing was changed
    └── FatalError                nothing will help but a person: stop with a clear message
        ├── BadCredentials
        ├── MissingResource
        ├── Misconfigured
        ├── CopyReplaced
        ├── LogTruncated
        └── ServerDidNotStart

How an error is treated follows from its class alone, never from its text. An exception from outside
this tree that reaches a flow is a bug, and as fatal as one.
"""


class SynclineError(Exception):
    """Syncline failed."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class TransientError(SynclineError):
    """The target cannot be reached or is overloaded; the same call may work later."""


class Unavailable(TransientError):
    """A server refused the connection, timed out, or asked for less load."""


class Fenced(TransientError):
    """Another process has taken over this one's work; wait for it to let go."""


class ChangeError(SynclineError):
    """One change is at fault; others are not."""


class Undecodable(ChangeError):
    """The bytes of this message are not a change that Syncline knows."""


class Untransformable(ChangeError):
    """The fields of this change do not fit the document's mapping."""


class Invalid(ChangeError):
    """The change breaks a rule of the data policy."""


class Refused(ChangeError):
    """The store refuses this change for what it is; trying again cannot help."""


class NotPossible(SynclineError):
    """What was asked for cannot be done as things stand."""


class FatalError(SynclineError):
    """Syncline cannot go on without a person's help."""


class BadCredentials(FatalError):
    """The server rejected the user name, password or permissions."""


class MissingResource(FatalError):
    """A topic, index, table or schema that the flow needs does not exist."""


class Misconfigured(FatalError):
    """A setting is missing or does not fit the others."""


class CopyReplaced(FatalError):
    """The copy is not the one that was written to; what it held must be loaded again."""


class LogTruncated(FatalError):
    """The log no longer holds the changes that come next; the sources must be read again."""


class ServerDidNotStart(FatalError):
    """An embedded server did not become ready."""
