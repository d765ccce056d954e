"""What a flow would make of changes: the flow's own steps over the copy as it is, and nothing is written."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import NamedTuple

from operators.calls import do
from operators.decide import Decide
from operators.decode import Decode
from operators.deliver import Deliver
from operators.route import Route
from operators.transform import Transform
from syncline.circuit import Circuit
from syncline.clock import Clock, system_clock_us
from syncline.model.change import Op
from syncline.model.decision import Conflict
from syncline.model.document import Document, DocumentShape
from syncline.model.failure import Failure
from syncline.model.message import Message
from syncline.model.part import Part
from syncline.model.store import Outcome, Store, StoredDocument, Token, Write, WriteResult
from syncline.policies.policies import FlowPolicy
from syncline.stopping import Stop


class Verdict(NamedTuple):
    """What would become of one message."""

    message: Message
    decision: str
    """Of the change, or ``quarantined``, ``filtered`` (not wanted at all)."""
    error: str | None = None
    conflict: Conflict | None = None
    part: Part | None = None
    document: Document | None = None
    """As it would stand then."""


class DryStore:
    """Another store with writes on top of it that only this object knows."""

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._written: dict[str, StoredDocument] = {}
        self._numbers = count(1)

    def identity(self) -> str:
        return "dry run"

    def read(self, document_ids: Sequence[str]) -> Mapping[str, StoredDocument]:
        unknown = [id_ for id_ in document_ids if id_ not in self._written]
        found = dict(self._store.read(unknown)) if self._store is not None and unknown else {}
        return found | {id_: self._written[id_] for id_ in document_ids if id_ in self._written}

    def write(self, writes: Sequence[Write]) -> Sequence[WriteResult]:
        standing = self.read([write.document_id for write in writes])
        return [self._write(write, standing.get(write.document_id)) for write in writes]

    def refresh(self) -> None:
        """Nobody searches here."""

    def _write(self, write: Write, standing: StoredDocument | None) -> WriteResult:
        if (None if standing is None else standing.token) != write.expected:
            return WriteResult(Outcome.ALREADY_NEWER)
        token = Token(next(self._numbers), 0)
        self._written[write.document_id] = StoredDocument(write.body, token)
        return WriteResult(Outcome.WRITTEN, token)


class DryRun:
    """The steps of a flow over a store that is only read; ``None`` is one that is empty."""

    def __init__(
        self,
        policy: FlowPolicy,
        shape: DocumentShape,
        store: Store | None,
        topic_prefix: str,
        clock: Clock = system_clock_us,
    ) -> None:
        self._store = DryStore(store)
        self._decode = Decode(policy.topics(topic_prefix))
        self._route = Route(policy.subscription)
        self._transform = Transform(policy, clock)
        self._decide = Decide(
            shape, policy.rules, Deliver(self._store, 0, Circuit("the copy", Stop())), clock
        )

    def __call__(self, messages: Sequence[Message]) -> Iterator[Verdict]:
        for message in messages:
            yield self._judge(message)

    def _judge(self, message: Message) -> Verdict:
        [decoded] = self._decode([message])
        if isinstance(decoded, Failure):
            return Verdict(message, "quarantined", str(decoded.error))
        routed = self._route([decoded])
        if not routed:
            return Verdict(message, Op.FILTERED)
        [part] = self._transform(routed)
        if isinstance(part, Failure):
            return Verdict(message, "quarantined", str(part.error))
        if not isinstance(part, Part):
            return Verdict(message, "watermark")
        decided, _ = do(self._decide([part]))
        conflict = decided.conflicts[0] if decided.conflicts else None
        document = self._store.read([part.document_id]).get(part.document_id)
        body = None if document is None else document.document
        if decided.failures:
            return Verdict(message, "quarantined", str(decided.failures[0].error), conflict, part, body)
        [[verdict]] = [applied.verdicts for applied in decided.applied]
        return Verdict(message, verdict.decision, None, conflict, part, body)
