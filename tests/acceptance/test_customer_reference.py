"""The reference for the profiles, on situations whose outcome a person can tell from the rules."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any
from uuid import uuid4

import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from syncline.monitor import sql as monitor_sql
from syncline.monitor.profile_comparison import rules_in_sql
from syncline.services.customer_shop import CustomerShop
from syncline.services.customer_workload import ConcurrentEdits, CustomerMix
from syncline.services.schema import install
from syncline.settings import Settings
from syncline.statements import statement
from tests.customers import CUSTOMERS
from tests.own import own_database
from tests.services.database import WRITERS, Database

EVERYONE = {"ids": None, **rules_in_sql(CUSTOMERS.conflicts)}
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
NOTHING: dict[str, object] = {
    "email": None,
    "phone": None,
    "full_name": None,
    "address": None,
    "marketing_consent": None,
    "consent_at": None,
    "notes": None,
    "open_reviews": {},
}


@pytest.fixture(scope="module")
def database(settings: Settings) -> Iterator[Database]:
    with own_database(settings.postgres_dsn.get_secret_value(), "customer_reference") as dsn:
        install(dsn)
        with Database(dsn) as database:
            yield database


class Customer:
    """One customer, whom the writers edit. Times are seconds from a fixed moment."""

    def __init__(self, database: Database) -> None:
        self.id = str(uuid4())
        self._database = database

    def edit(self, writer: str, second: float, saw: Mapping[str, int] | None = None, **fields: object) -> int:
        """Set these fields, having seen these versions of other writers' values; answers its version."""
        at = {"at": (BEGIN + timedelta(seconds=second)).isoformat()}
        entries = [field for field in fields if field != "consent_at"]
        columns = {
            "id": self.id,
            **{name: Jsonb(value) if isinstance(value, dict) else value for name, value in fields.items()},
            "field_versions": Jsonb(dict.fromkeys(entries, at)),
            "based_on": None if saw is None else Jsonb(dict.fromkeys(entries, saw)),
        }
        updates = ", ".join(f"{column} = excluded.{column}" for column in columns)
        with self._database.connect(writer) as connection:
            connection.execute(
                f"INSERT INTO customers.{writer} ({', '.join(columns)}) VALUES "
                f"({', '.join(['%s'] * len(columns))}) ON CONFLICT (id) DO UPDATE SET {updates}".encode(),
                tuple(columns.values()),
            )
        return self._database.outbox("customers")[-1].version

    def consent(self, writer: str, second: float, *, is_given: bool | None, at: str | None) -> None:
        self.edit(writer, second, marketing_consent=is_given, consent_at=at)

    def delete(self, writer: str) -> None:
        self._database.write(writer, f"DELETE FROM customers.{writer} WHERE id = '{self.id}'")

    def profile(self) -> dict[str, Any] | None:
        return profiles(self._database).get(self.id)


def profiles(database: Database) -> dict[str, dict[str, Any]]:
    """By customer."""
    with database.connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(statement(monitor_sql, "customer_profiles"), EVERYONE).fetchall()
    return {str(profile.pop("id")): profile for profile in found}


@pytest.fixture
def customer(database: Database) -> Customer:
    return Customer(database)


def test_one_writer_s_row_is_the_profile(customer: Customer) -> None:
    address = {"street": "Am Markt 1", "city": "Köln"}
    customer.edit("storefront", 0, email="s@x", phone="1", full_name="Ada", address=address)
    assert customer.profile() == NOTHING | {
        "email": "s@x", "phone": "1", "full_name": "Ada", "address": address
    }  # fmt: skip


def test_a_later_edit_supersedes_an_earlier_one_of_another_writer(customer: Customer) -> None:
    customer.edit("storefront", 0, email="s@x")
    customer.edit("support", 5.001, email="u@x")
    assert customer.profile() == NOTHING | {"email": "u@x"}


@pytest.mark.parametrize("second", [5.0, 0.0, -5.0])
def test_within_the_window_the_owner_stands_and_a_review_is_open(customer: Customer, second: float) -> None:
    customer.edit("storefront", 0, email="s@x")
    customer.edit("crm", second, email="c@x")
    assert customer.profile() == NOTHING | {"email": "s@x", "open_reviews": {"email": "storefront"}}


def test_an_offline_edit_of_long_ago_comes_late_and_loses(customer: Customer) -> None:
    customer.edit("crm", 0, email="c@x")
    customer.edit("storefront", -60, email="s@x")
    assert customer.profile() == NOTHING | {"email": "c@x"}


def test_who_had_seen_the_other_stands_however_close(customer: Customer) -> None:
    version = customer.edit("storefront", 0, phone="1")
    customer.edit("support", 1, {"storefront": version}, phone="2")
    assert customer.profile() == NOTHING | {"phone": "2"}


def test_who_says_that_it_had_not_seen_the_other_does_not_stand_however_late(customer: Customer) -> None:
    seen = customer.edit("storefront", 0, email="s@x")
    customer.edit("storefront", 100, email="t@x")
    customer.edit("crm", 9_000, {"storefront": seen}, email="c@x")
    assert customer.profile() == NOTHING | {"email": "t@x", "open_reviews": {"email": "storefront"}}


def test_who_had_seen_one_of_two_is_told_from_the_other_by_the_time(customer: Customer) -> None:
    customer.edit("storefront", 0, email="s@x")
    version = customer.edit("crm", 100, email="c@x")
    customer.edit("support", 101, {"crm": version}, email="u@x")
    assert customer.profile() == NOTHING | {"email": "u@x"}


