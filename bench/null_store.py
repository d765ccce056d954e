"""A store that costs next to nothing: it takes every write at once and keeps it in memory."""

from collections.abc import Mapping, Sequence
from itertools import count

from syncline.model.store import Outcome, StoredDocument, Token, Write, WriteResult


class NullStore:
    """Checks no token: nobody else writes."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self._sequence_numbers = count()

    def identity(self) -> str:
        return "null"

    def read(self, document_ids: Sequence[str]) -> Mapping[str, StoredDocument]:
        bodies, token = self.bodies, Token(0, 1)
        return {
            document_id: StoredDocument(bodies[document_id], token)
            for document_id in document_ids
            if document_id in bodies
        }

    def write(self, writes: Sequence[Write]) -> Sequence[WriteResult]:
        self.bodies.update((document_id, body) for document_id, body, _ in writes)
        return [WriteResult(Outcome.WRITTEN, Token(next(self._sequence_numbers), 1)) for _ in writes]

    def refresh(self) -> None:
        """Nobody searches."""

    @property
    def writes(self) -> int:
        """How many there were; to be asked once, at the end."""
        return next(self._sequence_numbers)
