"""What the settings say of every flow that keeps a copy: which log it reads, how much it writes at once."""

from collections.abc import Callable
from datetime import timedelta

from bytewax.inputs import FixedPartitionedSource

from operators.apply import WindowLimits
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


def kafka_source(
    flow: str, settings: Settings, circuit: Circuit, on_poll: Callable[[], None], room: Room | None = None
) -> FixedPartitionedSource[Message, State]:
    """The topics that the flow has subscribed to, and what comes back to it.

    Where somebody keeps this process alive, a message that kills it is looked for, and put aside.
    """
    policy = load_policies(settings.policies_dir).flow(flow)
    source = KafkaSource(
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
    run_folder = own_run_folder()
    return source if run_folder is None else IsolatingSource(source, own_plan(), run_folder, circuit.stop)


def window_limits(settings: Settings) -> WindowLimits:
    return WindowLimits(
        max_changes=settings.window_max_changes,
        max_age=timedelta(milliseconds=settings.window_max_age_ms),
        working_set_bytes=settings.working_set_mib * 1024 * 1024,
    )
