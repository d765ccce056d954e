"""The whole flow from Bytewax's TestingSource, on real servers: ends, aborts, resumes, several workers."""

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSource
from pydantic import SecretStr
from redis import Redis

from dataflows import customer_profiles
from sinks.postgres import install_sync_schema
from sinks.postgres_documents import PostgresStore, install_profiles
from syncline.circuit import Circuits
from syncline.model.document import Document
from syncline.model.message import Message
from syncline.model.store import Write
from syncline.policies.customer_profile import CustomerProfile
from syncline.settings import Settings
from syncline.stopping import Stop
from tests.customers import ANN, BOB, CUSTOMERS, Deleted, Step, Wrote, moment, published, row_message
from tests.dataflows.runs import (
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

CLEO = "c0000000-0000-4000-8000-000000000003"
UNLUCKY = "666"
"""A telephone number that this test's table refuses."""


@dataclass
class Servers:
    """A database of this test alone, and the cache."""

    settings: Settings
    store: PostgresStore
    database: psycopg.Connection[Any]
    cache: Redis
    recovery: RecoveryConfig

    def flow(self, log: Sequence[Item], batch_size: int) -> Dataflow:
        source = TestingSource(log, batch_size)
        return customer_profiles.build(self.settings, source, self.store, Circuits(Stop()))

    def with_settings(self, **changed: object) -> "Servers":
        return replace(self, settings=self.settings.model_copy(update=changed))

    def documents(self) -> dict[str, Document]:
        """All documents, hidden ones too."""
        return {id_: stored.document for id_, stored in self.store.read([ANN, BOB, CLEO]).items()}

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.database.execute(query).fetchall()


@pytest.fixture
def servers(settings: Settings, tmp_path: Path) -> Iterator[Servers]:
    recovery = tmp_path / "recovery"
    recovery.mkdir()
    init_db_dir(recovery, 1)  # type: ignore[no-untyped-call]
    recovery_config = RecoveryConfig(str(recovery))  # type: ignore[no-untyped-call]
    name = f"test-{uuid.uuid4().hex[:12]}"
    with own_database(settings.postgres_dsn.get_secret_value(), name) as dsn:
        install_sync_schema(dsn)
        install_profiles(dsn)
        own = settings.model_copy(update={"postgres_dsn": SecretStr(dsn)})
        store = PostgresStore(dsn, "tests")
        cache = Redis.from_url(own.redis_url.get_secret_value())
        with psycopg.connect(dsn, autocommit=True) as database:
            database.execute(f"ALTER TABLE profiles.customer_documents ADD CHECK (phone <> '{UNLUCKY}')")
            yield Servers(own, store, database, cache, recovery_config)
        cache.close()
        store.close()


STEPS: list[Step] = [
    Wrote("storefront", 1, 0, {"email": "ann@a.example", "phone": "1", "full_name": "Ann"}),
    Wrote("crm", 2, 1, {"email": "ann@b.example", "full_name": "Ann 🦆", "address": {"city": "Bonn"}}),
    Wrote("support", 3, 60, {"notes": "calls at noon", "phone": "1"}),
    Wrote("storefront", 4, 70, {"marketing_consent": True, "consent_at": moment(70)}),
    Wrote("crm", 5, 71, {"marketing_consent": False, "consent_at": moment(71)}),
    Wrote("storefront", 6, 100, {"phone": "2"}),
    Wrote("crm", 7, 0, {"full_name": "Bob"}, customer=BOB),
    Deleted("crm", 10, customer=BOB),
    Wrote("support", 8, 0, {"notes": "new", "full_name": "not support's"}, customer=CLEO),
    Wrote("support", 9, 20, {"notes": "newer"}, customer=CLEO),
]


def history() -> list[Message]:
    """Three customers with edits that are concurrent, one deleted, one with a field of others; duplicates."""
    log = [part.change.message for part in published(STEPS)]
    return [*log, *log[::3]]


def bad_messages() -> list[Message]:
    """One for each step that may fail: decode, transform, deliver."""
    columns: dict[str, object] = {"id": ANN, "field_versions": {}, "based_on": {}}
    said = {"phone": {"version": 21, "at": moment(200)}}
    wrong_type = row_message("support", {**columns, "id": CLEO, "marketing_consent": "perhaps"}, 20)
    unlucky = row_message("support", {**columns, "phone": UNLUCKY, "field_versions": said}, 21, at=200)
    return [wrong_type._replace(value=b"{broken \xff", offset=19), wrong_type, unlucky]


Gist = tuple[str | None, str | None, str | None, bool | None, str | None, bool]
EXPECTED: dict[str, Gist] = {
    ANN: ("ann@a.example", "2", "Ann 🦆", False, "calls at noon", False),
    BOB: (None, None, None, None, None, True),
    CLEO: (None, None, None, None, "newer", False),
}
"""Email, telephone, name, consent, notes, hidden."""


def gist(documents: dict[str, Document]) -> dict[str, Gist]:
    return {
        id_: (
            document["email"],
            document["phone"],
            document["full_name"],
            document["marketing_consent"],
            document["notes"],
            document["_sync"]["hidden"],
        )
        for id_, document in documents.items()
    }


CONFLICTS = [
    ("email", "timestamp", "manual", ["crm", "storefront"]),
    ("full_name", "ownership", "not_a_writer_of_the_field", ["storefront", "support"]),
    ("full_name", "timestamp", "last_write_wins", ["crm", "storefront"]),
    ("marketing_consent", "timestamp", "merge: latest_consent", ["crm", "storefront"]),
]


def conflicts(servers: Servers) -> list[tuple[Any, ...]]:
    rows = servers.rows(
        "SELECT field, kind, rule, known_writer, arrived_writer FROM sync.conflicts ORDER BY field, kind"
    )
    return [(field, kind, rule, sorted(writers)) for field, kind, rule, *writers in rows]


def reviews(servers: Servers) -> list[tuple[Any, ...]]:
    rows = servers.rows("SELECT entity_id, field, state, standing, candidates FROM sync.reviews")
    return [(*row, sorted(candidates)) for *row, candidates in rows]


OPEN_REVIEW = [(ANN, "email", "open", "storefront", ["crm", "storefront"])]


@pytest.mark.parametrize("batch_size", [1, 7, 1_000])
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_good_changes_are_in_the_profiles_and_bad_ones_in_quarantine(
    servers: Servers, run: Run, batch_size: int
) -> None:
    good, bad = history(), bad_messages()
    stale = [f"customer:{ANN}", f"customer:{BOB}"]
    servers.cache.mset(dict.fromkeys(stale, "old"))

    run(servers.flow([*good[:5], *bad[:2], *good[5:], *bad[2:]], batch_size))

    assert gist(servers.documents()) == EXPECTED
    assert servers.rows("SELECT id::text, phone FROM profiles.customers ORDER BY id") == [
        (ANN, "2"),
        (CLEO, None),
    ]
    assert servers.cache.exists(*stale) == 0
    assert conflicts(servers) == CONFLICTS
    assert reviews(servers) == OPEN_REVIEW
    quarantined = servers.rows('SELECT step, error, message_value FROM sync.quarantine ORDER BY "offset"')
    assert quarantined == [
        ("decode", "Undecodable", bad[0].value),
        ("transform", "Untransformable", bad[1].value),
        ("apply", "Refused", bad[2].value),
    ]


def test_confirmation_counts_each_change_once(servers: Servers) -> None:
    log = history()

    in_one_thread(servers.flow(log, 4))

    counts: Counter[str] = Counter()
    for (confirmed,) in servers.rows("SELECT counts FROM sync.status WHERE flow = 'customer_profiles'"):
        counts.update(confirmed)
    assert sum(counts.values()) == len(log)


@pytest.mark.parametrize("run", [in_one_thread, as_a_cluster_of_one], ids=["run_main", "cluster_main"])
@pytest.mark.parametrize(
    "window",
    [{"window_max_changes": 1}, {"window_max_changes": 3, "window_max_age_ms": 600_000}],
    ids=["written at once", "in an open window"],
)
def test_what_was_aborted_is_resumed_and_ends_as_if_nothing_had_happened(
    servers: Servers, run: Run, window: dict[str, object]
) -> None:
    log = with_aborts([*history(), *bad_messages()])
    own = servers.with_settings(**window)

    for _ in range(5):
        run(own.flow(log, 1), epoch_interval=EPOCH, recovery_config=servers.recovery)

    assert gist(servers.documents()) == EXPECTED
    assert conflicts(servers) == CONFLICTS
    assert reviews(servers) == OPEN_REVIEW
    assert servers.rows("SELECT count(*) FROM sync.quarantine") == [(3,)]


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_after_a_clean_end_the_next_run_goes_on_behind_it(servers: Servers, run: Run) -> None:
    log: list[Item] = [*history()]
    log.insert(6, EOF())

    run(servers.flow(log, 100), epoch_interval=EPOCH, recovery_config=servers.recovery)
    after_first = servers.documents()
    run(servers.flow(log, 100), epoch_interval=EPOCH, recovery_config=servers.recovery)

    assert list(after_first) == [ANN]
    assert gist(servers.documents()) == EXPECTED


def test_a_lost_recovery_folder_costs_time_and_changes_nothing(servers: Servers) -> None:
    log = history()

    in_one_thread(servers.flow(log, 3))
    before = servers.documents()
    in_one_thread(servers.flow(log, 5))

    assert servers.documents() == before
    assert conflicts(servers) == CONFLICTS


def plain(document: Document) -> Document:
    """Without clocks, times and event ids."""
    sync = document["_sync"]
    entities = {entity: (tuple(said["version"]), said["hash"]) for entity, said in sync["entities"].items()}
    return {**document, "_sync": {"rows": sync["rows"], "hidden": sync["hidden"], "entities": entities}}


def test_one_worker_and_two_end_in_the_same_documents_and_conflicts(servers: Servers) -> None:
    log = history()
    in_one_thread(servers.flow(log, 3))
    one = {id_: plain(document) for id_, document in servers.documents().items()}
    servers.database.execute("TRUNCATE profiles.customer_documents, sync.conflicts, sync.reviews")

    with_two_workers(servers.flow(log, 2))

    assert {id_: plain(document) for id_, document in servers.documents().items()} == one
    assert conflicts(servers) == CONFLICTS
    assert reviews(servers) == OPEN_REVIEW


def test_a_review_closes_when_its_question_is_gone_and_opens_again(servers: Servers) -> None:
    later = [
        Wrote("storefront", 30, 300, {"email": "ann@c.example"}),
        Wrote("crm", 31, 301, {"email": "ann@d.example"}),
    ]
    messages = [part.change.message for part in published([*STEPS, *later])]
    opened = "SELECT opened_at FROM sync.reviews"

    in_one_thread(servers.flow(messages[:-2], 100))
    first = servers.rows(opened)
    in_one_thread(servers.flow(messages[-2:-1], 1))
    assert [row[2] for row in reviews(servers)] == ["closed"]
    assert servers.rows(opened) == first
    in_one_thread(servers.flow(messages[-1:], 1))

    assert reviews(servers) == OPEN_REVIEW
    assert servers.rows(opened) > first
    assert servers.documents()[ANN]["email"] == "ann@c.example"


def test_the_table_has_a_column_for_each_field_of_a_profile(servers: Servers) -> None:
    columns = servers.rows(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'customer_documents'"
    )
    of_the_store = {"hidden", "revision"}
    profile = CustomerProfile(CUSTOMERS.conflicts).empty(ANN)
    assert {name for (name,) in columns} - of_the_store == set(profile)
    servers.store.write([Write(ANN, orjson.dumps(profile), None)])
    assert servers.documents() == {ANN: profile}


def test_the_names_of_its_steps_are_frozen() -> None:
    """Another name for a step or a flow drops the state of every running installation, in silence."""
    settings = Settings()
    store = PostgresStore(settings.postgres_dsn.get_secret_value(), "tests")
    source: TestingSource[Message] = TestingSource([])

    flow = customer_profiles.build(settings, source, store, Circuits(Stop()))

    assert flow.flow_id == "customer_profiles"
    assert stateful_steps(flow) == [
        "customer_profiles.changes",
        "customer_profiles.apply.lanes",
        "customer_profiles.invalidate.lanes",
        "customer_profiles.confirm",
        "customer_profiles.audit.output",
        "customer_profiles.reviews.output",
        "customer_profiles.quarantine.output",
        "customer_profiles.replayed.output",
        "customer_profiles.postponed.output",
        "customer_profiles.retried.output",
    ]
