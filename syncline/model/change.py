"""One committed write to one entity by its owner, as it travels."""

from enum import StrEnum
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from syncline.model.message import Message
from syncline.model.version import Version


class Op(StrEnum):
    UPSERT = "upsert"
    DELETE = "delete"
    FILTERED = "filtered"
    """An upsert of a row that the flow does not want, or no longer: what the copy has of it goes."""


class EntityKey(NamedTuple):
    """A type and an id; the id of ``price:EUR:SKU-1`` is ``EUR:SKU-1``."""

    type: str
    id: str

    def __str__(self) -> str:
        return f"{self.type}:{self.id}"


class ReplayOf(NamedTuple):
    """Which entry of the quarantine is replayed, and by which of its attempts: only the last one counts."""

    quarantine_id: int
    attempt: int


class RetryOf(NamedTuple):
    """Which entry of the retry queue came back, and by which of its sendings: only the last one counts."""

    retry_id: int
    attempt: int
    turned_back: int
    """How often a store had turned it back before."""


class Change(NamedTuple):
    """Immutable, versioned, with its origin. Times are microseconds since the epoch."""

    entity: EntityKey
    op: str
    fields: dict[str, Any]
    version: Version
    content_hash: str
    event_id: str
    is_first: bool
    """The owner says that this write created the entity."""
    producer: str
    """The service that owns the topic on which the change came."""
    committed_at_us: int
    commit_time_is_estimated: bool
    detected_at_us: int
    message: Message
    """That brought it; of a replay not the original one."""
    replay_of: ReplayOf | None = None
    retry_of: RetryOf | None = None

    def to_plain(self) -> tuple[Any, ...]:
        """As plain values, for a snapshot."""
        entity, version, message = tuple(self.entity), tuple(self.version), self.message.to_plain()
        replay_of = None if self.replay_of is None else tuple(self.replay_of)
        retry_of = None if self.retry_of is None else tuple(self.retry_of)
        return tuple(
            self._replace(
                entity=entity,  # type: ignore[arg-type]
                version=version,  # type: ignore[arg-type]
                message=message,  # type: ignore[arg-type]
                replay_of=replay_of,  # type: ignore[arg-type]
                retry_of=retry_of,  # type: ignore[arg-type]
            )
        )

    @classmethod
    def from_plain(cls, plain: tuple[Any, ...]) -> "Change":
        change = cls(*plain)
        return change._replace(
            entity=EntityKey(*change.entity),
            version=Version(*change.version),
            message=Message.from_plain(change.message),
            replay_of=None if change.replay_of is None else ReplayOf(*change.replay_of),
            retry_of=None if change.retry_of is None else RetryOf(*change.retry_of),
        )


class Watermark(NamedTuple):
    """Every change that was committed before this time stands before this mark in its partition."""

    topic: str
    partition: int
    time_us: int


def content_hash(op: str, fields: dict[str, Any]) -> str:
    """A short digest of what a change says, whatever the order of its fields."""
    return value_hash((op, fields))


def value_hash(value: object) -> str:
    """A short digest of a value's canonical JSON."""
    return blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()
