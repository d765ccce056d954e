"""What the operators know of a store that keeps documents."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import orjson


class Outcome(StrEnum):
    WRITTEN = "written"
    ALREADY_NEWER = "already_newer"
    """The document is not the one that was read: read again, merge again."""
    RETRY = "retry"
    """The store had no room for this one now."""
    LOCKED = "locked"
    """Somebody else holds this very document; the store takes others."""
    REFUSED = "refused"
    """The store will never take this document as it is."""


class Token(NamedTuple):
    """Names one state of one document, for compare-and-set."""

    sequence_number: int
    """Drawn by the write; no two writes of one term have the same."""
    primary_term: int
    """Tells apart histories that number their writes anew: terms of a shard, or tables of one name."""


class StoredDocument(NamedTuple):
    body: bytes
    """JSON."""
    token: Token

    @property
    def document(self) -> dict[str, Any]:
        """The body, parsed anew at each call."""
        document: dict[str, Any] = orjson.loads(self.body)
        return document


class Write(NamedTuple):
    """Replace the document in the state ``expected``; ``None`` expects that there is none."""

    document_id: str
    body: bytes
    """JSON."""
    expected: Token | None


class WriteResult(NamedTuple):
    outcome: Outcome
    token: Token | None = None
    reason: str = ""


class Store(Protocol):
    """Keeps JSON documents by id, each write a compare-and-set of one document. Thread-safe.

    Every method raises :class:`~syncline.model.errors.Unavailable` when the same call may work
    later and a :class:`~syncline.model.errors.FatalError` when only a person can help.
    """

    def identity(self) -> str:
        """Names this very copy: another one, even of the same name, has lost what was written."""
        ...

    def read(self, document_ids: Sequence[str]) -> Mapping[str, StoredDocument]:
        """The newest acknowledged state of each document that exists."""
        ...

    def write(self, writes: Sequence[Write]) -> Sequence[WriteResult]:
        """Take each write on its own; results stand in the order of the writes. Ids are distinct."""
        ...

    def refresh(self) -> None:
        """Have searches find every write that was acknowledged before this call."""
        ...
