"""What each flow wants of all that is published."""

from dataclasses import dataclass

from syncline.policies.ownership import (
    CUSTOMER_ENTITIES,
    SEARCH_ENTITIES,
    EntityPolicy,
    policies_by_topic,
)


@dataclass(frozen=True, slots=True)
class Subscription:
    policies: tuple[EntityPolicy, ...]

    @property
    def entities(self) -> frozenset[str]:
        """The types of the entities that the flow wants."""
        return frozenset(policy.type for policy in self.policies)

    def topics(self, prefix: str) -> dict[str, EntityPolicy]:
        """The topics that the flow reads, each with the policy of those who write there."""
        return policies_by_topic(prefix, self.policies)


CATALOG_SEARCH = Subscription(SEARCH_ENTITIES)
CUSTOMER_PROFILES = Subscription(CUSTOMER_ENTITIES)
SUBSCRIPTIONS = {"catalog_search": CATALOG_SEARCH, "customer_profiles": CUSTOMER_PROFILES}
"""By flow."""
