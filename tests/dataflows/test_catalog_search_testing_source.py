"""The whole flow from Bytewax's TestingSource, on real servers: ends, aborts, resumes, several workers."""

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSource
from pydantic import SecretStr
from redis import Redis

from dataflows import catalog_search, outbox_relay
from sinks.elasticsearch import ElasticsearchStore
from sinks.postgres import install_sync_schema
from syncline.circuit import Circuits
from syncline.health import Health
from syncline.model.document import Document
from syncline.model.message import Message
from syncline.provision import create_search_index, search_index_name
from syncline.settings import Settings
from syncline.stopping import Stop
from tests.changes import change_message, change_of, message, payload, price, product, stock
from tests.dataflows.runs import (
    ABORT,
    EOF,
    EPOCH,
    RUNS,
    Item,
    Run,
    as_a_cluster_of_one,
    in_one_thread,
    stateful_steps,
    with_aborts,
    with_two_workers,
)
from tests.own import own_database


@dataclass
class Servers:
    """An index, a database and cache keys of this test alone."""

    settings: Settings
    store: ElasticsearchStore
    database: psycopg.Connection[Any]
    cache: Redis
    recovery: RecoveryConfig
    prefix: str

    def sku(self, number: int) -> str:
        return f"{self.prefix}-{number}"

    def flow(self, log: Sequence[Item], batch_size: int) -> Dataflow:
        source = TestingSource(log, batch_size)
        return catalog_search.build(self.settings, source, self.store, Circuits(Stop()))

    def with_settings(self, **changed: object) -> "Servers":
        return replace(self, settings=self.settings.model_copy(update=changed))

    def documents(self) -> dict[str, Document]:
        """All documents, hidden ones too, as a get by id finds them."""
        skus = [self.sku(number) for number in range(20)]
        return {sku: stored.document for sku, stored in self.store.read(skus).items()}

    def found(self) -> set[str]:
        """What a search through the alias finds."""
        self.store.client.indices.refresh(index=self.store.alias)
        hits = self.store.client.search(index=self.store.alias, size=100)["hits"]["hits"]
        return {hit["_id"] for hit in hits}

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.database.execute(query).fetchall()


@pytest.fixture
def servers(settings: Settings, tmp_path: Path) -> Iterator[Servers]:
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    recovery = tmp_path / "recovery"
    recovery.mkdir()
    init_db_dir(recovery, 1)  # type: ignore[no-untyped-call]
    recovery_config = RecoveryConfig(str(recovery))  # type: ignore[no-untyped-call]
    with own_database(settings.postgres_dsn.get_secret_value(), prefix) as dsn:
        install_sync_schema(dsn)
        own = settings.model_copy(update={"search_alias": prefix, "postgres_dsn": SecretStr(dsn)})
        create_search_index(own)
        store = ElasticsearchStore(own.elasticsearch_url.get_secret_value(), own.search_alias)
        cache = Redis.from_url(own.redis_url.get_secret_value())
        with psycopg.connect(dsn, autocommit=True) as database:
            yield Servers(own, store, database, cache, recovery_config, prefix)
        cache.close()
        store.client.indices.delete(index=search_index_name(own))
        store.close()


def plain(document: Document) -> Document:
    """Without clocks, times and event ids."""
    sync = document["_sync"]
    entities = {entity: (tuple(said["version"]), said["hash"]) for entity, said in sync["entities"].items()}
    return {**document, "_sync": {"hidden": sync["hidden"], "entities": entities}}


