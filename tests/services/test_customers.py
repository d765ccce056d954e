"""The customers' three writers: who may write what, and when each field changed as the triggers keep it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.services.database import WRITERS, Database, Row

ID = "6f1c2f0e-9c1b-4d43-8f0e-0c5a0c8f3a11"
OTHER_ID = "0b0f4c11-5be1-4b1c-9a53-6f2f5e1b7d22"
LONG_AGO = "2020-05-01T08:00:00.000000Z"


def put(database: Database, writer: str, **fields: object) -> Row:
    """Insert the writer's row, or update these columns of it; answers what it published."""
    columns = {
        column: Jsonb(value) if isinstance(value, dict) else value
        for column, value in {"id": ID, **fields}.items()
    }
    updates = ", ".join(f"{column} = excluded.{column}" for column in columns)
    with database.connect(writer) as connection:
        connection.execute(
            f"INSERT INTO customers.{writer} ({', '.join(columns)}) "
            f"VALUES ({', '.join(['%s'] * len(columns))}) ON CONFLICT (id) DO UPDATE SET {updates}".encode(),
            tuple(columns.values()),
        )
    return database.outbox("customers")[-1]


def entries(row: Row) -> dict[str, Any]:
    field_versions: dict[str, Any] = row.fields["field_versions"]
    return field_versions


def versions(row: Row) -> dict[str, int]:
    return {field: entry["version"] for field, entry in entries(row).items()}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("other", WRITERS)
def test_a_writer_reads_all_tables_and_writes_its_own_alone(
    database: Database, writer: str, other: str
) -> None:
    put(database, writer, email="a@example.com")
    with database.connect(other) as connection:
        assert connection.execute(f"SELECT email FROM customers.{writer}".encode()).fetchall() == [
            ("a@example.com",)
        ]
    for statement in (
        f"INSERT INTO customers.{writer} (id) VALUES ('{OTHER_ID}')",
        f"UPDATE customers.{writer} SET email = 'b@example.com'",
        f"DELETE FROM customers.{writer}",
    ):
        if other == writer:
            database.write(other, statement)
        else:
            with pytest.raises(errors.InsufficientPrivilege):
                database.write(other, statement)


