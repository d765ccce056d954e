"""Verification of profiles: every kind of difference is found, and nothing else is."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from syncline.monitor.profile_comparison import FIELDS, WHOLE
from syncline.monitor.verification import VerificationReport, verify
from syncline.settings import Settings
from tests.monitor.shop import Shop
from tests.own import but

ANN, BOB = (str(UUID(int=number)) for number in (1, 2))
CONSENT_AT = "2026-01-01T12:00:00.000001Z"
SAID: dict[str, Any] = {
    "email": "ann@a.example",
    "phone": "1",
    "full_name": "Ann 🦆",
    "address": {"city": "Bonn", "lines": [1, 0.5]},
    "marketing_consent": True,
    "consent_at": CONSENT_AT,
    "notes": None,
}


class Customers:
    """Rows of the storefront, and profiles, both written by hand."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def run(self, statement: str, *values: object) -> None:
        self._connection.execute(statement.encode(), values)

    def say(self, customer_id: str) -> None:
        self._insert("customers.storefront", customer_id, SAID)

    def show(
        self,
        customer_id: str,
        *,
        hidden: bool = False,
        resolved: tuple[str, ...] = (),
        version: tuple[int, ...] = (1, 1, 0, 0),
        **fields: object,
    ) -> None:
        sync = {
            "hidden": hidden,
            "resolutions": {field: {} for field in resolved},
            "entities": {f"customer:storefront:{customer_id}": {"version": version}},
        }
        self._insert("profiles.customer_documents", customer_id, {**SAID, **fields, "_sync": sync})

    def _insert(self, table: str, customer_id: str, fields: dict[str, Any]) -> None:
        columns = {"id": customer_id, **fields}
        values = [Jsonb(value) if isinstance(value, dict) else value for value in columns.values()]
        places = ", ".join(["%s"] * len(columns))
        self.run(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", *values)


@pytest.fixture
def customers(connection: psycopg.Connection) -> Iterator[Customers]:
    customers = Customers(connection)
    yield customers
    for table in ("customers.storefront", "profiles.customer_documents", "sync.quarantine"):
        customers.run(f"DELETE FROM {table}")


def check(settings: Settings) -> VerificationReport:
    return verify("customer_profiles", settings, timedelta(0))


def differing(report: VerificationReport) -> dict[str, list[str]]:
    return {key.key: [difference.field for difference in key.differences] for key in report.differing_keys}


def test_profiles_that_equal_their_sources(customers: Customers, own: Settings) -> None:
    for id_ in (ANN, BOB):
        customers.say(id_)
        customers.show(id_)
    customers.show(str(UUID(int=3)), hidden=True)
    report = check(own)
    assert report.summary == "verified: 3 of 3 documents equal their sources"
    assert (report.in_source, report.documents, report.is_clean) == (2, 3, True)


def test_no_customers_are_equal_to_no_profiles(customers: Customers, own: Settings) -> None:
    assert check(own).summary == "verified: 0 of 0 documents equal their sources"


WRONG: dict[str, Any] = {
    **dict.fromkeys(("email", "phone", "full_name"), "other"),
    "address": {"city": "Bonn", "lines": [0.5, 1]},
    "marketing_consent": False,
    "consent_at": "2026-01-01T12:00:00.000002Z",
    "notes": "",
}


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_that_differs_is_named(customers: Customers, own: Settings, field: str) -> None:
    for id_ in (ANN, BOB):
        customers.say(id_)
    customers.show(ANN)
    customers.show(BOB, **{field: WRONG[field]})
    report = check(own)
    assert differing(report) == {BOB: [field]}
    assert (report.equal, report.compared) == (1, 2)


def test_a_profile_that_is_missing_or_hidden_or_one_too_many(customers: Customers, own: Settings) -> None:
    missing, hidden, too_many = (str(UUID(int=number)) for number in range(3))
    customers.say(missing)
    customers.say(hidden)
    customers.show(hidden, hidden=True)
    customers.show(too_many)
    assert differing(check(own)) == {id_: [WHOLE] for id_ in (missing, hidden, too_many)}


def test_what_waits_in_quarantine_explains(customers: Customers, shop: Shop, own: Settings) -> None:
    customers.say(ANN)
    shop.quarantine(f"customer:{ANN}", 1, state="discarded")
    customers.run("UPDATE sync.quarantine SET flow = 'customer_profiles'")
    assert differing(check(own)) == {ANN: [WHOLE]}
    customers.run("UPDATE sync.quarantine SET state = 'open'")
    report = check(own)
    assert report.summary == (
        "verified: 0 of 1 documents equal their sources; 1 explained by quarantine, retries or a resolution"
    )
    assert report.explained_keys[0].quarantined == (f"customer:{ANN}",)


def test_an_answer_that_failed_explains_nothing(customers: Customers, shop: Shop, own: Settings) -> None:
    customers.say(ANN)
    shop.quarantine(f"customer:{ANN}", 1)
    customers.run("UPDATE sync.quarantine SET flow = 'customer_profiles', topic = 'shop.sync.reentry'")
    assert differing(check(own)) == {ANN: [WHOLE]}


@pytest.mark.parametrize(
    ("version", "explains"), [((1, 5, 0, 1), True), ((1, 5, 0, 0), False), ((1, 6, 0, 1), False)]
)
def test_a_correction_explains_while_the_copy_has_it(
    customers: Customers, shop: Shop, own: Settings, version: tuple[int, ...], *, explains: bool
) -> None:
    customers.say(ANN)
    customers.show(ANN, email="corrected", version=version)
    shop.quarantine(f"customer:{ANN}", 5, state="replayed", correction=1)
    customers.run("UPDATE sync.quarantine SET flow = 'customer_profiles'")
    report = check(own)
    assert differing(report) == ({} if explains else {ANN: ["email"]})
    assert report.explained == explains


def test_a_person_s_decision_explains_its_own_field_alone(customers: Customers, own: Settings) -> None:
    for id_ in (ANN, BOB):
        customers.say(id_)
    customers.show(ANN, resolved=("email", "marketing_consent"), email="decided", consent_at=None)
    customers.show(BOB, resolved=("email",), email="decided", phone="other")
    report = check(own)
    assert report.explained_keys[0].quarantined == ("resolution:email", "resolution:marketing_consent")
    assert differing(report) == {BOB: ["email", "phone"]}


def test_the_writers_tables_may_lie_in_another_database(customers: Customers, own: Settings) -> None:
    customers.show(ANN)
    elsewhere = own.postgres_dsn.get_secret_value() + " application_name=elsewhere"
    assert differing(check(but(own, customers_dsn=elsewhere))) == {ANN: [WHOLE]}
