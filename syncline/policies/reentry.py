"""Where what Syncline itself sends back comes in: one topic for all flows, beside those of the owners."""

from syncline.policies.policies import FlowPolicy

SCHEMA = "sync"
"""Has the outbox."""
AGGREGATE_TYPE = "reentry"


def reentry_topic(prefix: str) -> str:
    return f"{prefix}.{SCHEMA}.{AGGREGATE_TYPE}"


def topics_read(flow: FlowPolicy, prefix: str) -> list[str]:
    """All topics that a flow reads."""
    return [*flow.topics(prefix), reentry_topic(prefix)]


def critical_topics(flow: FlowPolicy, prefix: str) -> list[str]:
    """Those that are read before the others. What is sent back is rare, and late already."""
    critical = [topic for topic, entity in flow.topics(prefix).items() if entity.type in flow.critical]
    return [*critical, reentry_topic(prefix)]
