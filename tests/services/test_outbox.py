"""The triggers: each committed write leaves one change, with a version that never goes back."""

import re
from decimal import Decimal

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.services.database import TABLES, Database


def test_a_new_row_is_created_then_updated_then_deleted(database: Database) -> None:
    database.write(
        "catalog",
        "INSERT INTO catalog.products (sku, name) VALUES ('A', 'Kettle')",
        "UPDATE catalog.products SET name = 'Kettle, small'",
        "DELETE FROM catalog.products",
    )
    created, updated, deleted = database.outbox("catalog")
    assert [created.type, updated.type, deleted.type] == ["created", "updated", "deleted"]
    assert [row.payload["op"] for row in (created, updated, deleted)] == ["upsert", "upsert", "delete"]
    assert 0 < created.version < updated.version == deleted.version
    assert created.fields["name"] == "Kettle"
    assert updated.fields["name"] == "Kettle, small"
    assert deleted.fields == {"sku": "A"}


def test_the_row_holds_what_was_published(database: Database) -> None:
    database.write("catalog", "INSERT INTO catalog.products (sku) VALUES ('A')")
    (row,) = database.outbox("catalog")
    version, updated_at = database.ask(
        "SELECT version, to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') "
        "FROM catalog.products"
    )[0]
    assert (row.version, row.payload["version"], row.fields["updated_at"]) == (version, version, updated_at)


def test_an_update_that_changes_nothing_is_a_change(database: Database) -> None:
    database.write(
        "catalog",
        "INSERT INTO catalog.products (sku) VALUES ('A')",
        "UPDATE catalog.products SET sku = sku",
    )
    first, second = database.outbox("catalog")
    assert second.type == "updated"
    assert second.version > first.version


@pytest.mark.parametrize("name", ["'new'", "NULL"])
def test_an_upsert_is_an_update_of_the_row_that_is_there(database: Database, name: str) -> None:
    upsert = (
        f"INSERT INTO catalog.products (sku, name) VALUES ('A', {name}) "
        "ON CONFLICT (sku) DO UPDATE SET name = excluded.name, version = excluded.version"
    )
    database.write("catalog", upsert, upsert)
    assert database.story("catalog") == [("product:A", "created"), ("product:A", "updated")]
    first, second = database.outbox("catalog")
    assert second.version > first.version


def test_an_upsert_that_does_nothing_publishes_nothing(database: Database) -> None:
    insert = "INSERT INTO catalog.products (sku) VALUES ('A') ON CONFLICT DO NOTHING"
    database.write("catalog", insert, insert)
    assert database.story("catalog") == [("product:A", "created")]


def test_merge_publishes_like_the_statements_that_it_stands_for(database: Database) -> None:
    merge = (
        "MERGE INTO catalog.products AS p USING (VALUES ('A'), ('B')) AS v (sku) ON p.sku = v.sku "
        "WHEN MATCHED AND v.sku = 'B' THEN DELETE WHEN MATCHED THEN UPDATE SET name = 'merged' "
        "WHEN NOT MATCHED THEN INSERT (sku) VALUES (v.sku)"
    )
    database.write("catalog", merge, merge)
    story = database.story("catalog")
    assert sorted(story[:2]) == [("product:A", "created"), ("product:B", "created")]
    assert sorted(story[2:]) == [("product:A", "updated"), ("product:B", "deleted")]


@pytest.mark.parametrize(
    "recreation",
    [
        "DELETE FROM catalog.products; INSERT INTO catalog.products (sku) VALUES ('A')",
        "BEGIN; DELETE FROM catalog.products; INSERT INTO catalog.products (sku) VALUES ('A'); COMMIT",
        "WITH a AS (DELETE FROM catalog.products RETURNING *) INSERT INTO catalog.products SELECT * FROM a",
    ],
    ids=["another transaction", "the same transaction", "the same statement"],
)
def test_a_recreated_row_goes_on_from_the_deleted_one(database: Database, recreation: str) -> None:
    database.write("catalog", "INSERT INTO catalog.products (sku) VALUES ('A')", recreation)
    created, deleted, recreated = database.outbox("catalog")
    assert [created.type, deleted.type, recreated.type] == ["created", "deleted", "created"]
    assert created.version == deleted.version < recreated.version


