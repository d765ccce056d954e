"""Which service owns which entity, and on which topic it may speak of it."""

from dataclasses import dataclass


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

    @property
    def producer(self) -> str:
        """The service that speaks on the topic."""
        return self.writer or self.owner

    def split_id(self, entity_id: str) -> tuple[str, str]:
        """The slot (``""`` where there is none) and the document's id."""
        slot, _, document_id = entity_id.partition(":") if self.slot_column else ("", "", entity_id)
        return slot, document_id

    def topic(self, prefix: str) -> str:
        return f"{prefix}.{self.owner}.{self.writer or self.type}"


SEARCH_ENTITIES: tuple[EntityPolicy, ...] = (
    EntityPolicy("product", owner="catalog"),
    EntityPolicy("price", owner="pricing", slot_column="currency"),
    EntityPolicy("stock", owner="warehouse", slot_column="warehouse_id"),
)
CUSTOMER_ENTITIES: tuple[EntityPolicy, ...] = tuple(
    EntityPolicy("customer", owner="customers", document_column="id", writer=writer)
    for writer in ("storefront", "crm", "support")
)
ENTITIES = SEARCH_ENTITIES + CUSTOMER_ENTITIES


def policies_by_topic(prefix: str, entities: tuple[EntityPolicy, ...] = ENTITIES) -> dict[str, EntityPolicy]:
    """Who writes a change is told by its topic, which access control protects; never by its payload."""
    return {policy.topic(prefix): policy for policy in entities}
