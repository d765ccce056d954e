"""What must hold after a battle. Each check answers what it found wrong, in words; nothing is good."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any, NamedTuple, cast

import orjson
from elasticsearch.helpers import scan

from syncline.monitor.verification import verify
from syncline.policies.reading import load_policies
from syncline.provision import search_index_name
from tests.acceptance.published import (
    assert_first_publication_is_in_version_order,
    assert_repeats_are_contiguous_replays,
    read_published,
)
from tests.chaos.battle import Battle
from tests.chaos.load import FORGED, HOT, cache_keys
from tests.chaos.schedule import COPIES
from tests.log import Log
from tests.waiting import eventually

Versions = dict[str, list[int]]
"""By entity."""


class Copied(NamedTuple):
    versions: Versions
    hidden: bool
    synced_at_us: int


def faults_found(battle: Battle) -> list[str]:
    copies = {"catalog_search": _search_copy(battle), "customer_profiles": _profiles_copy(battle)}
    return [
        *(f"died: {death}" for death in battle.deaths),
        *_unlike_sources(battle),
        *_resurrected(battle, copies),
        *(fault for flow in COPIES for fault in _in_acknowledged(battle, flow, copies[flow])),
        *_in_log(battle),
        *_in_quarantine(battle),
        *_in_audit(battle),
        *_in_cache(battle, copies["catalog_search"]),
    ]


def _search_copy(battle: Battle) -> dict[str, Copied]:
    index = search_index_name(battle.world.settings)
    with battle.world.elasticsearch() as client:
        client.indices.refresh(index=index)
        return {
            hit["_id"]: _copied(hit["_source"]["_sync"])
            for hit in scan(client, index=index, query={"_source": ["_sync"]})
        }


def _profiles_copy(battle: Battle) -> dict[str, Copied]:
    with battle.world.database() as connection:
        rows = connection.execute("SELECT id::text, _sync FROM profiles.customer_documents").fetchall()
    return {str(id_): _copied(cast("dict[str, Any]", sync)) for id_, sync in rows}


def _copied(sync: dict[str, Any]) -> Copied:
    entities = sync["entities"]
    return Copied(
        {entity: record["version"] for entity, record in entities.items()},
        sync["hidden"],
        max((record["synced_at_us"] for record in entities.values()), default=0),
    )


def _unlike_sources(battle: Battle) -> Iterator[str]:
    for flow in COPIES:
        # All is quiet, and the flows have ended: nothing settles any more.
        report = verify(flow, battle.world.settings, settle=timedelta(0), shown=None)
        for key in report.differing_keys:
            yield f"lost or wrong: {flow} {key.key}: {key.differences}"


def _resurrected(battle: Battle, copies: dict[str, dict[str, Copied]]) -> Iterator[str]:
    with battle.world.database() as connection:
        there = {
            "catalog_search": connection.execute("SELECT sku FROM catalog.products").fetchall(),
            "customer_profiles": connection.execute(
                "SELECT id::text FROM customers.storefront UNION SELECT id::text FROM customers.crm"
                " UNION SELECT id::text FROM customers.support"
            ).fetchall(),
        }
    for flow, copy in copies.items():
        shown = {id_ for id_, copied in copy.items() if not copied.hidden}
        for id_ in sorted(shown - {str(id_) for (id_,) in there[flow]}):
            yield f"resurrected: {flow} shows {id_}, which its owners have deleted"


def _in_acknowledged(battle: Battle, flow: str, copy: dict[str, Copied]) -> Iterator[str]:
    """Versions only go up, from write to write in the order of the store's own numbers; each is raised to
    once; and the copy has all that was acknowledged."""
    by_document: dict[str, list[tuple[list[int], Versions]]] = defaultdict(list)
    for line in battle.acknowledged[flow].read_bytes().splitlines():
        write = orjson.loads(line)
        token = write["token"]
        by_document[write["id"]].append((token and token[::-1], write["versions"]))
    for id_, writes in by_document.items():
        numbered = sorted((write for write in writes if write[0]), key=lambda write: write[0])
        for (token, before), (next_token, after) in pairwise(numbered):
            if token == next_token:
                yield f"written twice: {flow} {id_} under {token}"
            for entity, version in before.items():
                if after.get(entity, []) < version:
                    yield f"out of order: {flow} {id_}: {entity} from {version} to {after.get(entity)}"
        last = copy[id_].versions if id_ in copy else {}
        for entity in {entity for _, versions in writes for entity in versions}:
            newest = max(versions.get(entity, []) for _, versions in writes)
            if last.get(entity, []) < newest:
                yield f"lost: {flow} {id_}: {entity} {newest} was acknowledged, found {last.get(entity)}"


def _in_log(battle: Battle) -> Iterator[str]:
    """Each row that was committed to an outbox is published, no other is, and all stand in order."""
    with battle.world.database() as connection:
        rows = connection.execute("SELECT schema, seq FROM chaos.outbox").fetchall()
    written = {(str(schema), cast("int", seq)) for schema, seq in rows}
    for committed in (True, False):
        published = read_published(battle.world.settings, committed=committed)
        found = {(message.schema, message.seq) for partition in published for message in partition}
        for schema, seq in written - found:
            yield f"lost: row {seq} of the outbox of {schema} was never published, {committed=}"
        for schema, seq in found - written:
            yield f"resurrected: row {seq} of the outbox of {schema} was published and never committed"
        for check in (assert_first_publication_is_in_version_order, assert_repeats_are_contiguous_replays):
            try:
                check(published)
            except AssertionError as error:
                yield f"out of order: the relay's log, {committed=}: {error}"


def _in_quarantine(battle: Battle) -> Iterator[str]:
    """All that was invalid, in its newest version, and all that nobody could read, once each; no more."""
    settings = battle.world.settings
    with battle.world.database() as connection:
        invalid = connection.execute(
            "SELECT entity, max(version) FROM chaos.invalid GROUP BY entity"
        ).fetchall()
        rows = connection.execute(
            "SELECT flow, entity_type || ':' || entity_id, (version ->> 1)::bigint, topic, message_key,"
            " message_value FROM sync.quarantine"
        ).fetchall()
    expected: Counter[tuple[object, ...]] = Counter(
        ("catalog_search", entity, version) for entity, version in invalid
    )
    for message in _forged(battle):
        if (message.value or b"").startswith(b"{forged"):
            for flow in COPIES:
                if message.topic in load_policies().flow(flow).topics(settings.topic_prefix):
                    expected[flow, message.topic, message.key, message.value] = 1
    found: Counter[tuple[object, ...]] = Counter(
        (flow, topic, key, value) if entity is None else (flow, entity, version)
        for flow, entity, version, topic, key, value in rows
    )
    for missing in expected - found:
        yield f"audit: {missing} is not in quarantine"
    for extra in found - expected:
        yield f"audit: {extra} is in quarantine and should not be, or is there twice"


def _forged(battle: Battle) -> Iterator[Any]:
    settings = battle.world.settings
    topics = [policy.topic(settings.topic_prefix) for policy in load_policies().entities]
    for message in Log(settings.kafka_bootstrap_servers).read(*topics, committed=False):
        if FORGED in dict(message.headers):
            yield message


def _in_audit(battle: Battle) -> Iterator[str]:
    """A row for each two concurrent edits of customers, each change of somebody else's, and each price that
    contradicts itself, unless it was overtaken; no more."""
    with battle.world.database() as connection:
        rows = connection.execute(
            "SELECT kind, entity_type || ':' || entity_id, field, known_writer, arrived_writer,"
            " (arrived_version ->> 1)::bigint FROM sync.conflicts"
        ).fetchall()
        invalid = connection.execute(
            "SELECT entity, version, version = max(version) OVER (PARTITION BY entity) FROM chaos.invalid"
        ).fetchall()
    expected: Counter[tuple[object, ...]] = Counter(
        (f"customer:{edits.customer_id}", edits.field, frozenset(edits.values))
        for edits in battle.load.concurrent
    )
    for message in _forged(battle):
        if not (message.value or b"").startswith(b"{forged"):
            change = orjson.loads(message.value or b"")
            expected["ownership", change["entity"], change["version"]] = 1
    found: Counter[tuple[object, ...]] = Counter(
        (entity, field, frozenset((known, arrived)))
        if kind in {"timestamp", "version"}
        else (kind, entity, version)
        for kind, entity, field, known, arrived, version in rows
    )
    for entity, version, is_newest in invalid:
        contradiction = ("business_rule", entity, version)
        expected[contradiction] = 1 if is_newest else min(1, found[contradiction])
    for missing in expected - found:
        yield f"audit: no row tells of the conflict {missing}"
    for extra in found - expected:
        yield f"audit: a row tells of the conflict {extra}, which was none, or is told twice"


def _in_cache(battle: Battle, copy: dict[str, Copied]) -> Iterator[str]:
    def stale() -> list[str]:
        with battle.world.cache() as cache:
            entries = dict(zip(HOT, cache.mget(cache_keys(HOT)), strict=True))
        return [
            sku
            for sku, filled_at_us in entries.items()
            if filled_at_us is not None and sku in copy and int(filled_at_us) < copy[sku].synced_at_us
        ]

    try:
        eventually(lambda: not stale(), seconds=15)
    except AssertionError:
        for sku in stale():
            yield f"stale: the cache's entry of {sku} is older than its last change"