def history(servers: Servers) -> list[Message]:
    """Two products with prices and stock; a deleted one; a price whose product never comes; duplicates."""
    a, b, c, d = (servers.sku(number) for number in range(4))
    changes = [
        ("price", price(a), 3, "upsert"),
        ("product", product(a), 1, "upsert"),
        ("product", product(a, name="Kettle, blue 😀", category="tea"), 4, "upsert"),
        ("product", product(a, name="too late"), 2, "upsert"),
        ("stock", stock(a, "W1", on_hand=10, reserved=1), 1, "upsert"),
        ("stock", stock(a, "W2", on_hand=5, reserved=5), 1, "upsert"),
        ("price", price(a, "USD", list_amount="15", sale_amount="14.5"), 1, "upsert"),
        ("product", product(b), 7, "upsert"),
        ("stock", stock(b), 2, "upsert"),
        ("stock", stock(b), 2, "delete"),
        ("product", product(c), 1, "upsert"),
        ("price", price(c), 2, "upsert"),
        ("product", product(c), 1, "delete"),
        ("product", product(c, name="back too late"), 1, "upsert"),
        ("price", price(d), 1, "upsert"),
    ]
    log = [
        change_message(entity_type, row, version, op, is_first=version == 1 and op == "upsert", offset=offset)
        for offset, (entity_type, row, version, op) in enumerate(changes)
    ]
    return [*log, *log[::3]]


def bad_messages(servers: Servers) -> list[Message]:
    """One for each step that may fail: decode, transform, validate, deliver."""
    sku = servers.sku(0)
    key = sku.encode()
    too_deep: dict[str, Any] = {}
    for _ in range(30):
        too_deep = {"a": too_deep}
    return [
        message(b"{broken \xff", key=key, offset=100),
        message({**payload("product", product(sku)), "version": 0}, key=key, offset=101),
        change_message("stock", stock(sku, on_hand="many"), 9, offset=102),
        change_message("price", price(sku, list_amount="-1"), 9, offset=103),
        change_message("product", product(sku, attributes=too_deep), 9, offset=104),
    ]


def expected_documents(servers: Servers) -> dict[str, tuple[str | None, set[str], int, bool]]:
    """Name, currencies, available stock, hidden."""
    a, b, c, d = (servers.sku(number) for number in range(4))
    return {
        a: ("Kettle, blue 😀", {"EUR", "USD"}, 9, False),
        b: ("Kettle", set(), 0, False),
        c: (None, {"EUR"}, 0, True),
        d: (None, {"EUR"}, 0, True),
    }


def gist(documents: dict[str, Document]) -> dict[str, tuple[str | None, set[str], int, bool]]:
    return {
        sku: (
            document.get("name"),
            set(document["prices"]),
            document["stock"]["available"],
            document["_sync"]["hidden"],
        )
        for sku, document in documents.items()
    }


@pytest.mark.parametrize("batch_size", [1, 7, 1_000])
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_good_changes_are_in_the_index_and_bad_ones_in_quarantine(
    servers: Servers, run: Run, batch_size: int
) -> None:
    good, bad = history(servers), bad_messages(servers)
    log = [*good[:5], *bad[:2], *good[5:9], *bad[2:], *good[9:]]
    stale = [f"product:{servers.sku(0)}", f"price:{servers.sku(0)}:EUR"]
    servers.cache.mset(dict.fromkeys(stale, "old"))

    run(servers.flow(log, batch_size))

    assert gist(servers.documents()) == expected_documents(servers)
    assert servers.found() == {servers.sku(0), servers.sku(1)}
    assert servers.cache.exists(*stale) == 0
    quarantined = servers.rows(
        'SELECT step, error, topic, partition, "offset", message_key, message_value, state, count'
        ' FROM sync.quarantine ORDER BY "offset"'
    )
    assert [row[:2] for row in quarantined] == [
        ("decode", "Undecodable"),
        ("decode", "Undecodable"),
        ("transform", "Untransformable"),
        ("apply", "Invalid"),
        ("apply", "Refused"),
    ]
    assert [row[2:] for row in quarantined] == [
        (each.topic, each.partition, each.offset, each.key, each.value, "open", 1) for each in bad
    ]
    assert all(reason for (reason,) in servers.rows("SELECT reason FROM sync.quarantine"))


def test_confirmation_counts_each_change_once(servers: Servers) -> None:
    log = history(servers)

    in_one_thread(servers.flow(log, 4))

    counts: Counter[str] = Counter()
    for (confirmed,) in servers.rows("SELECT counts FROM sync.status WHERE flow = 'catalog_search'"):
        counts.update(confirmed)
    assert sum(counts.values()) == len(log)
    last_states = servers.rows("SELECT state FROM sync.status ORDER BY id DESC LIMIT 1")
    assert last_states == [("stopped",)]


