"""What the services have committed, from their outboxes to Kafka, in commit order for each entity; and what
Syncline itself sends back to its flows.

Run it as ``python -m bytewax.run dataflows.outbox_relay``. It needs no recovery folder: the outbox is
the queue, and a row leaves it when Kafka has committed it.
"""

from datetime import timedelta

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from sinks.confirmation import RelayConfirmation
from sinks.kafka import KafkaTransactions, publish
from sinks.quarantine import quarantine
from sinks.reporter import Reporter
from sinks.status import record_failure
from sources.due_retries import DueRetries
from sources.outbox import OutboxRemoval, OutboxSource
from sources.outbox_queue import Outbox, OutboxSettings
from sources.published_up_to import PublishedUpTo
from syncline.circuit import Circuits
from syncline.health import Health
from syncline.model.outbox import Publication
from syncline.policies.reading import load_policies
from syncline.policies.reentry import AGGREGATE_TYPE, SCHEMA, reentry_topic
from syncline.process import settings_or_exit, start
from syncline.settings import Settings

NAME = "outbox_relay"


def flow() -> Dataflow:
    """The flow as a process runs it: settings from the environment, ended by signals."""
    settings = settings_or_exit()
    dsn = settings.postgres_dsn.get_secret_value()
    stop, health = start(NAME, settings, lambda error: record_failure(NAME, dsn, error))
    circuits = Circuits(stop)
    health.dependencies = circuits.dependencies
    Reporter(NAME, dsn, circuits).start()
    return build(settings, circuits, health)


def build(settings: Settings, circuits: Circuits, health: Health) -> Dataflow:
    dsn = settings.postgres_dsn.get_secret_value()
    policies = load_policies(settings.policies_dir)
    topics = {
        schema: {
            entity.aggregate_type: entity.topic(settings.topic_prefix)
            for entity in policies.entities
            if entity.owner == schema
        }
        for schema in policies.owners
    } | {SCHEMA: {AGGREGATE_TYPE: reentry_topic(settings.topic_prefix)}}
    dsns = settings.outbox_dsns(policies.owners)
    transactions = {
        schema: KafkaTransactions(
            settings.kafka_bootstrap_servers, f"{settings.topic_prefix}-{NAME}-{schema}", circuits.kafka
        )
        for schema in dsns
    }
    due_retries = DueRetries()
    outboxes = {
        schema: Outbox(
            schema,
            source_dsn,
            topics[schema],
            OutboxSettings(
                topic_prefix=settings.topic_prefix,
                generation=settings.generation,
                batch_rows=settings.relay_batch_rows,
                batch_interval=timedelta(milliseconds=settings.relay_batch_interval_ms),
                commit_interval=timedelta(milliseconds=settings.relay_commit_interval_ms),
                poll_interval=timedelta(milliseconds=settings.relay_poll_interval_ms),
                watermark_interval=timedelta(milliseconds=settings.watermark_interval_ms),
            ),
            circuit=circuits.postgres if source_dsn == dsn else circuits.of(f"postgres ({schema})"),
            fence=transactions[schema].fence,
            published=PublishedUpTo(
                settings.kafka_bootstrap_servers,
                f"{settings.topic_prefix}-{NAME}-{schema}",
                min(topics[schema].values()),
            ),
            fill=due_retries.send if schema == SCHEMA else None,
        )
        for schema, source_dsn in dsns.items()
    }
    refused = quarantine(NAME, dsn, circuits.postgres)

    def put_aside(publication: Publication) -> Publication:
        if publication.refused:
            refused.write(publication.refused)
        return publication

    dataflow = Dataflow(NAME)
    idle_wait = timedelta(milliseconds=settings.relay_idle_wait_ms)
    batches = op.input("outbox", dataflow, OutboxSource(outboxes, idle_wait, circuits.stop, health.progress))
    published = publish("publish", batches, transactions)
    # Before the removal: a row that Kafka refuses must be in quarantine when it leaves the outbox.
    safe = op.map("quarantine", published, put_aside)
    op.output("remove", safe, OutboxRemoval(outboxes))
    op.output("confirm", safe, RelayConfirmation(NAME, dsn))
    return dataflow
