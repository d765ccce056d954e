"""Which service owns which entity, and on which topic it may speak of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EntityPolicy:
    """``slot_column`` tells apart entities of which one document has several: the currency of
    ``price:EUR:SKU``, the warehouse of ``stock:W1:SKU``. The id begins with its value."""

    type: str
    owner: str
    slot_column: str | None = None

    def split_id(self, entity_id: str) -> tuple[str, str]:
        """The slot (``""`` where there is none) and the SKU."""
        slot, _, sku = entity_id.partition(":") if self.slot_column else ("", "", entity_id)
        return slot, sku

    def topic(self, prefix: str) -> str:
        return f"{prefix}.{self.owner}.{self.type}"


ENTITIES: tuple[EntityPolicy, ...] = (
    EntityPolicy("product", owner="catalog"),
    EntityPolicy("price", owner="pricing", slot_column="currency"),
    EntityPolicy("stock", owner="warehouse", slot_column="warehouse_id"),
)


def policies_by_topic(prefix: str) -> dict[str, EntityPolicy]:
    """Who writes a change is told by its topic, which access control protects; never by its payload."""
    return {policy.topic(prefix): policy for policy in ENTITIES}