@pytest.mark.parametrize("role", [*WRITERS, "catalog", "pricing", "warehouse"])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO customers.outbox (aggregatetype) VALUES ('crm')",
        "DELETE FROM customers.outbox",
        "SELECT FROM customers.outbox",
        "SELECT nextval('customers.versions')",
        "CREATE TABLE customers.mine ()",
        "TRUNCATE customers.crm",
    ],
)
def test_only_the_triggers_write_the_outbox(database: Database, role: str, statement: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        database.write(role, statement)


@pytest.mark.parametrize("role", ["catalog", "pricing", "warehouse"])
def test_the_goods_services_see_no_customers(database: Database, role: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        database.write(role, "SELECT FROM customers.storefront")


@pytest.mark.parametrize("writer", WRITERS)
def test_truncate_is_refused(database: Database, writer: str) -> None:
    with pytest.raises(errors.FeatureNotSupported, match=f"TRUNCATE of customers.{writer} is refused"):
        database.write("customers", f"TRUNCATE customers.{writer}")


def test_a_writer_speaks_on_its_own_topic_of_the_one_entity(database: Database) -> None:
    for writer in WRITERS:
        put(database, writer, email="a@example.com")
    database.write("crm", "DELETE FROM customers.crm")
    told = [
        (row.aggregatetype, row.aggregateid, row.entity, row.type) for row in database.outbox("customers")
    ]
    assert told == [
        *((writer, ID, f"customer:{ID}", "created") for writer in WRITERS),
        ("crm", ID, f"customer:{ID}", "deleted"),
    ]
    rows = database.outbox("customers")
    assert rows[0].version < rows[1].version < rows[2].version
    assert (rows[3].version, rows[3].fields) == (rows[1].version, {"id": ID})


def test_a_change_carries_all_columns_but_the_version(database: Database) -> None:
    address = {"street": "Hauptstraße 5", "city": "Köln"}
    row = put(
        database, "storefront", address=address, marketing_consent=True, consent_at="2026-01-01T13:00:00+01"
    )
    assert set(row.payload) == {"entity", "op", "version", "fields"}
    assert row.fields == {
        "id": ID,
        "email": None,
        "phone": None,
        "full_name": None,
        "address": address,
        "marketing_consent": True,
        "consent_at": "2026-01-01T12:00:00.000000Z",
        "notes": None,
        "field_versions": {
            field: {"version": row.version, "at": row.fields["updated_at"]}
            for field in ("address", "marketing_consent")
        },
        "based_on": {},
        "updated_at": row.fields["updated_at"],
    }
    stored = database.ask("SELECT version, field_versions FROM customers.storefront")
    assert stored == [(row.version, row.fields["field_versions"])]


def test_only_the_fields_that_change_get_the_new_version(database: Database) -> None:
    first = put(database, "crm", email="a@example.com", phone="1")
    second = put(database, "crm", email="a@example.com", phone="2")
    third = put(database, "crm", full_name="Ada", phone="2")
    assert versions(first) == {"email": first.version, "phone": first.version}
    assert versions(second) == {"email": first.version, "phone": second.version}
    assert versions(third) == {
        "email": first.version,
        "phone": second.version,
        "full_name": third.version,
    }
    assert entries(third)["email"] == entries(first)["email"]
    assert entries(second)["phone"]["at"] == second.fields["updated_at"] > first.fields["updated_at"]


def test_an_update_that_changes_nothing_leaves_the_fields_as_they_are(database: Database) -> None:
    first = put(database, "crm", email="a@example.com", based_on={"email": {"support": 1}})
    second = put(
        database, "crm", email="a@example.com", based_on={}, field_versions={"email": {"at": LONG_AGO}}
    )
    assert second.version > first.version
    assert (entries(second), second.fields["based_on"]) == (entries(first), first.fields["based_on"])


def test_a_field_that_is_emptied_was_changed(database: Database) -> None:
    put(database, "crm", email="a@example.com")
    emptied = put(database, "crm", email=None)
    assert versions(emptied) == {"email": emptied.version}


def test_an_address_changes_as_a_whole(database: Database) -> None:
    put(database, "crm", address={"street": "A 1", "city": "Bonn"})
    moved = put(database, "crm", address={"street": "A 2", "city": "Bonn"})
    same = put(database, "crm", address={"city": "Bonn", "street": "A 2"})
    assert versions(moved) == versions(same) == {"address": moved.version}


@pytest.mark.parametrize(
    "change",
    [
        {"marketing_consent": False},
        {"consent_at": "2026-02-01T00:00:00Z"},
        {"marketing_consent": None, "consent_at": None},
    ],
)
def test_consent_and_its_time_share_an_entry(database: Database, change: dict[str, object]) -> None:
    put(database, "crm", marketing_consent=True, consent_at="2026-01-01T00:00:00Z")
    changed = put(database, "crm", **change)
    assert versions(changed) == {"marketing_consent": changed.version}


def test_a_recreated_row_starts_anew(database: Database) -> None:
    put(database, "crm", email="a@example.com", phone="1", based_on={"email": {"support": 1}})
    database.write("crm", "DELETE FROM customers.crm")
    again = put(database, "crm", phone="1")
    assert (versions(again), again.fields["based_on"]) == ({"phone": again.version}, {})


def test_another_id_is_another_customer(database: Database) -> None:
    first = put(
        database,
        "crm",
        email="a@example.com",
        field_versions={"email": {"at": LONG_AGO}},
        based_on={"email": {"support": 1}},
    )
    database.write("crm", f"UPDATE customers.crm SET id = '{OTHER_ID}'")
    deleted, created = database.outbox("customers")[1:]
    assert (deleted.entity, deleted.type, deleted.version) == (f"customer:{ID}", "deleted", first.version)
    assert (created.entity, created.type) == (f"customer:{OTHER_ID}", "created")
    assert entries(created) == {"email": {"version": created.version, "at": created.fields["updated_at"]}}
    assert created.fields["based_on"] == {}


@pytest.mark.parametrize("is_there", [False, True], ids=["in an insert", "in an update"])
def test_an_offline_edit_gives_its_own_time(database: Database, is_there: bool) -> None:
    if is_there:
        put(database, "crm", email="a@example.com", phone="1")
    row = put(
        database,
        "crm",
        email="b@example.com",
        phone="2",
        field_versions={"email": {"version": 7, "at": "2020-05-01T10:00:00+02"}},
    )
    assert entries(row) == {
        "email": {"version": row.version, "at": LONG_AGO},
        "phone": {"version": row.version, "at": row.fields["updated_at"]},
    }


def test_a_time_holds_for_the_value_that_it_was_given_for(database: Database) -> None:
    put(database, "crm", email="a@example.com", field_versions={"email": {"at": LONG_AGO}})
    database.write("crm", "UPDATE customers.crm SET email = 'b@example.com'")
    later = database.outbox("customers")[-1]
    restated = put(database, "crm", email="c@example.com", field_versions=entries(later))
    for row in (later, restated):
        assert entries(row) == {"email": {"version": row.version, "at": row.fields["updated_at"]}}


def moment(minutes_from_now: float) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes_from_now)).isoformat()


