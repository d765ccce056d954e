"""What the settings say of every flow that keeps a copy: which log it reads, how much it writes at once."""

from collections.abc import Callable, Mapping
from datetime import timedelta

from bytewax.inputs import FixedPartitionedSource

from operators.apply import WindowLimits
from operators.lanes import LANES
from sinks.freshness import Freshness
from sources.isolation import IsolatingSource
from sources.kafka import KafkaSource, State
from sources.kafka_reading import KafkaSettings
from syncline.circuit import Circuit
from syncline.isolation import own_plan
from syncline.last_words import own_run_folder
from syncline.model.message import Message
from syncline.policies.reading import load_policies
from syncline.policies.reentry import critical_topics, topics_read
from syncline.room import Room
from syncline.settings import Settings
from syncline.stopping import Stop


def kafka_source(
    flow: str, settings: Settings, circuit: Circuit, on_poll: Callable[[], None], room: Room | None = None
) -> KafkaSource:
    """The topics that the flow has subscribed to, and what comes back to it."""
    policy = load_policies(settings.policies_dir).flow(flow)
    return KafkaSource(
        KafkaSettings(
            bootstrap_servers=settings.kafka_bootstrap_servers,
            group=f"{settings.topic_prefix}-{flow}",
            batch_messages=settings.source_batch_messages,
            poll_ms=settings.source_poll_ms,
        ),
        topics_read(policy, settings.topic_prefix),
        circuit,
        critical=critical_topics(policy, settings.topic_prefix),
        room=room,
        on_poll=on_poll,
    )


def isolating(source: KafkaSource, stop: Stop) -> FixedPartitionedSource[Message, State]:
    """The source, which looks for a message that kills this process, and puts it aside, where somebody keeps
    it alive."""
    run_folder = own_run_folder()
    return source if run_folder is None else IsolatingSource(source, own_plan(), run_folder, stop)


def window_limits(settings: Settings) -> WindowLimits:
    return WindowLimits(
        max_changes=settings.window_max_changes,
        max_age=timedelta(milliseconds=settings.window_max_age_ms),
        working_set_bytes=settings.working_set_mib * 1024 * 1024,
    )


def copy_freshness(
    flow: str, settings: Settings, partition_counts: Callable[[], Mapping[str, int]]
) -> Freshness:
    """How fresh the flow's copy is, by the owners of the topics that it has subscribed to."""
    topics = load_policies(settings.policies_dir).flow(flow).topics(settings.topic_prefix)
    owners = {topic: entity.owner for topic, entity in topics.items()}
    return Freshness(flow, owners, partition_counts, LANES)
