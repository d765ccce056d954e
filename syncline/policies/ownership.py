"""Which service owns which entity, and on which topic it may speak of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from syncline.policies.policy_file import PolicyFile

DOCUMENT_ID_MAX_LENGTH = 128
"""Elasticsearch bounds a document's id to 512 bytes: 128 characters of UTF-8."""


@dataclass(frozen=True, slots=True)
class EntityPolicy:
    """``document_column`` holds the id of the document that a row belongs to, which is the key of its
    messages. ``slot_column`` tells apart entities of which one document has several: the currency of
    ``price:EUR:SKU``, the warehouse of ``stock:W1:SKU``; the entity's id begins with its value. ``writer`` is
    set where several services write one entity, each in a table and on a topic of its own."""

    type: str
    owner: str
    slot_column: str | None = None
    document_column: str = "sku"
    writer: str | None = None
    own_topic: str | None = None
    """Where it is not named as usual; ``{prefix}`` is filled in."""

    @property
    def producer(self) -> str:
        """The service that speaks on the topic."""
        return self.writer or self.owner

    @property
    def aggregate_type(self) -> str:
        """By which the owner's outbox tells apart what goes to which topic."""
        return self.writer or self.type

    def split_id(self, entity_id: str) -> tuple[str, str]:
        """The slot (``""`` where there is none) and the document's id."""
        slot, _, document_id = entity_id.partition(":") if self.slot_column else ("", "", entity_id)
        return slot, document_id

    def topic(self, prefix: str) -> str:
        if self.own_topic is not None:
            return self.own_topic.replace("{prefix}", prefix)
        return f"{prefix}.{self.owner}.{self.aggregate_type}"


def entities_of(file: PolicyFile) -> Iterator[EntityPolicy]:
    """One for each service that writes the entity."""
    writers: Sequence[str | None] = file.writers or [None]
    for writer in writers:
        topic = file.source.topic
        yield EntityPolicy(
            type=file.entity,
            owner=file.owner,
            slot_column=file.source.slot,
            document_column=file.source.document,
            writer=writer,
            own_topic=topic if topic is None or writer is None else topic.replace("{writer}", writer),
        )
