"""``syncline explain customer`` on real servers: rows of several writers, from their outbox into the copy."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import orjson
import psycopg
import pytest
from bytewax.testing import TestingSource, run_main
from psycopg.types.json import Jsonb
from typer.testing import CliRunner, Result

from dataflows import customer_profiles
from sinks.postgres_documents import PostgresStore
from syncline.circuit import Circuits
from syncline.console.main import app
from syncline.model import envelope
from syncline.model.message import Message
from syncline.policies.reading import load_policies
from syncline.policies.reentry import topics_read
from syncline.settings import Settings
from syncline.stopping import Stop
from tests.changes import NOON_US


@pytest.fixture
def customer(
    own: Settings, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> Iterator["Customer"]:
    for name, value in own.as_environment().items():
        monkeypatch.setenv(name, value)
    yield Customer(own, connection)
    connection.execute(
        "TRUNCATE sync.status, sync.reviews, sync.conflicts, sync.quarantine, sync.outbox,"
        " profiles.customer_documents"
    )
    for table in ("storefront", "crm", "support", "outbox"):
        connection.execute(f"DELETE FROM customers.{table}".encode())


class Customer:
    """One customer, whom services write, and the flow that keeps the profile."""

    def __init__(self, settings: Settings, connection: psycopg.Connection) -> None:
        self.id = str(uuid.uuid4())
        self.settings = settings
        self.connection = connection

    def write(self, writer: str, **columns: str) -> int:
        """Insert the row, or change it; the new version is returned."""
        names, values = list(columns), list(columns.values())
        update = ", ".join(f"{name} = excluded.{name}" for name in names)
        [(version,)] = self.connection.execute(
            f"INSERT INTO customers.{writer} (id, {', '.join(names)})"
            f" VALUES (%s, {', '.join(['%s'] * len(names))})"
            f" ON CONFLICT (id) DO UPDATE SET {update} RETURNING version".encode(),
            (self.id, *values),
        ).fetchall()
        if version == 0:  # the first version is drawn after the insert
            query = f"SELECT version FROM customers.{writer} WHERE id = %s"
            [(version,)] = self.connection.execute(query.encode(), (self.id,)).fetchall()
        return int(version)

    def sync(self) -> None:
        """What is in the outbox goes through the flow, as the relay would bring it."""
        rows = self.connection.execute(
            "DELETE FROM customers.outbox"
            " RETURNING seq, id::text, aggregatetype, aggregateid, payload, extract(epoch FROM occurred_at)"
        ).fetchall()
        messages = [
            Message(
                f"{self.settings.topic_prefix}.customers.{aggregate_type}",
                0,
                seq,
                key.encode(),
                orjson.dumps(payload),
                (
                    (envelope.EVENT_ID, event_id.encode()),
                    (envelope.COMMITTED_AT_US, b"%d" % int(occurred_at * 1_000_000)),
                ),
                NOON_US,
                NOON_US,
            )
            for seq, event_id, aggregate_type, key, payload, occurred_at in sorted(
                rows, key=lambda row: row[0]
            )
        ]
        dsn = self.settings.postgres_dsn.get_secret_value()
        with closing(PostgresStore(dsn, "test")) as store:
            flow = customer_profiles.build(
                self.settings, TestingSource(messages, 100), store, Circuits(Stop())
            )
            run_main(flow)  # type: ignore[no-untyped-call]

    def freshness(self, reached: datetime) -> None:
        topics = topics_read(load_policies().flow("customer_profiles"), self.settings.topic_prefix)
        partitions = [
            f"{topic}/{number}" for topic in topics for number in range(self.settings.topic_partitions)
        ]
        self.connection.execute(
            "INSERT INTO sync.status (flow, run, worker, state, watermarks)"
            " VALUES ('customer_profiles', gen_random_uuid(), '0', 'running', %s)",
            (Jsonb(dict.fromkeys(partitions, int(reached.timestamp() * 1e6))),),
        )

    def explain(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["explain", "customer", self.id, *arguments])

    def explained(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.explain(*arguments, "--json").stdout)
        return found


def of(found: dict[str, Any], section: str, name: str) -> dict[str, Any]:
    key = {"fields": "field", "entities": "entity"}[section]
    [only] = [each for each in found[section] if each[key] == name]
    return dict(only)


def test_a_profile_with_a_review_is_explained_field_by_field(customer: Customer) -> None:
    first = customer.write("storefront", email="a@x", full_name="Ann")
    second = customer.write("crm", email="b@x", full_name="Anne")
    customer.sync()
    found = customer.explained()
    assert (found["finding"], found["copy"], found["is_hidden"]) == ("equal", "profiles.customers", False)
    email = of(found, "fields", "email")
    [review] = found["reviews"]
    [over_email] = [each for each in found["conflicts"] if each["field"] == "email"]
    assert email["value"] == email["source_value"] == "a@x"
    assert (email["owner"], email["said"]) == ("storefront", {"storefront": "a@x", "crm": "b@x"})
    assert email["rule"] == (
        f"manual of storefront, crm, support; storefront's value of version {first} stands, "
        "until a person decides"
    )
    assert (email["reviews"], email["conflicts"]) == ([f"r{review['id']}"], [f"c{over_email['id']}"])
    name = of(found, "fields", "full_name")
    assert name["rule"] == f"last_write_wins of storefront, crm; crm's value of version {second} stands"
    assert name["reviews"] == []
    crm = of(found, "entities", f"customer:crm:{customer.id}")
    assert (crm["table"], crm["row"]["version"], crm["record"]["version"][1]) == (
        "customers.crm",
        second,
        second,
    )
    nobody = of(found, "entities", f"customer:support:{customer.id}")
    assert nobody["because"] == "neither the source nor the copy has it"
    assert (len(crm["conflicts"]), nobody["conflicts"]) == (2, [])

    told = " ".join(customer.explain("--field", "email").stdout.split())
    assert "open, email:" in told
    assert 'crm "b@x", storefront "a@x"; storefront\'s stands meanwhile' in told
    assert "full_name" not in told


def test_a_row_that_is_newer_is_on_its_way(customer: Customer) -> None:
    customer.write("storefront", phone="1")
    customer.sync()
    customer.freshness(datetime.now(UTC))
    customer.write("storefront", phone="2")
    found = customer.explained()
    entity = of(found, "entities", f"customer:storefront:{customer.id}")
    assert (found["finding"], entity["finding"]) == ("behind", "behind")
    assert entity["because"].endswith("it is on its way, in the outbox")
    phone = of(found, "fields", "phone")
    assert (phone["value"], phone["source_value"], phone["finding"]) == ("1", "2", "behind")
    customer.sync()
    assert customer.explained()["finding"] == "equal"


def test_what_waits_in_quarantine_is_told_of_the_writer_on_whose_topic_it_came(customer: Customer) -> None:
    customer.write("crm", phone="1")
    customer.sync()
    version = customer.write("crm", phone="none")
    customer.connection.execute("DELETE FROM customers.outbox")
    customer.connection.execute(
        """
        INSERT INTO sync.quarantine (
            flow, step, error, reason, entity_type, entity_id, version, topic, partition, "offset",
            message_key, headers, fingerprint
        ) VALUES (
            'customer_profiles', 'apply', 'Invalid', 'no phone', 'customer', %s, %s, %s, 0, 3, %s, '[]', ''
        )
        """,
        (
            customer.id,
            Jsonb([1, version, 0, 0]),
            f"{customer.settings.topic_prefix}.customers.crm",
            customer.id.encode(),
        ),
    )
    found = customer.explained()
    entity = of(found, "entities", f"customer:crm:{customer.id}")
    assert (entity["finding"], found["finding"]) == ("behind", "behind")
    assert entity["because"].endswith(f"(entry {found['quarantine'][0]['id']}): no phone")
    assert of(found, "entities", f"customer:storefront:{customer.id}")["waiting"] == []


def test_a_customer_whom_no_service_has_any_more_is_hidden(customer: Customer) -> None:
    customer.write("crm", phone="1")
    customer.sync()
    customer.connection.execute("DELETE FROM customers.crm")
    customer.sync()
    found = customer.explained()
    assert (found["finding"], found["is_hidden"]) == ("equal", True)
    assert found["hidden_because"] == "no service has a row of this customer, or none any more"


def test_a_changed_profile_is_different(customer: Customer) -> None:
    customer.write("crm", phone="1")
    customer.sync()
    customer.connection.execute("UPDATE profiles.customer_documents SET phone = '9'")
    result = customer.explain()
    assert result.exit_code == 1
    assert "both have version" in result.stdout
    assert "with other content" in " ".join(result.stdout.split())


def test_a_customer_who_was_never_seen(customer: Customer) -> None:
    result = customer.explain()
    assert result.exit_code == 0
    assert "profiles.customers has never seen it" in result.stdout
    assert customer.explained()["fields"] == []


def test_an_answer_that_the_copy_has_not_got_yet_is_on_its_way(customer: Customer) -> None:
    customer.write("storefront", email="a@x")
    customer.write("crm", email="b@x")
    customer.sync()
    [review] = customer.explained()["reviews"]
    answer = f"conflicts resolve r{review['id']} --take crm --by anna --why asked"
    assert CliRunner().invoke(app, answer.split()).exit_code == 0
    customer.freshness(datetime.now(UTC))
    found = customer.explained()
    entity = of(found, "entities", f"customer:resolution:email:{customer.id}")
    assert (entity["table"], entity["finding"], entity["record"]) == ("sync.reviews", "behind", None)
    assert entity["because"].endswith("it is on its way, in the outbox")
    assert found["reviews"][0]["state"] == "resolving"
    assert found["unpublished"][0]["outbox"] == "sync.outbox"