def test_a_changed_key_is_a_delete_and_a_creation(database: Database) -> None:
    database.write(
        "warehouse",
        "INSERT INTO warehouse.stock (warehouse_id, sku, on_hand) VALUES ('W1', 'A', 7)",
        "UPDATE warehouse.stock SET warehouse_id = 'W2', on_hand = 8",
    )
    created, deleted, recreated = database.outbox("warehouse")
    assert (deleted.entity, deleted.type, deleted.version) == ("stock:W1:A", "deleted", created.version)
    assert deleted.fields == {"warehouse_id": "W1", "sku": "A"}
    assert (recreated.entity, recreated.type, recreated.fields["on_hand"]) == ("stock:W2:A", "created", 8)
    assert recreated.version > created.version
    assert database.ask("SELECT version FROM warehouse.stock") == [(recreated.version,)]


def test_many_keys_change_in_one_statement(database: Database) -> None:
    database.write(
        "catalog",
        "INSERT INTO catalog.products (sku) SELECT 'A' || n FROM generate_series(1, 50) AS n",
        "UPDATE catalog.products SET sku = 'B' || sku",
    )
    rows = database.outbox("catalog")
    assert sorted(row.type for row in rows) == ["created"] * 100 + ["deleted"] * 50
    assert len({row.version for row in rows if row.type == "created"}) == 100


def test_what_is_rolled_back_leaves_nothing(database: Database) -> None:
    with database.connect("catalog", autocommit=False) as connection:
        connection.execute("INSERT INTO catalog.products (sku) VALUES ('A')")
        connection.execute("SAVEPOINT before_b")
        connection.execute("INSERT INTO catalog.products (sku) VALUES ('B')")
        connection.execute("ROLLBACK TO before_b")
    with database.connect("catalog", autocommit=False) as connection:
        connection.execute("DELETE FROM catalog.products")
        connection.rollback()
    assert database.story("catalog") == [("product:A", "created")]


def test_a_transaction_has_one_id_for_all_of_its_changes(database: Database) -> None:
    with database.connect("catalog", autocommit=False) as connection:
        connection.execute("INSERT INTO catalog.products (sku) VALUES ('A')")
        with connection.transaction():  # a savepoint, which has an id of its own inside Postgres
            connection.execute("INSERT INTO catalog.products (sku) VALUES ('B')")
        transaction_id = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
    ids = database.ask("SELECT DISTINCT transaction_id::text FROM catalog.outbox")
    assert ids == [transaction_id]


def test_copy_in_publishes_each_row(database: Database) -> None:
    with (
        database.connect("pricing") as connection,
        connection.cursor().copy("COPY pricing.prices (sku, currency, list_amount) FROM STDIN") as copy,
    ):
        for number in range(100):
            copy.write_row((f"SKU-{number}", "EUR", Decimal(number)))
    rows = database.outbox("pricing")
    assert len(rows) == 100
    assert {row.type for row in rows} == {"created"}
    assert len({row.version for row in rows}) == 100


@pytest.mark.parametrize("schema", TABLES)
def test_truncate_is_refused_with_the_way_out(database: Database, schema: str) -> None:
    with pytest.raises(
        errors.FeatureNotSupported, match=f"TRUNCATE of {schema}.{TABLES[schema]} is refused"
    ) as raised:
        database.write(schema, f"TRUNCATE {schema}.{TABLES[schema]}")
    assert "DELETE" in (raised.value.diag.message_hint or "")


def test_a_forged_version_is_overruled(database: Database) -> None:
    database.write(
        "catalog",
        "INSERT INTO catalog.products (sku, version, updated_at) VALUES ('A', 999999999, '1999-01-01')",
        "UPDATE catalog.products SET version = 1, updated_at = '1999-01-01'",
        "UPDATE catalog.products SET sku = 'B', version = 999999999",
    )
    versions = [row.version for row in database.outbox("catalog")]
    assert versions == sorted(versions)
    assert max(versions) < 999999999
    assert database.ask("SELECT version FROM catalog.products WHERE updated_at > '2020-01-01'") == [
        (versions[-1],)
    ]


