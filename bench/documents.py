"""Documents as the flow writes them, made by the same code but without a flow and a store."""

from collections.abc import Iterable, Iterator

import orjson

from bench.ledger import Committed, as_read, record
from operators.decode import Decode
from operators.transform import Transform
from syncline.clock import system_clock_us
from syncline.model.document import Document, merge, tick
from syncline.model.errors import FatalError
from syncline.model.part import Part
from syncline.policies.reading import load_policies
from syncline.policies.search_document import SearchDocument


class Documents:
    """Decodes, transforms and merges one change after another."""

    def __init__(self, topic_prefix: str) -> None:
        self._topic_prefix = topic_prefix
        policy = load_policies().flow("catalog_search")
        self._decode = Decode(policy.topics(topic_prefix))
        self._transform = Transform(policy)
        self._shape = SearchDocument()
        self._bodies: dict[str, bytes] = {}

    def new(self, changes: Iterable[Committed]) -> tuple[str, bytes]:
        """The document of a product of which these are all changes. It is not kept."""
        parts = self._parts(changes)
        document = self._shape.empty(parts[0].document_id)
        return parts[0].document_id, self._merged(document, parts)

    def keep(self, document_id: str, body: bytes) -> None:
        """Have the document at hand for updates."""
        self._bodies[document_id] = body

    def updated(self, changes: Iterable[Committed]) -> Iterator[tuple[str, bytes]]:
        """For each change, the document that it leaves."""
        for change in changes:
            [part] = self._parts([change])
            body = self._merged(orjson.loads(self._bodies[part.document_id]), [part])
            self._bodies[part.document_id] = body
            yield part.document_id, body

    def _parts(self, changes: Iterable[Committed]) -> list[Part]:
        messages = as_read((record(change, self._topic_prefix) for change in changes), system_clock_us())
        parts = self._transform(self._decode(messages))  # type: ignore[arg-type] # failures are found below
        if not all(isinstance(part, Part) for part in parts):
            raise FatalError(f"the bench made up a change that is none: {parts}")
        return parts  # type: ignore[return-value] # just checked

    def _merged(self, document: Document, parts: Iterable[Part]) -> bytes:
        now_us = system_clock_us()
        for part in parts:
            merge(self._shape, document, part, now_us)
        tick(self._shape, document, now_us)
        return orjson.dumps(document)
