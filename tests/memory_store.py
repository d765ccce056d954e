"""A twin of the Elasticsearch store, in memory: the same contract, and faults at will.

``tests/model/test_store.py`` holds both to one contract.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from itertools import count
from typing import NamedTuple

import orjson

from syncline.model.document import Document
from syncline.model.errors import Unavailable
from syncline.model.store import Outcome, StoredDocument, Token, Write, WriteResult


class Crash(Exception):
    """The process died here."""


class Fault(Enum):
    """What befalls one call."""

    NONE = "none"
    UNAVAILABLE = "the store does not answer, and took nothing"
    UNAVAILABLE_AFTER_WRITE = "the store took it all, and its answer was lost"
    UNAVAILABLE_HALFWAY = "the store took the first half, and its answer was lost"
    RETRY = "the store takes nothing, and asks to retry each write"
    RETRY_EVERY_SECOND = "the store asks to retry the first, third, ... write"
    CRASH_BEFORE_WRITE = "the process dies, and the store took nothing"
    CRASH_AFTER_WRITE = "the process dies, and the store took it all"
    CRASH_HALFWAY = "the process dies, and the store took the first half"


_UNAVAILABLE = {Fault.UNAVAILABLE, Fault.UNAVAILABLE_AFTER_WRITE, Fault.UNAVAILABLE_HALFWAY}
_CRASH = {Fault.CRASH_BEFORE_WRITE, Fault.CRASH_AFTER_WRITE, Fault.CRASH_HALFWAY}
_TAKEN_ALL = {Fault.NONE, Fault.UNAVAILABLE_AFTER_WRITE, Fault.CRASH_AFTER_WRITE}
_TAKEN_HALF = {Fault.UNAVAILABLE_HALFWAY, Fault.CRASH_HALFWAY}


def refuses_nothing(document: Document) -> str | None:
    return None


class Kept(NamedTuple):
    body: bytes
    token: Token


class MemoryStore:
    """Keeps documents in a dictionary. ``refuses`` says why a document is refused, or ``None``."""

    def __init__(
        self, refuses: Callable[[Document], str | None] = refuses_nothing, name: str = "memory"
    ) -> None:
        self.documents: dict[str, Kept] = {}
        self.write_faults: deque[Fault] = deque()
        """What befalls the next calls of ``write``, one each."""
        self.read_faults: deque[Fault] = deque()
        self.locked: Counter[str] = Counter()
        """By document: how many more of its writes find it locked by somebody else."""
        self.before_write: Callable[[], None] = lambda: None
        """Runs where others may come in between: after the caller has read, before its write is taken."""
        self.reads: list[list[str]] = []
        """The ids of each call of ``read``."""
        self.writes: list[list[Write]] = []
        """The writes of each call of ``write``."""
        self._refuses = refuses
        self._name = name
        self._sequence_numbers = count()

    def identity(self) -> str:
        return self._name

    def refresh(self) -> None:
        """Nobody searches here."""

    def read(self, document_ids: Sequence[str]) -> Mapping[str, StoredDocument]:
        self.reads.append(list(document_ids))
        if self.read_faults and self.read_faults.popleft() is not Fault.NONE:
            raise Unavailable
        return {
            document_id: StoredDocument(*kept)
            for document_id in document_ids
            if (kept := self.documents.get(document_id)) is not None
        }

    def write(self, writes: Sequence[Write]) -> Sequence[WriteResult]:
        self.writes.append(list(writes))
        self.before_write()
        fault = self.write_faults.popleft() if self.write_faults else Fault.NONE
        results = [
            self._take(write)
            if number in self._taken(fault, len(writes))
            else WriteResult(Outcome.RETRY, reason="no room")
            for number, write in enumerate(writes)
        ]
        if fault in _UNAVAILABLE:
            raise Unavailable
        if fault in _CRASH:
            raise Crash
        return results

    def _taken(self, fault: Fault, total: int) -> Collection[int]:
        if fault in _TAKEN_ALL:
            return range(total)
        if fault in _TAKEN_HALF:
            return range((total + 1) // 2)
        return range(1, total, 2) if fault is Fault.RETRY_EVERY_SECOND else ()

    def _take(self, write: Write) -> WriteResult:
        if self.locked[write.document_id] > 0:
            self.locked[write.document_id] -= 1
            return WriteResult(Outcome.LOCKED, reason="locked")
        reason = self._refuses(orjson.loads(write.body))
        if reason is not None:
            return WriteResult(Outcome.REFUSED, reason=reason)
        standing = self.documents.get(write.document_id)
        if (None if standing is None else standing.token) != write.expected:
            return WriteResult(Outcome.ALREADY_NEWER)
        token = Token(next(self._sequence_numbers), 1)
        self.documents[write.document_id] = Kept(write.body, token)
        return WriteResult(Outcome.WRITTEN, token)

    def document(self, document_id: str) -> Document:
        document: Document = orjson.loads(self.documents[document_id].body)
        return document
