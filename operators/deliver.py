"""Step 7: reading and writing the copy, each document by compare-and-set."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from zlib import crc32

import orjson

from syncline.model.document import Document, DocumentShape
from syncline.model.errors import Unavailable
from syncline.model.store import Outcome, Store, Token, Write, WriteResult
from syncline.retrying import hold_place
from syncline.stopping import Stop

CREWS = 4
"""Threads that may deliver at the same time, each for documents of its own."""


def crew_of(document_id: str) -> int:
    return crc32(document_id.encode()) % CREWS


class Copy(NamedTuple):
    """A document as the copy has it; without a token it is believed not to exist."""

    document: Document
    token: Token | None


class Held(NamedTuple):
    """As bytes: the garbage collector need not look into a hundred thousand documents."""

    body: bytes
    token: Token


class WorkingSet:
    """What the copy has acknowledged lately, bounded in bytes; the longest unused goes first.

    It only saves reads. The store remains the authority: a write on a state that is no longer the
    newest is turned away there.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._documents: OrderedDict[str, Held] = OrderedDict()

    def get(self, document_id: str) -> Held | None:
        held = self._documents.get(document_id)
        if held is not None:
            self._documents.move_to_end(document_id)
        return held

    def put(self, document_id: str, held: Held) -> None:
        self.discard(document_id)
        self._documents[document_id] = held
        self._bytes += len(held.body)
        while self._bytes > self._max_bytes:
            _, oldest = self._documents.popitem(last=False)
            self._bytes -= len(oldest.body)

    def discard(self, document_id: str) -> None:
        held = self._documents.pop(document_id, None)
        if held is not None:
            self._bytes -= len(held.body)


class Deliver:
    """Holds the place while the store is away; raises ``TransientError`` only when asked to stop."""

    def __init__(self, store: Store, shape: DocumentShape, working_set_bytes: int, stop: Stop) -> None:
        self._store = store
        self._shape = shape
        self._working_sets = [WorkingSet(working_set_bytes // CREWS) for _ in range(CREWS)]
        self._stop = stop

    def identity(self) -> str:
        return hold_place(self._stop, "asking the store who it is")(self._store.identity)

    def load(self, may_be_new: Mapping[str, bool]) -> dict[str, Copy]:
        """Load documents by id: from the working set, else from the store.

        One that is not held and may be new is taken as absent without a look: its ``create`` is turned
        away if that was wrong, which is cheaper than reading each new document before it exists.
        """
        copies: dict[str, Copy] = {}
        unknown: list[str] = []
        for document_id, is_new in may_be_new.items():
            held = self._working_sets[crew_of(document_id)].get(document_id)
            if held is not None:
                copies[document_id] = Copy(orjson.loads(held.body), held.token)
            elif is_new:
                copies[document_id] = Copy(self._shape.empty(document_id), None)
            else:
                unknown.append(document_id)
        if unknown:
            read = hold_place(self._stop, "reading documents")(self._store.read, unknown)
            for document_id in unknown:
                stored = read.get(document_id)
                copies[document_id] = (
                    Copy(self._shape.empty(document_id), None) if stored is None else Copy(*stored)
                )
        return copies

    def write(self, writes: Sequence[Write]) -> dict[str, WriteResult]:
        """Write until the store has an answer other than ``retry`` for each, and return them by id."""
        results: dict[str, WriteResult] = {}
        outstanding = list(writes)

        def attempt() -> None:
            nonlocal outstanding
            turned_back = []
            for write, result in zip(outstanding, self._store.write(outstanding), strict=True):
                if result.outcome is Outcome.RETRY:
                    turned_back.append(write)
                else:
                    results[write.document_id] = result
                    self._remember(write, result)
            outstanding = turned_back
            if outstanding:
                raise Unavailable(f"the store asked to retry {len(outstanding)} writes")

        if outstanding:
            hold_place(self._stop, "writing documents")(attempt)
        return results

    def _remember(self, write: Write, result: WriteResult) -> None:
        working_set = self._working_sets[crew_of(write.document_id)]
        if result.outcome is Outcome.WRITTEN and result.token is not None:
            working_set.put(write.document_id, Held(write.body, result.token))
        else:
            working_set.discard(write.document_id)
