"""What comes back to the log from Syncline itself: quarantined messages, and answers to reviews.

It travels the same road as any change, from an outbox (``sync.outbox``) through a topic that every flow
reads. The value is JSON; bytes stand in it in hexadecimal.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from syncline.model.change import ReplayOf
from syncline.model.failure import Failure

INT64_MAX = 2**63 - 1
RESOLUTION_PRODUCER = "resolution"
"""Who speaks in a resolution: a person, who ranks above every writer."""

_PositiveInt64 = Annotated[int, Field(strict=True, gt=0, le=INT64_MAX)]
_Text = Annotated[str, Field(min_length=1)]


class _Reentry(BaseModel):
    model_config = ConfigDict(frozen=True, val_json_bytes="hex", ser_json_bytes="hex")

    flow: _Text
    """The one that it is for."""
    by: _Text
    version: _PositiveInt64
    """From ``sync.versions``."""


class Replay(_Reentry):
    """A message that lay in quarantine, as it came or with corrected fields in its value; or what a person
    chose of a conflict."""

    kind: Literal["replay"]
    quarantine_id: _PositiveInt64 | None
    """``None`` where it never lay there."""
    topic: _Text
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    correction: Annotated[int, Field(strict=True, ge=0, le=INT64_MAX)]
    why: str | None = None


class Resolution(_Reentry):
    """Which value of a field is right, by someone who has seen the versions that it covers, by writer."""

    kind: Literal["resolution"]
    entity_type: _Text
    document_id: _Text
    field: _Text
    value: Any
    covers: dict[str, Annotated[int, Field(strict=True, ge=0, le=INT64_MAX)]]
    at: _Text
    """ISO 8601."""
    why: str


Reentry = Annotated[Replay | Resolution, Field(discriminator="kind")]
REENTRY: TypeAdapter[Replay | Resolution] = TypeAdapter(Reentry)


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
