"""One contract for every store. The twin in memory keeps it too, so tests that use it tell the truth."""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack

import orjson
import pytest

from sinks.elasticsearch import BULK_MAX_BYTES, ElasticsearchStore
from sinks.postgres_documents import PostgresStore, install_profiles
from syncline.model.document import Document
from syncline.model.errors import MissingResource
from syncline.model.store import Outcome, Store, StoredDocument, Token, Write, WriteResult
from syncline.provision import create_search_index, search_index_name
from syncline.settings import Settings
from tests.memory_store import MemoryStore
from tests.own import own_database

MakeStore = Callable[[], Store]
"""Makes another, empty store; the first one made is the test's own."""


def refuses_text_in_numbers(document: Document) -> str | None:
    """What the mapping of the real index refuses."""
    on_hand = document["stock"]["on_hand"]
    return None if isinstance(on_hand, int) else f"failed to parse field [stock.on_hand]: {on_hand}"


class InProfiles:
    """These tests' documents in PostgreSQL's store, which has a column for each field of a profile.

    The document lies in ``address`` as it is, and its number in a column that takes no text.
    """

    def __init__(self, profiles: PostgresStore) -> None:
        self.profiles = profiles

    def identity(self) -> str:
        return self.profiles.identity()

    def refresh(self) -> None:
        self.profiles.refresh()

    def read(self, document_ids: Sequence[str]) -> Mapping[str, StoredDocument]:
        ids = {self._profile_id(id_): id_ for id_ in document_ids}
        return {
            ids[id_]: StoredDocument(orjson.dumps(stored.document["address"]), stored.token)
            for id_, stored in self.profiles.read(list(ids)).items()
        }

    def write(self, writes: Sequence[Write]) -> Sequence[WriteResult]:
        return self.profiles.write([self._in_profile(write) for write in writes])

    def _in_profile(self, write: Write) -> Write:
        document = orjson.loads(write.body)
        number = document["stock"]["on_hand"]
        consent = None if isinstance(number, int) else number
        profile = {"address": document, "marketing_consent": consent, "_sync": document["_sync"]}
        return Write(self._profile_id(write.document_id), orjson.dumps(profile), write.expected)

    def _profile_id(self, document_id: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, document_id))


def make_index(settings: Settings, made: ExitStack) -> Store:
    own = settings.model_copy(update={"search_alias": f"contract-{uuid.uuid4().hex}"})
    create_search_index(own)
    store = ElasticsearchStore(own.elasticsearch_url.get_secret_value(), own.search_alias)
    made.callback(store.close)
    made.callback(store.client.indices.delete, index=search_index_name(own))
    return store


def make_table(settings: Settings, made: ExitStack) -> Store:
    server = settings.postgres_dsn.get_secret_value()
    dsn = made.enter_context(own_database(server, f"contract-{uuid.uuid4().hex}"))
    install_profiles(dsn)
    profiles = PostgresStore(dsn, "tests")
    made.callback(profiles.close)
    return InProfiles(profiles)


SERVERS = {"elasticsearch": make_index, "postgres": make_table}


@pytest.fixture(params=["memory", *SERVERS])
def make_store(request: pytest.FixtureRequest) -> Iterator[MakeStore]:
    if request.param == "memory":
        yield lambda: MemoryStore(refuses_text_in_numbers, name=uuid.uuid4().hex)
        return
    settings: Settings = request.getfixturevalue("settings")
    make = SERVERS[request.param]
    with ExitStack() as made:
        yield lambda: make(settings, made)


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    return make_store()


def body(document_id: str, on_hand: object = 0, **fields: object) -> bytes:
    sync = {"version": 1, "hidden": False, "entities": {}}
    stock = {"on_hand": on_hand, "by_warehouse": {}}
    return orjson.dumps({"sku": document_id, "prices": {}, "stock": stock, "_sync": sync, **fields})


def create(store: Store, document_id: str, on_hand: int = 0) -> Token:
    (result,) = store.write([Write(document_id, body(document_id, on_hand), None)])
    assert result.outcome is Outcome.WRITTEN
    assert result.token is not None
    return result.token


def on_hand(stored: StoredDocument) -> object:
    return stored.document["stock"]["on_hand"]


def test_create_writes_a_document_that_a_read_finds_at_once(store: Store) -> None:
    token = create(store, "A", 7)

    found = store.read(["A", "absent"])

    assert list(found) == ["A"]
    assert found["A"].token == token
    assert found["A"].document == orjson.loads(body("A", 7))


def test_create_is_turned_away_when_the_document_is_there(store: Store) -> None:
    token = create(store, "A", 7)

    (result,) = store.write([Write("A", body("A", 8), None)])

    assert (result.outcome, result.token) == (Outcome.ALREADY_NEWER, None)
    stored = store.read(["A"])["A"]
    assert (on_hand(stored), stored.token) == (7, token)


def test_a_write_on_the_state_that_was_read_replaces_the_document(store: Store) -> None:
    first = create(store, "A", 7)

    (result,) = store.write([Write("A", body("A", 8), first)])

    assert result.outcome is Outcome.WRITTEN
    stored = store.read(["A"])["A"]
    assert (on_hand(stored), stored.token) == (8, result.token)
    assert result.token != first


def test_a_write_on_an_older_state_is_turned_away(store: Store) -> None:
    first = create(store, "A", 7)
    (second,) = store.write([Write("A", body("A", 8), first)])

    (result,) = store.write([Write("A", body("A", 9), first)])

    assert result.outcome is Outcome.ALREADY_NEWER
    stored = store.read(["A"])["A"]
    assert (on_hand(stored), stored.token) == (8, second.token)