def test_the_key_and_the_entity_follow_the_names_that_others_rely_on(database: Database) -> None:
    database.write("catalog", "INSERT INTO catalog.products (sku) VALUES ('S:1')")
    database.write("pricing", "INSERT INTO pricing.prices (sku, currency) VALUES ('S:1', 'EUR')")
    database.write("warehouse", "INSERT INTO warehouse.stock (sku, warehouse_id) VALUES ('S:1', 'W1')")
    told = [
        (row.aggregatetype, row.aggregateid, row.entity)
        for schema in TABLES
        for row in database.outbox(schema)
    ]
    assert told == [
        ("product", "S:1", "product:S:1"),
        ("price", "S:1", "price:EUR:S:1"),
        ("stock", "S:1", "stock:W1:S:1"),
    ]


def test_ambiguous_keys_are_refused(database: Database) -> None:
    with pytest.raises(errors.CheckViolation):
        database.write("warehouse", "INSERT INTO warehouse.stock (sku, warehouse_id) VALUES ('A', 'W:1')")
    with pytest.raises(errors.CheckViolation):
        database.write("pricing", "INSERT INTO pricing.prices (sku, currency) VALUES ('A', 'E:R')")


def test_a_product_of_nulls(database: Database) -> None:
    database.write("catalog", "INSERT INTO catalog.products (sku) VALUES ('A')")
    (row,) = database.outbox("catalog")
    empty = ("name", "description", "brand", "category", "attributes", "tags", "status")
    assert row.fields == {"sku": "A", "updated_at": row.fields["updated_at"], **dict.fromkeys(empty)}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", row.fields["updated_at"])


def test_text_objects_and_lists_arrive_as_they_are(database: Database) -> None:
    attributes = {"größe": "XL 😀", "deep": {"list": [1, None, True, 'a"b\\c']}, "null": None}
    tags = ["a,b", "{c}", "NULL", None, "😀", ""]
    with database.connect("catalog") as connection:
        connection.execute(
            "INSERT INTO catalog.products (sku, name, attributes, tags) VALUES (%s, %s, %s, %s)",
            ("SKU-😀", "line\nbreak\ttab", Jsonb(attributes), tags),
        )
    (row,) = database.outbox("catalog")
    assert (row.aggregateid, row.entity) == ("SKU-😀", "product:SKU-😀")
    assert row.fields["name"] == "line\nbreak\ttab"
    assert row.fields["attributes"] == attributes
    assert row.fields["tags"] == tags


def test_a_large_text_travels_whole(database: Database) -> None:
    database.write(
        "catalog", "INSERT INTO catalog.products (sku, description) VALUES ('A', repeat('ä', 2500000))"
    )
    (row,) = database.outbox("catalog")
    assert row.fields["description"] == "ä" * 2_500_000


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        ("12.9", "12.9000"),
        ("0", "0.0000"),
        ("-0.0001", "-0.0001"),
        ("99999999.9999", "99999999.9999"),
        ("-99999999.9999", "-99999999.9999"),
        ("'NaN'", "NaN"),
        ("NULL", None),
    ],
)
def test_amounts_are_exact_text(database: Database, amount: str, told: str | None) -> None:
    database.write(
        "pricing", f"INSERT INTO pricing.prices (sku, currency, list_amount) VALUES ('A', 'EUR', {amount})"
    )
    (row,) = database.outbox("pricing")
    assert row.fields["list_amount"] == told


@pytest.mark.parametrize("amount", ["99999999.99999", "100000000", "'Infinity'"])
def test_amounts_beyond_the_column_are_refused(database: Database, amount: str) -> None:
    with pytest.raises(errors.NumericValueOutOfRange):
        database.write("pricing", f"INSERT INTO pricing.prices VALUES ('A', 'EUR', {amount})")
    assert database.outbox("pricing") == []