@pytest.mark.parametrize("is_there", [False, True], ids=["in an insert", "in an update"])
@pytest.mark.parametrize(
    "at", [moment(60), "9999-01-01T00:00:00Z", "infinity"], ids=["in an hour", "in 9999", "infinity"]
)
def test_a_time_in_the_future_is_refused(database: Database, at: str, is_there: bool) -> None:
    if is_there:
        put(database, "crm", email="a@example.com")
    before = database.story("customers")
    with pytest.raises(
        errors.InvalidParameterValue, match=f'email: "{at.replace("+", ".")}" lies more than 5 minutes in'
    ):
        put(database, "crm", email="b@example.com", field_versions={"email": {"at": at}})
    assert database.story("customers") == before


def test_a_clock_that_is_fast_by_less_than_five_minutes_is_believed(database: Database) -> None:
    at = moment(4)
    row = put(database, "crm", email="a@example.com", field_versions={"email": {"at": at}})
    assert datetime.fromisoformat(entries(row)["email"]["at"]) == datetime.fromisoformat(at)


@pytest.mark.parametrize(
    ("column", "given"),
    [
        ("field_versions", {"emial": {"at": LONG_AGO}}),
        ("field_versions", {"consent_at": {"at": LONG_AGO}}),
        ("field_versions", {"email": LONG_AGO}),
        ("field_versions", {"email": {"at": "-infinity"}}),
        ("field_versions", {"email": {"at": "soon"}}),
        ("based_on", {"emial": {"support": 1}}),
        ("based_on", {"email": 1}),
        ("based_on", {"email": {"support": "1"}}),
        ("based_on", {"email": {"support": -1}}),
        ("based_on", {"email": {"support": 1.5}}),
        ("based_on", {"email": {"support": None}}),
        ("based_on", {"email": {"support": 10**15}}),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    database: Database, column: str, given: dict[str, object]
) -> None:
    with pytest.raises(errors.DataError) as refused:
        put(database, "crm", email="a@example.com", **{column: given})
    assert refused.value.diag.message_primary is not None
    assert column in refused.value.diag.message_primary or "soon" in refused.value.diag.message_primary


@pytest.mark.parametrize("given", ["'[]'", "'5'", "'\"email\"'"])
@pytest.mark.parametrize("column", ["field_versions", "based_on"])
def test_what_is_no_object_is_refused(database: Database, column: str, given: str) -> None:
    with pytest.raises(errors.InvalidParameterValue, match=column):
        database.write("crm", f"INSERT INTO customers.crm (id, {column}) VALUES ('{ID}', {given})")


def test_based_on_stays_with_the_value_that_it_was_given_for(database: Database) -> None:
    seen = put(database, "storefront", email="s@example.com", phone="0").version
    first = put(
        database,
        "crm",
        email="a@example.com",
        phone="1",
        based_on={"email": {"storefront": seen}, "phone": {"storefront": seen}},
    )
    assert first.fields["based_on"] == {"email": {"storefront": seen}, "phone": {"storefront": seen}}
    second = put(database, "crm", email="b@example.com")
    assert second.fields["based_on"] == {"phone": {"storefront": seen}}
    third = put(database, "crm", full_name="Ada", based_on={"email": {"storefront": seen}})
    assert third.fields["based_on"] == {"phone": {"storefront": seen}}


def test_based_on_may_be_given_again_for_the_next_value(database: Database) -> None:
    seen = {"email": {"storefront": put(database, "storefront", email="s@example.com").version}}
    put(database, "crm", email="a@example.com", based_on=seen)
    assert put(database, "crm", email="b@example.com", based_on=seen).fields["based_on"] == seen


def test_a_session_s_time_zone_doesn_t_show(database: Database) -> None:
    put(database, "crm", marketing_consent=True, consent_at="2026-01-01T00:00:00Z", email="a@example.com")
    with database.connect("crm") as connection:
        connection.execute(
            "SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'German'; SET search_path = pg_temp"
        )
        connection.execute("UPDATE customers.crm SET email = 'b@example.com'")
    row = database.outbox("customers")[-1]
    assert row.fields["consent_at"] == "2026-01-01T00:00:00.000000Z"
    assert entries(row)["email"] == {"version": row.version, "at": row.fields["updated_at"]}
    assert versions(row)["marketing_consent"] < row.version
