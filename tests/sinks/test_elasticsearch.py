"""Documents in a real index: each write a compare-and-set, each failure told by its class."""

import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

from sinks.elasticsearch import BULK_MAX_ACTIONS, READ_MAX_DOCUMENTS, ElasticsearchStore
from syncline.model.errors import BadCredentials, FatalError, Misconfigured, MissingResource, Unavailable
from syncline.model.store import Outcome, Token, Write
from syncline.provision import create_search_index, search_index_name
from syncline.settings import Settings
from syncline.stack.ports import LOOPBACK
from tests.own import but
from tests.road import Road


def store_of(settings: Settings) -> ElasticsearchStore:
    return ElasticsearchStore(settings.elasticsearch_url.get_secret_value(), settings.search_alias)


@pytest.fixture
def store(own: Settings) -> Iterator[ElasticsearchStore]:
    """The store over an index that is empty."""
    store = store_of(own)
    store.client.indices.delete(index=search_index_name(own), ignore_unavailable=True)
    create_search_index(own)
    yield store
    store.close()


def document(sku: str, **fields: object) -> dict[str, Any]:
    return {"sku": sku, "name": sku, "_sync": {"version": 1, "hidden": False, "entities": {}}, **fields}


def create(sku: str, **fields: object) -> Write:
    return Write(sku, orjson.dumps(document(sku, **fields)), None)


def body_of(store: ElasticsearchStore, sku: str) -> dict[str, Any]:
    body: dict[str, Any] = store.client.get(index=store.alias, id=sku)["_source"]
    return body


def test_a_document_is_created_once_and_replaced_in_the_state_that_was_read(
    store: ElasticsearchStore,
) -> None:
    (created,) = store.write([create("A")])
    assert created.outcome is Outcome.WRITTEN
    assert store.write([create("A")])[0].outcome is Outcome.ALREADY_NEWER

    replacement = orjson.dumps(document("A", name="second"))
    (replaced,) = store.write([Write("A", replacement, created.token)])
    assert replaced.outcome is Outcome.WRITTEN
    (late,) = store.write([Write("A", orjson.dumps(document("A", name="late")), created.token)])
    assert late.outcome is Outcome.ALREADY_NEWER
    assert body_of(store, "A")["name"] == "second"


def test_a_document_that_is_gone_is_no_longer_the_one_that_was_read(store: ElasticsearchStore) -> None:
    (created,) = store.write([create("A")])
    store.client.delete(index=store.alias, id="A")
    assert store.write([Write("A", b"{}", created.token)])[0].outcome is Outcome.ALREADY_NEWER
    assert store.write([Write("B", b"{}", Token(0, 1))])[0].outcome is Outcome.ALREADY_NEWER


def test_what_was_acknowledged_is_read_at_once(store: ElasticsearchStore) -> None:
    results = store.write([create("A"), create("B", name="🦆")])
    found = store.read(["B", "nowhere", "A"])
    assert {sku: stored.token for sku, stored in found.items()} == {
        "A": results[0].token,
        "B": results[1].token,
    }
    assert body_of(store, "B")["name"] == "🦆"
    assert store.read([]) == {}


def test_results_stand_in_the_order_of_the_writes_however_many_requests_they_take(
    store: ElasticsearchStore,
) -> None:
    count = 2 * max(BULK_MAX_ACTIONS, READ_MAX_DOCUMENTS) + 11
    taken = range(0, count, 7)
    store.write([create(f"S{n}") for n in taken])
    results = store.write([create(f"S{n}") for n in range(count)])
    assert [result.outcome for result in results] == [
        Outcome.ALREADY_NEWER if n in taken else Outcome.WRITTEN for n in range(count)
    ]
    found = store.read([f"S{n}" for n in range(count)])
    assert len(found) == count
    assert all(found[f"S{n}"].token == results[n].token for n in range(count) if n not in taken)


def test_a_refusal_names_the_field_and_spares_the_others(store: ElasticsearchStore) -> None:
    deep: dict[str, Any] = {}
    for _ in range(25):
        deep = {"a": deep}
    good, wrong_type, too_deep, last = store.write(
        [create("A"), create("B", stock={"on_hand": "many"}), create("C", attributes=deep), create("D")]
    )
    assert (good.outcome, last.outcome) == (Outcome.WRITTEN, Outcome.WRITTEN)
    assert wrong_type.outcome is Outcome.REFUSED
    assert "stock.on_hand" in wrong_type.reason
    assert "many" in wrong_type.reason
    assert too_deep.outcome is Outcome.REFUSED
    assert "attributes" in too_deep.reason
    assert "depth" in too_deep.reason


def test_a_large_document_passes_and_is_read_back(store: ElasticsearchStore) -> None:
    text = "x" * (5 * 1024 * 1024)
    results = store.write([create(f"L{n}", description=text) for n in range(3)])
    assert [result.outcome for result in results] == [Outcome.WRITTEN] * 3
    assert set(store.read(["L0", "L1", "L2"])) == {"L0", "L1", "L2"}
    assert body_of(store, "L2")["description"] == text