@pytest.mark.parametrize("run", [in_one_thread, as_a_cluster_of_one], ids=["run_main", "cluster_main"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_was_aborted_is_resumed_and_ends_as_if_nothing_had_happened(
    servers: Servers, run: Run, batch_size: int
) -> None:
    bad = bad_messages(servers)
    log = with_aborts([*history(servers), *bad])
    at_once = servers.with_settings(window_max_changes=1)

    for _ in range(5):
        run(at_once.flow(log, batch_size), epoch_interval=EPOCH, recovery_config=servers.recovery)

    assert gist(servers.documents()) == expected_documents(servers)
    assert servers.rows("SELECT count(*) FROM sync.quarantine") == [(len(bad),)]


@pytest.mark.parametrize("run", [in_one_thread, as_a_cluster_of_one], ids=["run_main", "cluster_main"])
def test_changes_that_were_in_an_open_window_are_resumed_from_the_snapshot(
    servers: Servers, run: Run
) -> None:
    bad = bad_messages(servers)
    log = with_aborts([*history(servers), *bad])
    in_threes = servers.with_settings(window_max_changes=3, window_max_age_ms=600_000)

    for _ in range(5):
        run(in_threes.flow(log, 1), epoch_interval=EPOCH, recovery_config=servers.recovery)

    assert gist(servers.documents()) == expected_documents(servers)
    assert servers.rows("SELECT count(*) FROM sync.quarantine") == [(len(bad),)]


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_after_a_clean_end_the_next_run_goes_on_behind_it(servers: Servers, run: Run) -> None:
    log: list[Item] = [*history(servers)]
    log.insert(6, EOF())

    run(servers.flow(log, 100), epoch_interval=EPOCH, recovery_config=servers.recovery)
    after_first = servers.documents()
    run(servers.flow(log, 100), epoch_interval=EPOCH, recovery_config=servers.recovery)

    assert list(after_first) == [servers.sku(0)]
    assert gist(servers.documents()) == expected_documents(servers)


def test_a_lost_recovery_folder_costs_time_and_changes_nothing(servers: Servers) -> None:
    log = history(servers)

    in_one_thread(servers.flow(log, 3))
    before = servers.documents()
    in_one_thread(servers.flow(log, 5))

    assert servers.documents() == before


def test_one_worker_and_two_end_in_the_same_documents(servers: Servers) -> None:
    log = history(servers)
    in_one_thread(servers.flow(log, 3))
    one = {sku: plain(document) for sku, document in servers.documents().items()}

    with_two_workers(servers.flow(list(reversed(log)), 2))

    assert {sku: plain(document) for sku, document in servers.documents().items()} == one


def conflicting(servers: Servers) -> list[Message]:
    """The same version twice, with other content: the one that loses comes first."""
    sku = servers.sku(0)
    messages = [
        change_message("product", product(sku, name=name), 5, offset=offset)
        for offset, name in enumerate(["one", "other"])
    ]
    return sorted(messages, key=lambda message: change_of(message).content_hash)


def conflicts(servers: Servers) -> list[tuple[Any, ...]]:
    return servers.rows("SELECT entity_type, entity_id, known_hash, arrived_hash FROM sync.conflicts")


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_a_conflict_is_audited_once_however_often_its_changes_come(servers: Servers, run: Run) -> None:
    log = conflicting(servers)

    run(servers.flow([*log, log[0], log[0]], 100))

    assert len(conflicts(servers)) == 1
    assert servers.rows("SELECT count(*) FROM sync.quarantine") == [(0,)]


def test_a_conflict_is_audited_once_when_its_changes_are_replayed_behind_the_copy(servers: Servers) -> None:
    """The loser came first; when it comes again, the copy already has the winner."""
    log: list[Item] = [*conflicting(servers), ABORT()]
    one_by_one = servers.with_settings(window_max_changes=1)

    for _ in range(2):
        in_one_thread(one_by_one.flow(log, 1), recovery_config=servers.recovery)

    assert len(conflicts(servers)) == 1


def test_a_conflict_of_rows_nested_as_deep_as_decode_lets_pass_does_not_end_the_flow(
    servers: Servers,
) -> None:
    sku = servers.sku(0)
    nested: list[Any] = []
    for _ in range(250):
        nested = [nested]
    rows = [product(sku, attributes={"nested": nested}, name=name) for name in ("one", "other")]
    assert all(isinstance(change_of(change_message("product", row)).version.row, int) for row in rows)

    in_one_thread(servers.flow([change_message("product", row) for row in rows], 2))

    assert len(conflicts(servers)) == 1


def test_the_same_bad_bytes_at_two_places_are_one_row_that_a_replay_does_not_count(servers: Servers) -> None:
    log = [message(b"{broken", offset=offset) for offset in (3, 9)]

    for _ in range(2):
        for each in log:
            in_one_thread(servers.flow([each], 1))

    assert servers.rows('SELECT "offset", count FROM sync.quarantine') == [(9, 2)]


@pytest.mark.parametrize("then", [(), ("Kettle, renamed",), ("one", "two", "three")], ids=len)
def test_the_listing_that_a_product_left_is_stale_also_when_only_the_copy_still_knows(
    servers: Servers, then: Sequence[str]
) -> None:
    """Written, and killed before the invalidation and the snapshot: to the replay it is a duplicate."""
    sku = servers.sku(0)
    kitchen, garden = f"category:kitchen-{sku}", f"category:garden-{sku}"
    moved = [
        change_message("product", product(sku, name=name, category=garden.partition(":")[2]), version)
        for version, name in enumerate(["Kettle", *then], start=2)
    ]
    killed = servers.with_settings(redis_url=SecretStr("redis://127.0.0.1:1/0"))
    first = change_message("product", product(sku, category=kitchen.partition(":")[2]))
    in_one_thread(servers.flow([first], 1))
    for each in moved:
        in_one_thread(killed.flow([each], 1))
    servers.cache.mset({kitchen: "old", garden: "old"})

    in_one_thread(servers.flow(moved, 100))

    assert servers.cache.exists(kitchen, garden) == 0


class TestNamesOfSteps:
    """Another name for a step or a flow drops the state of every running installation, in silence."""

    def test_of_catalog_search_are_frozen(self) -> None:
        settings = Settings()
        store = ElasticsearchStore(settings.elasticsearch_url.get_secret_value(), settings.search_alias)
        source: TestingSource[Message] = TestingSource([])

        flow = catalog_search.build(settings, source, store, Circuits(Stop()))

        store.close()
        assert flow.flow_id == "catalog_search"
        assert stateful_steps(flow) == [
            "catalog_search.changes",
            "catalog_search.apply.lanes",
            "catalog_search.invalidate.lanes",
            "catalog_search.confirm",
            "catalog_search.audit.output",
            "catalog_search.quarantine.output",
            "catalog_search.replayed.output",
            "catalog_search.postponed.output",
            "catalog_search.retried.output",
        ]

    def test_of_the_outbox_relay_are_frozen(self) -> None:
        flow = outbox_relay.build(Settings(), Circuits(Stop()), Health(1.0))

        assert flow.flow_id == "outbox_relay"
        assert stateful_steps(flow) == ["outbox_relay.outbox", "outbox_relay.remove", "outbox_relay.confirm"]


def test_raw_bytes_in_quarantine_can_be_replayed(servers: Servers) -> None:
    """What a person sees and replays is what the log held, byte by byte, with its headers."""
    raw = message(b'{"name": "\\ud800"}\xff\0', key=b"\xfe\0key", headers=[("id", b"\xff"), ("none", None)])

    in_one_thread(servers.flow([raw], 1))

    ((key, value, headers),) = servers.rows("SELECT message_key, message_value, headers FROM sync.quarantine")
    assert (key, value) == (raw.key, raw.value)
    assert headers == [["id", "ff"], ["none", None]]
