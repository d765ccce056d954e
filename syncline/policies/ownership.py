"""Which service owns which entity, and on which topic it may speak of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EntityPolicy:
    """``slotted`` entities exist several times for one document, told apart by the id's first element:
    the currency of ``price:EUR:SKU``, the warehouse of ``stock:W1:SKU``."""

    type: str
    owner: str
    slotted: bool

    def topic(self, prefix: str) -> str:
        return f"{prefix}.{self.owner}.{self.type}"


ENTITIES: tuple[EntityPolicy, ...] = (
    EntityPolicy("product", owner="catalog", slotted=False),
    EntityPolicy("price", owner="pricing", slotted=True),
    EntityPolicy("stock", owner="warehouse", slotted=True),
)


def policies_by_topic(prefix: str) -> dict[str, EntityPolicy]:
    """Who writes a change is told by its topic, which access control protects; never by its payload."""
    return {policy.topic(prefix): policy for policy in ENTITIES}