def test_keys_that_nobody_foresaw_do_not_grow_the_mapping(own: Settings, store: ElasticsearchStore) -> None:
    before = store.client.indices.get_mapping(index=own.search_alias).body
    (result,) = store.write([create("A", surprise={"b": 1}, attributes={f"k{n}": n for n in range(2_000)})])
    assert result.outcome is Outcome.WRITTEN
    assert store.client.indices.get_mapping(index=own.search_alias).body == before


def test_identity_is_that_of_the_very_index(own: Settings, store: ElasticsearchStore) -> None:
    first = store.identity()
    assert first == store.identity()
    assert first.startswith(f"{search_index_name(own)}:")
    store.client.indices.delete(index=search_index_name(own))
    assert create_search_index(own)
    assert not create_search_index(own)
    assert store.identity() != first


def test_a_missing_alias_is_told_and_no_index_is_made(own: Settings) -> None:
    store = store_of(but(own, search_alias="own-nowhere"))
    for call in (store.identity, lambda: store.read(["A"]), lambda: store.write([create("A")])):
        with pytest.raises(MissingResource, match=r"own-nowhere does not exist; run: syncline setup"):
            call()
    assert not store.client.indices.exists(index="own-nowhere")
    store.close()


def test_an_alias_of_two_indices_is_told(own: Settings, store: ElasticsearchStore) -> None:
    store.client.indices.create(index="own-second", aliases={own.search_alias: {}})
    with pytest.raises(MissingResource, match="must stand for one index"):
        store.identity()
    store.client.indices.delete(index="own-second")


def test_an_index_that_takes_no_writes_is_fatal(own: Settings, store: ElasticsearchStore) -> None:
    index = search_index_name(own)
    store.client.indices.put_settings(index=index, settings={"index.blocks.write": True})
    with pytest.raises(FatalError, match="403"):
        store.write([create("A")])
    store.client.indices.put_settings(index=index, settings={"index.blocks.write": False})
    assert store.write([create("A")])[0].outcome is Outcome.WRITTEN


def test_a_server_that_is_away_is_unavailable(own: Settings) -> None:
    with Road(1, is_open=False) as road:
        store = store_of(but(own, elasticsearch_url=f"http://{road.address}"))
        for call in (store.identity, lambda: store.read(["A"]), lambda: store.write([create("A")])):
            with pytest.raises(Unavailable, match="does not answer"):
                call()
        store.close()


@pytest.mark.parametrize("url", ["localhost", "http://localhost"])
def test_a_url_that_is_none_is_told(own: Settings, url: str) -> None:
    with pytest.raises(Misconfigured, match="elasticsearch_url"):
        store_of(but(own, elasticsearch_url=url))


class _Guard(ThreadingHTTPServer):
    """A proxy before the real server, which answers by itself what is hard to have of that one: 413 to a body
    beyond ``most_bytes``, or ``status`` to everything."""

    def __init__(self, url: str) -> None:
        super().__init__((LOOPBACK, 0), _GuardHandler)
        self.target = urlsplit(url).netloc
        self.most_bytes = 10**9
        self.status: int | None = None
        self.requests = 0

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}"


class _GuardHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Guard

    def answer(self) -> None:
        self.server.requests += 1
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status = 413 if len(body) > self.server.most_bytes else self.server.status
        if status is not None:
            self._send(status, {"Content-Length": "0"}, b"")
            return
        target = HTTPConnection(self.server.target)
        target.request(self.command, self.path, body, dict(self.headers))
        response = target.getresponse()
        content = response.read()
        kept = {name: value for name, value in response.getheaders() if name.lower() != "transfer-encoding"}
        self._send(response.status, {**kept, "Content-Length": str(len(content))}, content)
        target.close()

    do_GET = do_POST = do_PUT = answer  # noqa: N815 - the library's names

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("Content-Length", headers["Content-Length"])
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """No news."""


@pytest.fixture
def guard(own: Settings) -> Iterator[_Guard]:
    with _Guard(own.elasticsearch_url.get_secret_value()) as guard:
        thread = threading.Thread(target=guard.serve_forever, args=(0.02,))
        thread.start()
        yield guard
        guard.shutdown()
        thread.join()


def test_a_request_that_is_too_large_is_split_until_it_passes(
    own: Settings, store: ElasticsearchStore, guard: _Guard
) -> None:
    guard.most_bytes = 20_000
    guarded = store_of(but(own, elasticsearch_url=guard.url))
    writes = [create(f"S{n}", description="x" * (50_000 if n == 13 else 900)) for n in range(40)]
    results = guarded.write(writes)
    guarded.close()
    assert [n for n, result in enumerate(results) if result.outcome is not Outcome.WRITTEN] == [13]
    assert results[13].outcome is Outcome.REFUSED
    assert f"{len(writes[13].body)} bytes is too large" in results[13].reason
    assert set(store.read([f"S{n}" for n in range(40)])) == {f"S{n}" for n in range(40) if n != 13}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, Unavailable), (503, Unavailable), (401, BadCredentials), (403, BadCredentials), (500, FatalError)],
)
def test_what_a_server_answers_has_a_class(
    own: Settings, guard: _Guard, status: int, kind: type[Exception]
) -> None:
    guard.status = status
    guarded = store_of(but(own, elasticsearch_url=guard.url))
    with pytest.raises(kind):
        guarded.write([create("A")])
    assert guard.requests == 1, "a second try is the flow's, not the client's"
    guarded.close()
