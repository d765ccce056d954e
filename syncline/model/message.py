"""What a log holds: as it is read, before anything is known of its content, and as it is written."""

from typing import Any, NamedTuple


class Message(NamedTuple):
    """One record of a log, raw. Times are microseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    appended_at_us: int
    """When the log took it (the broker's clock)."""
    received_at_us: int
    """When this process got it."""
    poison: str | None = None
    """How the flow died of it, where it did: it must not be looked into again."""

    @property
    def position(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"

    def to_plain(self) -> tuple[Any, ...]:
        """As plain values, for a snapshot."""
        return tuple(self)

    @classmethod
    def from_plain(cls, plain: tuple[Any, ...]) -> "Message":
        return cls(*plain)


class Record(NamedTuple):
    """One record to be appended to a log."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    partition: int | None = None
    """``None`` leaves the choice to the key."""