def test_the_two_that_nobody_superseded_are_disputed(customer: Customer) -> None:
    customer.edit("storefront", 0, email="s@x")
    customer.edit("support", 100, email="u@x")
    customer.edit("crm", 102, email="c@x")
    assert customer.profile() == NOTHING | {"email": "c@x", "open_reviews": {"email": "crm"}}


def test_writers_who_say_the_same_need_no_review(customer: Customer) -> None:
    customer.edit("storefront", 0, email="same@x")
    customer.edit("crm", 1, email="same@x")
    assert customer.profile() == NOTHING | {"email": "same@x"}


def test_an_edit_that_saw_both_sides_ends_the_review(customer: Customer) -> None:
    first = customer.edit("storefront", 0, email="s@x")
    second = customer.edit("crm", 1, email="c@x")
    customer.edit("support", 2, {"storefront": first, "crm": second}, email="u@x")
    assert customer.profile() == NOTHING | {"email": "u@x"}


def test_the_deletion_of_one_side_s_row_ends_the_review(customer: Customer) -> None:
    customer.edit("storefront", 0, email="s@x")
    customer.edit("crm", 1, email="c@x", full_name="Ada")
    customer.delete("storefront")
    assert customer.profile() == NOTHING | {"email": "c@x", "full_name": "Ada"}
    customer.delete("crm")
    assert customer.profile() is None


def test_of_two_that_saw_each_other_the_later_version_stands(customer: Customer) -> None:
    """The clocks of two writers may say that each of them was later, if one tells and the other does not."""
    crm = customer.edit("crm", 100, email="c@x")
    customer.edit("storefront", 0, {"crm": crm}, email="s@x")
    assert customer.profile() == NOTHING | {"email": "s@x"}


def test_three_in_a_circle_are_all_disputed(customer: Customer) -> None:
    crm = customer.edit("crm", 100, email="c@x")
    storefront = customer.edit("storefront", 0, {"crm": crm}, email="s@x")
    customer.edit("support", 0, {"storefront": storefront}, email="u@x")  # which the crm is later than
    assert customer.profile() == NOTHING | {"email": "s@x", "open_reviews": {"email": "storefront"}}


def test_emptied_is_a_value_like_any_other(customer: Customer) -> None:
    customer.edit("storefront", 0, phone="1", email="s@x")
    customer.edit("storefront", 100, phone=None, email=None)
    customer.edit("crm", 101, phone="2")
    assert customer.profile() == NOTHING | {"open_reviews": {"phone": "storefront"}}


def test_the_last_write_of_a_name_and_of_an_address_wins_by_version_whatever_the_clocks_say(
    customer: Customer,
) -> None:
    old, new = {"street": "A 1", "city": "Bonn"}, {"street": "B 2"}
    customer.edit("storefront", 500, full_name="Ada", address=old)
    customer.edit("crm", 0, full_name="Ada L.")
    customer.edit("support", 0, address=new)
    assert customer.profile() == NOTHING | {"full_name": "Ada L.", "address": new}


def test_a_field_that_its_writer_may_not_write_is_ignored(customer: Customer) -> None:
    customer.edit("support", 0, notes="called", full_name="Nickname")
    customer.edit("crm", 100, notes="not mine")
    assert customer.profile() == NOTHING | {"notes": "called"}


def test_the_latest_consent_counts_whoever_wrote_last(customer: Customer) -> None:
    customer.consent("support", 0, is_given=True, at="2026-03-01T00:00:00Z")
    customer.consent("storefront", 50, is_given=False, at="2026-02-01T00:00:00Z")
    customer.consent("crm", 99, is_given=False, at=None)
    assert customer.profile() == NOTHING | {
        "marketing_consent": True, "consent_at": datetime(2026, 3, 1, tzinfo=UTC)
    }  # fmt: skip


@pytest.mark.parametrize("withdrawn_by", ["storefront", "support"])
def test_at_the_same_time_withdrawal_counts(customer: Customer, withdrawn_by: str) -> None:
    for writer in ("storefront", "support"):
        customer.consent(writer, 0, is_given=writer != withdrawn_by, at="2026-03-01T00:00:00Z")
    assert customer.profile() == NOTHING | {
        "marketing_consent": False, "consent_at": datetime(2026, 3, 1, tzinfo=UTC)
    }  # fmt: skip


def test_of_a_shop_at_work_a_review_is_open_where_the_newest_two_values_are_a_concurrent_pair(
    database: Database,
) -> None:
    database.clear()
    told: list[ConcurrentEdits] = []
    CustomerShop(database.dsn, 5, told.append, CustomerMix(concurrent=0.3)).run(1_000_000, changes=1_000)
    pairs = {(edits.customer_id, edits.field, frozenset(edits.times.items())) for edits in told}
    values: defaultdict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for writer in WRITERS:
        rows = database.ask(f"SELECT id::text, field_versions FROM customers.{writer}")
        for customer_id, field_versions in rows:
            for field in {"email", "phone"} & field_versions.keys():
                values[customer_id, field].append((writer, field_versions[field]["at"]))
    disputed = {
        (customer_id, field)
        for (customer_id, field), written in values.items()
        if (customer_id, field, frozenset(sorted(written, key=itemgetter(1))[-2:])) in pairs
    }
    assert len(disputed) > 10
    assert disputed == {
        (customer_id, field)
        for customer_id, profile in profiles(database).items()
        for field in profile["open_reviews"]
    }