@pytest.mark.parametrize(
    ("moment", "told"),
    [
        ("2024-02-01 00:00:00.5+02", "2024-01-31T22:00:00.500000Z"),
        ("0001-01-01 00:00:00+00", "0001-01-01T00:00:00.000000Z"),
        ("9999-12-31 23:59:59.999999+00", "9999-12-31T23:59:59.999999Z"),
        ("infinity", "infinity"),
        ("-infinity", "-infinity"),
        ("10000-01-01 00:00:00+00", "10000-01-01 00:00:00+00"),
        ("0044-03-15 00:00:00+00 BC", "0044-03-15 00:00:00+00 BC"),
    ],
)
def test_times_are_utc_with_microseconds(database: Database, moment: str, told: str) -> None:
    with database.connect("pricing") as connection:
        connection.execute("SET TimeZone = 'UTC'; SET DateStyle = 'ISO'")
        connection.execute(
            "INSERT INTO pricing.prices (sku, currency, valid_from) VALUES ('A', 'EUR', %s)", (moment,)
        )
    (row,) = database.outbox("pricing")
    assert row.fields["valid_from"] == told


@pytest.mark.parametrize(
    "session", ["TimeZone = 'Asia/Kathmandu'", "DateStyle = 'German'", "search_path = pg_temp"]
)
def test_a_session_s_settings_don_t_show(database: Database, session: str) -> None:
    with database.connect("pricing") as connection:
        connection.execute(f"SET {session}")
        connection.execute(
            "INSERT INTO pricing.prices (sku, currency, valid_from) VALUES ('A', 'EUR', '2024-02-01T12:00Z')"
        )
    (row,) = database.outbox("pricing")
    assert row.fields["valid_from"] == "2024-02-01T12:00:00.000000Z"


def test_a_column_added_later_travels_too(database: Database) -> None:
    with database.connect("pricing", autocommit=False) as connection:
        connection.execute("INSERT INTO pricing.prices (sku, currency) VALUES ('A', 'EUR')")
    with database.connect("pricing", autocommit=False) as connection:
        connection.execute("ALTER TABLE pricing.prices ADD COLUMN cost numeric, ADD COLUMN seen timestamptz")
        connection.execute("UPDATE pricing.prices SET cost = 1e-40, seen = '2024-01-01Z'")
        told = connection.execute(
            "SELECT payload -> 'fields' FROM pricing.outbox ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        connection.rollback()
    assert told is not None
    assert (told[0]["cost"], told[0]["seen"]) == ("0." + "0" * 39 + "1", "2024-01-01T00:00:00.000000Z")


def test_a_writer_with_a_mere_grant_is_synced_and_cannot_touch_the_outbox(database: Database) -> None:
    """The triggers act as the schema's owner, so a writer needs no right to the outbox, and gets none."""
    with database.connect(autocommit=False) as connection:
        connection.execute("CREATE ROLE clerk; GRANT USAGE ON SCHEMA catalog TO clerk")
        connection.execute(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON catalog.products TO clerk; SET LOCAL ROLE clerk"
        )
        connection.execute("INSERT INTO catalog.products (sku) VALUES ('A')")
        connection.execute("UPDATE catalog.products SET sku = 'B'")
        connection.execute("DELETE FROM catalog.products")
        connection.execute("CREATE TEMP TABLE mine (version bigint)")
        for forbidden in (
            "INSERT INTO catalog.outbox (aggregatetype) VALUES ('product')",
            "DELETE FROM catalog.outbox",
            "SELECT nextval('catalog.versions')",
            "SELECT setval('catalog.versions', 1)",
            "CREATE TRIGGER t BEFORE UPDATE ON mine FOR EACH ROW EXECUTE FUNCTION catalog.version_draw()",
        ):
            with pytest.raises(errors.InsufficientPrivilege), connection.transaction():
                connection.execute(forbidden)
        connection.execute("RESET ROLE")
        types = connection.execute("SELECT type FROM catalog.outbox ORDER BY seq").fetchall()
        connection.rollback()
    assert types == [("created",), ("deleted",), ("created",), ("deleted",)]
