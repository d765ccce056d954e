"""Where what Syncline itself sends back comes in: one topic for all flows, beside those of the owners."""

from syncline.policies.subscriptions import Subscription

SCHEMA = "sync"
"""Has the outbox."""
AGGREGATE_TYPE = "reentry"


def reentry_topic(prefix: str) -> str:
    return f"{prefix}.{SCHEMA}.{AGGREGATE_TYPE}"


def topics_read(subscription: Subscription, prefix: str) -> list[str]:
    """All topics that a flow with this subscription reads."""
    return [*subscription.topics(prefix), reentry_topic(prefix)]
