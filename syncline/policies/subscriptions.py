"""What each flow wants of all that is published."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Subscription:
    entities: frozenset[str]


CATALOG_SEARCH = Subscription(frozenset({"product", "price", "stock"}))