def test_a_write_on_the_state_of_another_document_is_turned_away(store: Store) -> None:
    create(store, "A")
    of_b = create(store, "B")

    (result,) = store.write([Write("A", body("A", 9), of_b)])

    assert result.outcome is Outcome.ALREADY_NEWER


def test_a_write_on_a_state_of_a_document_that_is_not_there_is_turned_away(store: Store) -> None:
    (result,) = store.write([Write("A", body("A"), Token(5, 1))])

    assert result.outcome is Outcome.ALREADY_NEWER
    assert not store.read(["A"])


def test_a_document_that_does_not_fit_is_refused_with_a_reason_and_leaves_the_old_one(store: Store) -> None:
    token = create(store, "A", 7)

    (result,) = store.write([Write("A", body("A", "many"), token)])

    assert (result.outcome, result.token) == (Outcome.REFUSED, None)
    assert "many" in result.reason
    stored = store.read(["A"])["A"]
    assert (on_hand(stored), stored.token) == (7, token)


def test_a_refused_document_is_refused_whatever_state_was_expected(store: Store) -> None:
    create(store, "A", 7)

    results = store.write([Write("A", body("A", "many"), None), Write("B", body("B", "many"), Token(9, 1))])

    assert [result.outcome for result in results] == [Outcome.REFUSED, Outcome.REFUSED]


def test_each_write_is_taken_on_its_own_and_results_stand_in_the_order_of_the_writes(store: Store) -> None:
    of_a = create(store, "A", 1)
    create(store, "B", 1)

    results = store.write(
        [
            Write("B", body("B", 2), None),
            Write("C", body("C", "many"), None),
            Write("A", body("A", 2), of_a),
            Write("D", body("D", 2), None),
        ]
    )

    assert [result.outcome for result in results] == [
        Outcome.ALREADY_NEWER,
        Outcome.REFUSED,
        Outcome.WRITTEN,
        Outcome.WRITTEN,
    ]
    found = store.read(["A", "B", "C", "D"])
    assert {document_id: on_hand(stored) for document_id, stored in found.items()} == {"A": 2, "B": 1, "D": 2}
    assert found["A"].token == results[2].token
    assert found["D"].token == results[3].token


def test_hundreds_of_writes_and_reads_are_answered_in_order(store: Store) -> None:
    ids = [f"SKU-{number}" for number in range(1_201)]
    create(store, ids[600])

    results = store.write([Write(id_, body(id_, number), None) for number, id_ in enumerate(ids)])

    outcomes = [result.outcome for result in results]
    assert outcomes.pop(600) is Outcome.ALREADY_NEWER
    assert set(outcomes) == {Outcome.WRITTEN}
    found = store.read(ids)
    expected = [0 if number == 600 else number for number in range(len(ids))]
    assert [on_hand(found[id_]) for id_ in ids] == expected


def test_documents_larger_together_than_one_request_are_all_written(store: Store) -> None:
    ids = [f"SKU-{number}" for number in range(4)]
    large = "long words " * (BULK_MAX_BYTES // 33)

    results = store.write([Write(id_, body(id_, description=large), None) for id_ in ids])

    assert [result.outcome for result in results] == [Outcome.WRITTEN] * 4
    assert sorted(store.read(ids)) == ids


@pytest.mark.parametrize("document_id", ["SKU 1/2?#%\"'\\", "_id", " ", "Ünïcode", "😀" * 128, "line\nbreak"])
def test_any_sku_is_an_id(store: Store, document_id: str) -> None:
    token = create(store, document_id, 7)

    assert store.read([document_id])[document_id].token == token


@pytest.mark.parametrize(
    "value",
    [
        "a smile 😀 and a line separator \u2028",
        18_446_744_073_709_551_615,
        -9_223_372_036_854_775_808,
        12_345_678_901_234_567,
        0.1,
        -0.0,
        5e-324,
        1.7976931348623157e308,
        ["nested", {"deep": [None, True, 1.0]}],
    ],
    ids=str,
)
def test_a_value_is_read_as_it_was_written(store: Store, value: object) -> None:
    written = body("A", attributes={"value": value, "dotted.key": 1, "": 2})

    store.write([Write("A", written, None)])

    assert store.read(["A"])["A"].document == orjson.loads(written)


def test_a_document_that_was_read_is_the_caller_s_to_change(store: Store) -> None:
    create(store, "A", 7)
    store.read(["A"])["A"].document["stock"]["on_hand"] = 99

    assert on_hand(store.read(["A"])["A"]) == 7


def test_no_ids_no_documents(store: Store) -> None:
    assert store.read([]) == {}


def test_a_store_keeps_its_identity_and_another_has_another(make_store: MakeStore) -> None:
    one, other = make_store(), make_store()
    before = one.identity()
    create(one, "A")

    assert one.identity() == before
    assert other.identity() != before


class TestElasticsearchAlone:
    """What only a server can get wrong."""

    def test_without_the_alias_every_call_names_what_is_missing(self, settings: Settings) -> None:
        store = ElasticsearchStore(settings.elasticsearch_url.get_secret_value(), "no-such-alias")
        try:
            with pytest.raises(MissingResource, match="no-such-alias"):
                store.identity()
            with pytest.raises(MissingResource, match="no-such-alias"):
                store.read(["A"])
            with pytest.raises(MissingResource, match="no-such-alias"):
                store.write([Write("A", body("A"), None)])
        finally:
            store.close()
