"""Step 7: reading and writing the copy, each document by compare-and-set."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from operators.calls import Work
from syncline.circuit import Circuit
from syncline.jitter import JITTER
from syncline.model.errors import Overloaded
from syncline.model.store import Outcome, Store, StoredDocument, Write, WriteResult

IN_PLACE_RETRIES = 2
"""In a row that brought nothing; as long as some more is taken, it goes on."""
FIRST_IN_PLACE_WAIT_SECONDS = 0.1
"""The n-th wait is drawn evenly from 0 to ``0.1 s * 2**(n - 1)``: a rival writer is done by then."""

_TURNED_BACK = frozenset({Outcome.RETRY, Outcome.LOCKED})


class WorkingSet:
    """What the copy has acknowledged lately, bounded in bytes; the longest unused goes first.

    It only saves reads. The store remains the authority: a write on a state that is no longer the
    newest is turned away there.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._documents: OrderedDict[str, StoredDocument] = OrderedDict()

    def get(self, document_id: str) -> StoredDocument | None:
        held = self._documents.get(document_id)
        if held is not None:
            self._documents.move_to_end(document_id)
        return held

    def put(self, document_id: str, held: StoredDocument) -> None:
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
    """Holds the place while the store is away; raises ``Unavailable`` only when asked to stop."""

    def __init__(self, store: Store, working_set_bytes: int, circuit: Circuit) -> None:
        self._store = store
        self._working_set = WorkingSet(working_set_bytes)
        self._circuit = circuit

    def identity(self) -> str:
        return self._circuit.hold_place("asking the store who it is")(self._store.identity)

    def load(self, may_be_new: Mapping[str, bool]) -> Work[Mapping[str, StoredDocument | None]]:
        """Load documents by id: from the working set, else from the store; ``None`` where there is none.

        One that is not held and may be new is taken as absent without a look: its ``create`` is turned
        away if that was wrong, which is cheaper than reading each new document before it exists.
        """
        documents = {document_id: self._working_set.get(document_id) for document_id in may_be_new}
        unknown = [id_ for id_, document in documents.items() if document is None and not may_be_new[id_]]
        if unknown:
            documents.update((yield partial(self._read, unknown)))
        return documents

    def write(self, writes: Sequence[Write]) -> Work[Mapping[str, WriteResult]]:
        """Write, and answer what became of each by id.

        While the store has no room for any, the place is held. What it turns back alone is tried again a few
        times; if that does not help, its outcome is ``retry`` or ``locked``.
        """
        if not writes:
            return {}
        results: Mapping[str, WriteResult] = yield partial(self._write, writes)
        for write in writes:
            document_id, body, _ = write
            outcome, token, _ = results[document_id]
            if outcome is Outcome.WRITTEN and token is not None:
                self._working_set.put(document_id, StoredDocument(body, token))
            else:
                self._working_set.discard(document_id)
        return results

    def _read(self, document_ids: Sequence[str]) -> Mapping[str, StoredDocument]:
        return self._circuit.hold_place("reading documents")(self._store.read, document_ids)

    def _write(self, writes: Sequence[Write]) -> Mapping[str, WriteResult]:
        results = self._circuit.hold_place("writing documents")(self._write_unless_overloaded, writes)
        turned_back = _turned_back(writes, results)
        tried = 0
        while turned_back and tried < IN_PLACE_RETRIES:
            self._circuit.stop.wait(JITTER.uniform(0, FIRST_IN_PLACE_WAIT_SECONDS * 2**tried))
            results |= self._circuit.hold_place("writing documents")(self._write_each, turned_back)
            left = _turned_back(turned_back, results)
            tried = tried + 1 if len(left) == len(turned_back) else 0
            turned_back = left
        return results

    def _write_unless_overloaded(self, writes: Sequence[Write]) -> dict[str, WriteResult]:
        results = self._write_each(writes)
        if all(result.outcome is Outcome.RETRY for result in results.values()):
            reason = next((result.reason for result in results.values() if result.reason), "no reason given")
            raise Overloaded(f"the store asked to retry {len(writes)} writes: {reason}")
        return results

    def _write_each(self, writes: Sequence[Write]) -> dict[str, WriteResult]:
        results = self._store.write(writes)
        return {write.document_id: result for write, result in zip(writes, results, strict=True)}


def _turned_back(writes: Iterable[Write], results: Mapping[str, WriteResult]) -> list[Write]:
    return [write for write in writes if results[write.document_id].outcome in _TURNED_BACK]
