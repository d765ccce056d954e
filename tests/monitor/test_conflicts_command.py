"""``syncline conflicts`` as a person calls it, on real servers, down to what the flow makes of an answer."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from bytewax.testing import TestingSource, run_main
from psycopg.types.json import Jsonb
from typer.testing import CliRunner, Result

from dataflows import catalog_search
from sinks.elasticsearch import ElasticsearchStore
from syncline.circuit import Circuits
from syncline.console import quarantine
from syncline.console.conflicts import app
from syncline.model.errors import NotPossible
from syncline.model.message import Message, Record
from syncline.monitor.conflict_choice import Choice
from syncline.monitor.conflict_resolution import resolve
from syncline.policies.reentry import reentry_topic
from syncline.settings import Settings
from syncline.stopping import Stop
from tests.changes import NOON_US, SEARCH, change_message, change_of, price, product
from tests.lax_policies import without_rules
from tests.log import Log, fields
from tests.monitor.shop import Shop
from tests.waiting import eventually

CUSTOMER = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
CANDIDATES = {
    "storefront": {"value": "a@x", "version": 5, "at_us": NOON_US},
    "crm": {"value": "b@x", "version": 6, "at_us": NOON_US},
}


@pytest.fixture
def desk(shop: Shop, own: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator["Desk"]:
    for name, value in own.as_environment().items():
        monkeypatch.setenv(name, value)
    desk = Desk(shop, own)
    yield desk
    shop.run("DELETE FROM sync.outbox")


class Desk:
    """The command line, the audit that it works on, and the flow that audits and is answered."""

    def __init__(self, shop: Shop, settings: Settings) -> None:
        self.shop = shop
        self.settings = settings

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, arguments)

    def listed(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self("list", *arguments, "--json").stdout)
        return found

    def flow(self, *messages: Message) -> None:
        """The flow over a log of these messages."""
        url = self.settings.elasticsearch_url.get_secret_value()
        with closing(ElasticsearchStore(url, self.settings.search_alias)) as store:
            flow = catalog_search.build(self.settings, TestingSource(messages, 100), store, Circuits(Stop()))
            run_main(flow)  # type: ignore[no-untyped-call]

    def two_prices_of_one_version(self, sku: str) -> tuple[str, Message, Message]:
        """A conflict that the flow found: its name, what lost and what stands."""
        topics = {policy.type: policy.topic(self.settings.topic_prefix) for policy in SEARCH.entities}
        messages = [
            change_message("price", price(sku, list_amount=amount), 7, offset=offset)
            for offset, amount in enumerate(["10.0000", "20.0000"])
        ]
        loser, winner = sorted(messages, key=lambda message: change_of(message).content_hash)
        there = change_message("product", product(sku), 3)._replace(topic=topics["product"])
        for message in (winner, loser):
            self.flow(there, message._replace(topic=topics["price"]))
        [conflict] = self.listed("--entity", f"price:EUR:{sku}")["conflicts"]
        return f"c{conflict['id']}", loser, winner

    def logged_prices(self, sku: str) -> tuple[str, Message, Message]:
        """Likewise, but both stand in Kafka, and what came last won: what stood, and what stands."""
        log = Log(self.settings.kafka_bootstrap_servers)
        topics = {policy.type: policy.topic(self.settings.topic_prefix) for policy in SEARCH.entities}
        messages = [
            change_message("price", price(sku, list_amount=amount), 7) for amount in ("10.0000", "20.0000")
        ]
        messages.sort(key=lambda message: change_of(message).content_hash)
        log.append(
            Record(topics["price"], message.key, message.value, message.headers) for message in messages
        )
        logged = [message for message in log.read(topics["price"]) if message.key == sku.encode()]
        there = change_message("product", product(sku), 3)._replace(topic=topics["product"])
        for message in logged:
            self.flow(there, message)
        [conflict] = self.listed("--entity", f"price:EUR:{sku}")["conflicts"]
        assert (conflict["known"]["position"], conflict["winner"]) == (logged[0].position, "arrived")
        return f"c{conflict['id']}", logged[0], logged[1]

    def list_e4(self, sku: str) -> int:
        answer = self.shop.client.get(index=self.settings.search_alias, id=sku)
        amount: int = answer["_source"]["prices"]["EUR"]["list_e4"]
        return amount

    def sent(self) -> list[tuple[str, str, str, int, dict[str, Any]]]:
        return self.shop.connection.execute(
            "SELECT aggregatetype, aggregateid, type, version, payload FROM sync.outbox ORDER BY seq"
        ).fetchall()

    def quarantine(self, *arguments: str) -> str:
        """``syncline quarantine``, and what it said."""
        result = CliRunner().invoke(quarantine.app, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return " ".join(result.stdout.split())

    def quarantined(self) -> list[tuple[str, str, str | None]]:
        return self.shop.connection.execute("SELECT entity_type, state, why FROM sync.quarantine").fetchall()

    def deliver(self) -> None:
        """Bring what is in the outbox to the flow, as the relay does."""
        topic = reentry_topic(self.settings.topic_prefix)
        self.flow(
            *(
                Message(topic, 0, offset, id_.encode(), orjson.dumps(payload), (), NOON_US, NOON_US)
                for offset, (_, id_, _, _, payload) in enumerate(self.sent())
            )
        )

    def has_to_wait(self, application_name: str) -> bool:
        return bool(
            self.shop.connection.execute(
                "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = %s",
                (application_name,),
            ).fetchall()
        )

    def review(self, candidates: Mapping[str, Any] = CANDIDATES, state: str = "open") -> str:
        [(id_,)] = self.shop.connection.execute(
            """
            INSERT INTO sync.reviews (
                flow, entity_type, entity_id, field, state, candidates, standing, document_version
            ) VALUES ('customer_profiles', 'customer', %s, 'email', %s, %s, 'storefront', 1)
            RETURNING id
            """,
            (CUSTOMER, state, Jsonb(candidates)),
        ).fetchall()
        return f"r{id_}"

    def conflict_over_email(self, *versions: int, kind: str = "timestamp") -> str:
        [(id_,)] = self.shop.connection.execute(
            """
            INSERT INTO sync.conflicts (
                flow, kind, entity_type, entity_id, field, rule, winner, arrived_event_id,
                known_writer, known_version, known_hash, known_value,
                arrived_writer, arrived_version, arrived_hash, arrived_value
            ) VALUES (
                'customer_profiles', %s, 'customer', %s, 'email', 'manual', 'known', 'event',
                'storefront', %s, 'a', '"a@x"', 'crm', %s, 'b', '"b@x"'
            ) RETURNING id
            """,
            (kind, CUSTOMER, *(Jsonb([version]) for version in versions)),
        ).fetchall()
        return f"c{id_}"


DECISION = ("--by", "anna", "--why", "she asked them")


def test_an_answer_to_a_conflict_is_what_the_copy_says_in_the_end(desk: Desk) -> None:
    name, loser, _ = desk.two_prices_of_one_version("S")
    standing = desk.list_e4("S")
    result = desk("resolve", name, "--take", "incoming", *DECISION)
    assert result.exit_code == 0, result.output
    [(aggregatetype, key, kind, version, _)] = desk.sent()
    assert (aggregatetype, key, kind) == ("reentry", "S", "replay")
    assert f"on its way to catalog_search as version {version}" in result.stdout

    desk.deliver()
    change = change_of(loser)
    assert desk.list_e4("S") == int(float(change.fields["list_amount"]) * 10_000) != standing
    assert desk.listed("--entity", "price:EUR:S")["conflicts"][0]["resolution"]["by"] == "anna"

    shown = desk("show", name).stdout
    assert "resolved by  anna, " in shown
    assert "she asked them" in shown
    again = desk("resolve", name, "--take", "incoming", *DECISION)
    assert isinstance(again.exception, NotPossible)
    assert "was resolved by anna: she asked them" in str(again.exception)


def test_a_field_of_a_conflict_may_be_set_right(desk: Desk) -> None:
    name, _, _ = desk.two_prices_of_one_version("T")
    result = desk("resolve", name, "--take", "incoming", "--set", "list_amount=15.5000", *DECISION)
    assert result.exit_code == 0, result.output
    desk.deliver()
    assert desk.list_e4("T") == 155_000


def test_an_answer_that_breaks_a_rule_is_told_at_once(desk: Desk) -> None:
    name, _, _ = desk.two_prices_of_one_version("Y")
    result = desk("resolve", name, "--take", "incoming", "--set", "list_amount=-1", *DECISION)
    assert isinstance(result.exception, NotPossible)
    assert f"{name}: catalog_search would not take this answer: list_amount: -1.0000" in str(result.exception)
    result = desk("resolve", name, "--take", "incoming", "--set", "list_amount=a lot", *DECISION)
    assert "list_amount: 'a lot'" in str(result.exception)
    assert desk.sent() == []
    assert desk.listed("--open")["conflicts"][0]["resolution"] is None


def test_an_answer_that_fails_on_its_way_waits_in_quarantine_and_may_be_given_anew(
    desk: Desk, tmp_path: Path
) -> None:
    name, _, _ = desk.two_prices_of_one_version("W")
    standing = desk.list_e4("W")
    with pytest.MonkeyPatch.context() as older:
        older.setenv("SYNCLINE_POLICIES_DIR", str(without_rules(tmp_path)))
        desk("resolve", name, "--take", "incoming", "--set", "list_amount=-1", *DECISION)
    desk.deliver()
    assert desk.list_e4("W") == standing
    assert desk.quarantined() == [("price", "open", None)]
    [(entry,)] = desk.shop.connection.execute("SELECT id::text FROM sync.quarantine").fetchall()
    assert f"the answer to {name}" in desk.quarantine("list")
    shown = desk.quarantine("show", entry)
    assert f"Next: syncline conflicts show {name}, and answer anew, which discards this entry" in shown
    for verb in (("correct", "--set", "list_amount=1", "--why", "so"), ("replay",)):
        with pytest.raises(
            NotPossible, match=f"answer to {name}, .*syncline conflicts resolve {name} --take"
        ):
            desk.quarantine(verb[0], entry, *verb[1:], "--by", "anna")
    reason = "list_amount: -1.0000 must be at least 0"
    assert reason in " ".join(desk("show", name).stdout.split())
    [still_open] = desk.listed("--open", "--entity", "price:EUR:W")["conflicts"]
    assert still_open["resolution"]["failed"] == {"quarantine_id": int(entry), "reason": reason}

    desk.shop.run("DELETE FROM sync.outbox")
    again = desk("resolve", name, "--take", "incoming", "--set", "list_amount=1.0000", *DECISION)
    assert again.exit_code == 0, again.output
    assert desk.quarantined() == [("price", "discarded", "answered anew: she asked them")]
    assert desk.listed("--open", "--entity", "price:EUR:W")["conflicts"] == []
    desk.deliver()
    assert desk.list_e4("W") == 10_000


def test_an_answer_that_failed_and_was_discarded_may_be_given_anew(desk: Desk, tmp_path: Path) -> None:
    name, _, _ = desk.two_prices_of_one_version("X")
    with pytest.MonkeyPatch.context() as older:
        older.setenv("SYNCLINE_POLICIES_DIR", str(without_rules(tmp_path)))
        desk("resolve", name, "--take", "incoming", "--set", "list_amount=-1", *DECISION)
    desk.deliver()
    [(entry,)] = desk.shop.connection.execute("SELECT id::text FROM sync.quarantine").fetchall()
    desk.quarantine("discard", entry, "--by", "bert", "--why", "nonsense")
    desk.shop.run("DELETE FROM sync.outbox")
    again = desk("resolve", name, "--take", "incoming", "--set", "list_amount=1.0000", *DECISION)
    assert again.exit_code == 0, again.output
    assert desk.quarantined() == [("price", "discarded", "nonsense")]
    desk.deliver()
    assert desk.list_e4("X") == 10_000


def test_what_stood_is_shown_and_taken_out_of_the_log(desk: Desk) -> None:
    name, stood, stands = desk.logged_prices("L")
    amounts = [str(fields(message)["list_amount"]) for message in (stood, stands)]
    shown = " ".join(desk("show", name).stdout.split())
    assert f'"list_amount":"{amounts[0]}"' in shown.partition("incoming")[0]
    assert stood.position in shown
    assert orjson.loads(desk("show", name, "--json").stdout)["known"]["value"]["list_amount"] == amounts[0]
    result = desk("resolve", name, "--take", "stored", *DECISION)
    assert result.exit_code == 0, result.output
    assert desk.list_e4("L") == int(float(amounts[1]) * 10_000)
    desk.deliver()
    assert desk.list_e4("L") == int(float(amounts[0]) * 10_000)


@pytest.fixture
def truncated(own: Settings) -> Iterator[str]:
    """A position that the log deleted."""
    log = Log(own.kafka_bootstrap_servers)
    with log.topic(f"{own.topic_prefix}.truncated") as topic:
        log.append(Record(topic, b"", b"", ()) for _ in range(2))
        log.truncate(topic, 0, 1)
        yield f"{topic}/0@0"


@pytest.mark.parametrize("gone", ["deleted", "another message", "partition", "topic"])
def test_what_the_log_no_longer_has_is_said_by_the_person(desk: Desk, truncated: str, gone: str) -> None:
    sku = f"GONE-{gone.replace(' ', '-')}"
    name, stood, stands = desk.logged_prices(sku)
    position = {
        "deleted": truncated,
        "another message": stands.position,
        "partition": f"{stood.topic}/99@0",
        "topic": f"no-{stood.topic}/0@0",
    }[gone]
    desk.shop.connection.execute("UPDATE sync.conflicts SET known_position = %s", (position,))
    why_not = f"{name}: the log no longer has the content of the side stored"
    result = desk("resolve", name, "--take", "stored", *DECISION)
    assert isinstance(result.exception, NotPossible)
    assert why_not in str(result.exception)
    assert "--take incoming --set field=value" in str(result.exception)
    assert why_not in " ".join(desk("show", name).stdout.split())
    assert (
        desk("resolve", name, "--take", "incoming", "--set", "list_amount=3.0000", *DECISION).exit_code == 0
    )
    desk.deliver()
    assert desk.list_e4(sku) == 30_000


def test_what_stood_when_positions_were_not_kept(desk: Desk) -> None:
    name, _, _ = desk.logged_prices("OLD")
    desk.shop.run("UPDATE sync.conflicts SET known_position = NULL")
    result = desk("resolve", name, "--take", "stored", *DECISION)
    assert "the content of the side stored was not kept" in str(result.exception)


def test_to_take_what_stands_closes_the_conflict_and_sends_nothing(desk: Desk) -> None:
    name, _, winner = desk.two_prices_of_one_version("U")
    result = desk("resolve", name, "--take", "stored", *DECISION)
    assert result.stdout == f"{name} is closed: what was chosen stands already\n"
    assert desk.sent() == []
    assert desk.listed("--open", "--entity", "price:EUR:U")["conflicts"] == []
    assert desk.list_e4("U") == int(float(change_of(winner).fields["list_amount"]) * 10_000)


def test_an_answer_to_a_review_settles_the_conflicts_that_it_has_seen(desk: Desk) -> None:
    review = desk.review()
    seen, unseen, owners = (
        desk.conflict_over_email(5, 6),
        desk.conflict_over_email(5, 9),
        desk.conflict_over_email(2, 6),
    )
    result = desk("resolve", review, "--take", "crm", *DECISION)
    assert result.exit_code == 0, result.output
    [(aggregatetype, key, kind, version, payload)] = desk.sent()
    assert (aggregatetype, key, kind) == ("reentry", CUSTOMER, "resolution")
    assert payload["version"] == version
    assert (payload["value"], payload["covers"]) == ("b@x", {"storefront": 5, "crm": 6})

    found = desk.listed()
    assert [each["state"] for each in found["reviews"]] == ["resolving"]
    by_name = {f"c{each['id']}": each["resolution"] for each in found["conflicts"]}
    assert by_name[unseen] is None
    assert by_name[seen]["how"]["review"] == by_name[owners]["how"]["review"] == review
    assert (by_name[seen]["by"], by_name[seen]["why"]) == ("anna", "she asked them")
    assert f"{review} is resolved, and with it" in result.stdout


def test_a_review_that_has_a_newer_value_is_open_again(desk: Desk) -> None:
    review = desk.review()
    desk("resolve", review, "--set", "email=c@x", *DECISION)
    assert desk.listed("--open")["reviews"][0]["state"] == "resolving"
    newer = {**CANDIDATES, "crm": {"value": "d@x", "version": 8, "at_us": NOON_US}}
    desk.shop.connection.execute("UPDATE sync.reviews SET candidates = %s", (Jsonb(newer),))
    assert desk.listed("--open")["reviews"][0]["state"] == "open"
    desk.shop.run("UPDATE sync.reviews SET state = 'closed'")
    assert desk.listed("--open")["reviews"] == []
    assert isinstance(desk("resolve", review, "--take", "crm", *DECISION).exception, NotPossible)


def test_nothing_is_kept_of_an_answer_that_is_refused(desk: Desk) -> None:
    name = desk.conflict_over_email(1, 2, kind="ownership")
    result = desk("resolve", name, "--take", "incoming", *DECISION)
    assert "crm may not write email" in str(result.exception)
    assert desk.sent() == []
    assert desk.listed()["conflicts"][0]["resolution"] is None


def test_nothing_is_kept_of_an_answer_that_cannot_be_sent(desk: Desk) -> None:
    review = desk.review()
    desk.shop.run("ALTER TABLE sync.outbox ADD CONSTRAINT full_up CHECK (aggregatetype <> 'reentry')")
    try:
        assert desk("resolve", review, "--take", "crm", *DECISION).exception is not None
    finally:
        desk.shop.run("ALTER TABLE sync.outbox DROP CONSTRAINT full_up")
    assert desk.listed()["reviews"][0]["resolution"] is None


def test_the_list_is_narrowed(desk: Desk) -> None:
    desk.review()
    timestamp, ownership = desk.conflict_over_email(5, 6), desk.conflict_over_email(5, 6, kind="ownership")

    def names(*arguments: str) -> list[str]:
        found = desk.listed(*arguments)
        return [f"r{each['id']}" for each in found["reviews"]] + [
            f"c{each['id']}" for each in found["conflicts"]
        ]

    everything = names()
    assert everything[1:] == [ownership, timestamp]
    assert names("--kind", "ownership") == [ownership]
    assert names("--entity", f"customer:{CUSTOMER}") == everything
    assert names("--entity", f"product:{CUSTOMER}") == []
    assert names("--flow", "catalog_search") == []
    assert names("--open") == everything[:1]
    assert names("--limit", "1") == everything[:2]


def test_the_list_for_people(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert desk("list").stdout == "none\n"
    review, conflict = desk.review(), desk.conflict_over_email(5, 6)
    lines = desk("list").stdout.splitlines()
    assert lines[1].split()[:2] == [review, "open"]
    assert any(line.startswith(f"{conflict} ") for line in lines)
    assert max(map(len, lines)) <= 120
    shown = desk("show", review).stdout
    assert 'crm         "b@x", version 6, made 2026-01-01 12:00:00.000Z' in shown
    shown = desk("show", conflict).stdout
    assert 'incoming  crm v6: "b@x", event event' in shown


@pytest.mark.parametrize("name", ["c999999", "r999999", "x1", "c", "c-1", ""])
def test_a_name_that_there_is_not(desk: Desk, name: str) -> None:
    result = desk("show", "--", name)
    assert isinstance(result.exception, NotPossible)
    assert f"there is no conflict or review {name}" in str(result.exception)


def test_an_answer_waits_for_the_one_before_it_and_then_sees_it(desk: Desk, own: Settings) -> None:
    name, _, _ = desk.two_prices_of_one_version("V")
    dsn = own.postgres_dsn.get_secret_value()
    with psycopg.connect(dsn) as other, ThreadPoolExecutor(1) as pool:
        other.execute(
            "UPDATE sync.conflicts"
            " SET resolved_at = now(), resolved_by = 'bert', why = 'so', resolution = '{}'"
        )
        answer = pool.submit(resolve, own, name, Choice("incoming", (), "anna", "she asked them"))
        eventually(partial(desk.has_to_wait, "syncline-conflicts"))
        other.commit()
        with pytest.raises(NotPossible, match="was resolved by bert: so"):
            answer.result()
    assert desk.sent() == []
