"""What comes back to the log from Syncline itself: quarantined messages, what a store could not take for now,
and answers to reviews.

It travels the same road as any change, from an outbox (``sync.outbox``) through a topic that every flow
reads. The value is JSON; bytes stand in it in hexadecimal.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from syncline.model.change import ReplayOf, RetryOf
from syncline.model.failure import Failure

INT64_MAX = 2**63 - 1
RESOLUTION_PRODUCER = "resolution"
"""Who speaks in a resolution: a person, who ranks above every writer."""

_PositiveInt64 = Annotated[int, Field(strict=True, gt=0, le=INT64_MAX)]
_NaturalInt64 = Annotated[int, Field(strict=True, ge=0, le=INT64_MAX)]
_Text = Annotated[str, Field(min_length=1)]


class _Reentry(BaseModel):
    model_config = ConfigDict(frozen=True, val_json_bytes="hex", ser_json_bytes="hex")

    flow: _Text
    """The one that it is for."""
    by: _Text
    version: _PositiveInt64
    """From ``sync.versions``."""


class _Carrying(_Reentry):
    """With the message that comes back."""

    topic: _Text
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class Replay(_Carrying):
    """A message that lay in quarantine, as it came or with corrected fields in its value; or what a person
    chose of a conflict."""

    kind: Literal["replay"]
    quarantine_id: _PositiveInt64 | None
    """``None`` where it never lay there."""
    correction: _NaturalInt64
    why: str | None = None


class Retry(_Carrying):
    """A message whose change a store could not take for now, whole and with its place in the log. It may be a
    replay or a resolution itself."""

    kind: Literal["retry"]
    retry_id: _PositiveInt64
    turned_back: _NaturalInt64
    """How often a store has turned it back."""
    partition: _NaturalInt64
    offset: _NaturalInt64
    appended_at_us: _NaturalInt64


class Resolution(_Reentry):
    """Which value of a field is right, by someone who has seen the versions that it covers, by writer."""

    kind: Literal["resolution"]
    entity_type: _Text
    document_id: _Text
    field: _Text
    value: Any
    covers: dict[str, _NaturalInt64]
    at: _Text
    """ISO 8601."""
    why: str


Reentry = Annotated[Replay | Retry | Resolution, Field(discriminator="kind")]
REENTRY: TypeAdapter[Replay | Retry | Resolution] = TypeAdapter(Reentry)


class ReplayState(StrEnum):
    """What an entry of the quarantine is once a replay of it has come to its end."""

    REPLAYED = "replayed"
    """The copy says what it says."""
    OVERTAKEN = "overtaken"
    """The copy already had something that stands above it."""
    OPEN = "open"
    """It failed again."""


class ReplayEnd(NamedTuple):
    """``failure`` is there where it failed again."""

    replay_of: ReplayOf
    state: ReplayState
    failure: Failure | None = None


class RetryState(StrEnum):
    """What an entry of the retry queue is once it has come back."""

    DONE = "done"
    """The copy says what it says."""
    OVERTAKEN = "overtaken"
    """The copy already had something that stands above it."""
    QUARANTINED = "quarantined"
    """It can never be taken."""
    WAITING = "waiting"
    """It was turned back again."""
    ESCALATED = "escalated"
    """It was turned back once too often: it waits for a person."""


class RetryEnd(NamedTuple):
    """``failure`` is there where it did not get in."""

    retry_of: RetryOf
    state: RetryState
    failure: Failure | None = None
