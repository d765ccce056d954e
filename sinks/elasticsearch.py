"""Documents in an Elasticsearch index, each written by compare-and-set.

Sources: Elasticsearch reference, "Optimistic concurrency control" (``if_seq_no``, ``if_primary_term``)
and "Bulk API" (each item succeeds or fails on its own; ``require_alias``). A get by id sees every
acknowledged write at once, without waiting for a refresh.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

import orjson
from elastic_transport import ApiResponse
from elasticsearch import ApiError
from msgspec import MsgspecError, Raw, Struct, field
from msgspec.json import Decoder

from syncline.asking import Asking
from syncline.elasticsearch import (
    FAILURES,
    NOT_FOUND,
    TO_BE_RETRIED,
    Unparsed,
    connect,
    missing,
    raise_typed,
)
from syncline.model.errors import FatalError, MissingResource, Unavailable
from syncline.model.store import Outcome, StoredDocument, Token, Write, WriteResult
from syncline.stopping import Stop

P = ParamSpec("P")
T = TypeVar("T")

BULK_MAX_ACTIONS = 1_000
BULK_MAX_BYTES = 8 * 1024 * 1024
READ_MAX_DOCUMENTS = 1_000
LOOK_TIMEOUT_SECONDS = 5

_WRITTEN = frozenset({200, 201})
_CONFLICT = 409
_TOO_LARGE = 413
_REFUSED = 400


class _Error(Struct):
    type: str = ""
    reason: str | None = None
    caused_by: "_Error | None" = None

    def __str__(self) -> str:
        """The store's own words, with the innermost cause, which names the field."""
        reasons, cause = [f"{self.type}: {self.reason}"], self.caused_by
        while cause is not None:
            reasons.append(str(cause.reason))
            cause = cause.caused_by
        return "; ".join(reasons)


class _Written(Struct):
    status: int
    sequence_number: int = field(name="_seq_no", default=-1)
    primary_term: int = field(name="_primary_term", default=-1)
    error: _Error | None = None


class _Bulk(Struct):
    items: list[dict[str, _Written]]


class _Found(Struct):
    id: str = field(name="_id")
    found: bool = False
    sequence_number: int = field(name="_seq_no", default=-1)
    primary_term: int = field(name="_primary_term", default=-1)
    source: Raw = field(name="_source", default=Raw())
    error: _Error | None = None


class _Multiget(Struct):
    docs: list[_Found]


_bulk = Decoder(_Bulk)
_multiget = Decoder(_Multiget)
"""They take answers apart without parsing the documents in them. A ``filter_path`` would make the answers
shorter, but has the server parse each document to do so."""


