"""Catalog, prices and stock, as one search document a product, in Elasticsearch.

Run it as ``python -m bytewax.run dataflows.catalog_search -r FOLDER -s 1 -b 0``.
"""

from functools import partial

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source

from dataflows.copy_flow import copy_freshness, isolating, kafka_source, window_limits
from operators.apply import apply
from operators.decode import Reentries, decode
from operators.replays import replays
from operators.retries import retries
from operators.route import route
from operators.transform import transform
from sinks.confirmation import Confirmation
from sinks.conflict_audit import conflict_audit
from sinks.elasticsearch import ElasticsearchStore
from sinks.freshness import Freshness
from sinks.index_refresh import IndexRefresh
from sinks.postgres import write_rows
from sinks.quarantine import quarantine
from sinks.redis_invalidation import RedisInvalidation, invalidate
from sinks.replays import replay_ends
from sinks.reporter import Reporter
from sinks.retries import postponed_changes, retry_ends
from sinks.status import record_failure
from syncline.circuit import Circuits
from syncline.model.message import Message
from syncline.model.store import Store
from syncline.policies.cache_keys import PRODUCT_RULES
from syncline.policies.reading import load_policies
from syncline.policies.reentry import reentry_topic
from syncline.policies.search_document import SearchDocument
from syncline.process import settings_or_exit, start
from syncline.room import Room
from syncline.settings import Settings

NAME = "catalog_search"


def flow() -> Dataflow:
    """The flow as a process runs it: settings from the environment, ended by signals."""
    settings = settings_or_exit()
    dsn = settings.postgres_dsn.get_secret_value()
    stop, health = start(NAME, settings, lambda error: record_failure(NAME, dsn, error))
    circuits, room = Circuits(stop), Room()
    health.dependencies = circuits.dependencies
    reporter = Reporter(NAME, dsn, circuits)
    reporter.start()
    source = kafka_source(NAME, settings, circuits.kafka, health.progress, room)
    store = ElasticsearchStore(settings.elasticsearch_url.get_secret_value(), settings.search_alias, stop)
    reporter.look_after("elasticsearch", lambda: circuits.elasticsearch.attempt(store.look))
    reporter.look_after("kafka", source.measure_lag)
    # The first change asks too; but that an index is missing is told before there is one.
    circuits.elasticsearch.hold_place("asking the store who it is")(store.identity)
    freshness = copy_freshness(NAME, settings, lambda: source.partition_counts)
    dataflow = build(settings, isolating(source, stop), store, circuits, room, freshness)
    reporter.tell_freshness(freshness, settings.redis_url.get_secret_value())
    return dataflow


def build(
    settings: Settings,
    source: Source[Message],
    store: Store,
    circuits: Circuits,
    room: Room | None = None,
    freshness: Freshness | None = None,
) -> Dataflow:
    """The flow over any source of messages and any store.

    ``room`` is told to a source that asks for it, and ``freshness`` how far the copy has come.
    """
    dsn = settings.postgres_dsn.get_secret_value()
    cache = RedisInvalidation(settings.redis_url.get_secret_value(), circuits.redis)

    policy = load_policies(settings.policies_dir).flow(NAME)

    dataflow = Dataflow(NAME)
    raw = op.input("changes", dataflow, source)
    reentries = Reentries(reentry_topic(settings.topic_prefix), NAME)
    decoded = decode("decode", raw, policy.topics(settings.topic_prefix), reentries)
    wanted = route("route", decoded.oks, policy.subscription)
    documents = transform("transform", wanted, policy)
    applied = apply(
        "apply",
        documents.oks,
        SearchDocument(),
        policy.rules,
        store,
        window_limits(settings),
        circuits.elasticsearch,
        policy.critical,
        room,
    )
    refresh = IndexRefresh(partial(circuits.elasticsearch.attempt, store.refresh))
    invalidated = invalidate("invalidate", applied.oks, cache, PRODUCT_RULES.stale, refresh)
    op.output("confirm", op.key_rm("unkey", invalidated), Confirmation(NAME, dsn, freshness))
    conflicts = op.merge("conflicts", decoded.conflicts, applied.conflicts)
    write_rows("audit", conflicts, conflict_audit(NAME, dsn, circuits.postgres))
    failures = op.merge("bad", decoded.errs, documents.errs, applied.errs)
    replayed = replays("replays", applied.oks, failures)
    write_rows("quarantine", replayed.errs, quarantine(NAME, dsn, circuits.postgres))
    write_rows("replayed", replayed.ends, replay_ends(NAME, dsn, circuits.postgres))
    retried = retries("retries", applied.oks, failures, applied.postponed)
    attempts = settings.retry_attempts
    write_rows("postponed", retried.first, postponed_changes(NAME, dsn, circuits.postgres, attempts))
    write_rows("retried", retried.ends, retry_ends(NAME, dsn, circuits.postgres, attempts))
    return dataflow