class ElasticsearchStore:
    """The :class:`~syncline.model.store.Store` behind one alias. Thread-safe; connects at the first call.

    Where there is a stop it lets go of a request that is not answered. What that wrote may still be taken:
    at most once, being compared with what was read, and the next start finds it.
    """

    def __init__(self, url: str, alias: str, stop: Stop | None = None) -> None:
        self.alias = alias
        self.client = connect(url)
        self._data = connect(url, serializer=Unparsed())
        self._asking = None if stop is None else Asking(stop)

    def close(self) -> None:
        if self._asking is not None:
            self._asking.close()
        self.client.close()
        self._data.close()

    def create_index(self, name: str, body: Mapping[str, Any]) -> bool:
        """Create an index with its aliases, unless the alias stands for one already."""
        try:
            if self.client.indices.exists_alias(name=self.alias):
                return False
            self.client.indices.create(index=name, **body)
        except FAILURES as error:
            raise_typed(error, self.alias)
        return True

    def look(self) -> None:
        """See whether it answers, and give up sooner than others do. Raises ``Unavailable``."""
        soon = self.client.options(request_timeout=LOOK_TIMEOUT_SECONDS)
        self.ask(soon.indices.exists_alias, name=self.alias)

    def identity(self) -> str:
        """Name and UUID of the index behind the alias."""
        settings = self.ask(
            self.client.indices.get_settings, index=self.alias, filter_path="*.settings.index.uuid"
        )
        indices = {name: answer["settings"]["index"]["uuid"] for name, answer in settings.body.items()}
        if len(indices) != 1:
            raise MissingResource(f"the alias {self.alias} must stand for one index, not {sorted(indices)}")
        return ":".join(next(iter(indices.items())))

    def read(self, document_ids: Sequence[str]) -> Mapping[str, StoredDocument]:
        found: dict[str, StoredDocument] = {}
        for start in range(0, len(document_ids), READ_MAX_DOCUMENTS):
            found.update(self._read(document_ids[start : start + READ_MAX_DOCUMENTS]))
        return found

    def _read(self, document_ids: Sequence[str]) -> dict[str, StoredDocument]:
        answer = self.ask(self._data.mget, index=self.alias, ids=list(document_ids), realtime=True)
        found = {}
        for document in _taken_apart(_multiget, answer).docs:
            if document.error is not None:
                raise _unavailable_or_missing(document.error, self.alias)
            if document.found:
                token = Token(document.sequence_number, document.primary_term)
                found[document.id] = StoredDocument(bytes(document.source), token)
        return found

    def write(self, writes: Sequence[Write]) -> Sequence[WriteResult]:
        return [result for chunk in _chunks(writes) for result in self._write(chunk)]

    def _write(self, writes: Sequence[Write]) -> list[WriteResult]:
        lines = [line for write in writes for line in (_action(write), write.body)]
        operations = cast("Sequence[dict[str, Any]]", [b"\n".join(lines)])
        bulk = partial(self._data.bulk, index=self.alias, operations=operations, require_alias=True)
        try:
            answer = self._answer_of(bulk)
        except FAILURES as error:
            if isinstance(error, ApiError) and error.status_code == _TOO_LARGE:
                return self._write_halves(writes)
            raise_typed(error, self.alias)
        return [
            self._result(written) for item in _taken_apart(_bulk, answer).items for written in item.values()
        ]

    def refresh(self) -> None:
        self.ask(self.client.indices.refresh, index=self.alias)

    def ask(self, request: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """What the client answers to a request of its own; a failure is raised by class."""
        try:
            return self._answer_of(partial(request, *arguments, **named))
        except FAILURES as error:
            raise_typed(error, self.alias)

    def _answer_of(self, request: Callable[[], T]) -> T:
        return request() if self._asking is None else self._asking(request)

    def _write_halves(self, writes: Sequence[Write]) -> list[WriteResult]:
        if len(writes) == 1:
            size = len(writes[0].body)
            return [WriteResult(Outcome.REFUSED, reason=f"the document of {size} bytes is too large")]
        middle = len(writes) // 2
        return self._write(writes[:middle]) + self._write(writes[middle:])

    def _result(self, written: _Written) -> WriteResult:
        status = written.status
        if status in _WRITTEN:
            return WriteResult(Outcome.WRITTEN, Token(written.sequence_number, written.primary_term))
        if status == _CONFLICT:
            return WriteResult(Outcome.ALREADY_NEWER)
        if status in TO_BE_RETRIED:
            return WriteResult(Outcome.RETRY, reason=str(written.error))
        if status == _REFUSED:
            return WriteResult(Outcome.REFUSED, reason=str(written.error))
        if status == NOT_FOUND:
            raise missing(self.alias)
        raise FatalError(f"Elasticsearch answered a write with {status}: {written.error}")


def _taken_apart(decoder: Decoder[T], answer: ApiResponse[Any]) -> T:
    try:
        return decoder.decode(answer.body)
    except MsgspecError as error:
        raise FatalError(f"what answers at elasticsearch_url cannot be understood: {error}") from error


def _action(write: Write) -> bytes:
    document_id = orjson.dumps(write.document_id)
    if write.expected is None:
        return b'{"create":{"_id":%b}}' % document_id
    return b'{"index":{"_id":%b,"if_seq_no":%d,"if_primary_term":%d}}' % (document_id, *write.expected)


def _chunks(writes: Sequence[Write]) -> Iterator[Sequence[Write]]:
    """Split by count and by bytes, in order."""
    chunk: list[Write] = []
    size_bytes = 0
    for write in writes:
        if chunk and (len(chunk) >= BULK_MAX_ACTIONS or size_bytes + len(write.body) > BULK_MAX_BYTES):
            yield chunk
            chunk, size_bytes = [], 0
        chunk.append(write)
        size_bytes += len(write.body)
    yield chunk


def _unavailable_or_missing(error: _Error, alias: str) -> Unavailable | MissingResource:
    if error.type == "index_not_found_exception":
        return missing(alias)
    return Unavailable(f"Elasticsearch could not read: {error.reason}")
