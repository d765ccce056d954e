"""Installation, roles, and the switch for NOTIFY."""

import pytest
from psycopg import conninfo, errors

from syncline.model.errors import BadCredentials, Misconfigured, Unavailable
from syncline.services.schema import SCHEMAS, install, install_all, installation
from tests.services.database import TABLES, WRITERS, Database

INSERTS = {
    "catalog": "INSERT INTO catalog.products (sku) VALUES ('A')",
    "pricing": "INSERT INTO pricing.prices (sku, currency) VALUES ('A', 'EUR')",
    "warehouse": "INSERT INTO warehouse.stock (sku, warehouse_id) VALUES ('A', 'W1')",
}


def test_installing_again_keeps_rows_and_versions(database: Database) -> None:
    database.write("catalog", INSERTS["catalog"])
    before = database.outbox("catalog")
    install(database.dsn)
    database.write("catalog", "UPDATE catalog.products SET name = 'later'")
    created, updated = database.outbox("catalog")
    assert [created] == before
    assert updated.version > created.version


def test_the_printed_sql_is_what_installs(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(installation().encode())
    database.write("warehouse", INSERTS["warehouse"])
    assert database.story("warehouse") == [("stock:W1:A", "created")]


def test_a_failed_installation_leaves_nothing(empty_dsn: str, database: Database) -> None:
    with database.connect() as connection:
        before = connection.execute("SELECT count(*) FROM pg_trigger").fetchone()
        broken = (
            installation()
            .replace("COMMIT;", "SELECT 1 / 0; COMMIT;")
            .replace("outbox_upsert", "outbox_write")
        )
        with pytest.raises(errors.DivisionByZero):
            connection.execute(broken.encode())
        connection.rollback()
        assert connection.execute("SELECT count(*) FROM pg_trigger").fetchone() == before


def test_services_may_live_in_databases_of_their_own(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("DROP DATABASE IF EXISTS pricing_alone WITH (FORCE)")
        connection.execute("CREATE DATABASE pricing_alone")
        alone = conninfo.make_conninfo(database.dsn, dbname="pricing_alone")
        install_all({**dict.fromkeys(SCHEMAS, database.dsn), "pricing": alone})
        with Database(alone) as other:
            schemas = other.ask("SELECT nspname FROM pg_namespace WHERE nspname = ANY (%s)", (list(SCHEMAS),))
        connection.execute("DROP DATABASE pricing_alone WITH (FORCE)")
    assert schemas == [("pricing",)]


def test_an_unknown_service_is_named() -> None:
    with pytest.raises(Misconfigured, match=r"'shipping'; there are catalog, pricing, warehouse, customers"):
        installation(["shipping"])


def test_a_creator_of_roles_can_install_without_being_superuser(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("DROP DATABASE IF EXISTS plain WITH (FORCE)")
        connection.execute("DROP ROLE IF EXISTS plain_installer")
        connection.execute("CREATE ROLE plain_installer LOGIN CREATEROLE PASSWORD 'plain'")
        for role in (*SCHEMAS, *WRITERS):  # which exist already on this server
            connection.execute(f"GRANT {role} TO plain_installer WITH ADMIN OPTION".encode())
        connection.execute("CREATE DATABASE plain OWNER plain_installer")
        dsn = conninfo.make_conninfo(database.dsn, dbname="plain", user="plain_installer", password="plain")
        try:
            install(dsn)
            install(dsn)
            with Database(dsn) as plain:
                plain.write("pricing", INSERTS["pricing"])
                assert plain.story("pricing") == [("price:EUR:A", "created")]
        finally:
            connection.execute("DROP DATABASE plain WITH (FORCE)")
            connection.execute("DROP ROLE plain_installer")


def test_an_installer_without_rights_is_told(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS nobody_in_particular")
        connection.execute("CREATE ROLE nobody_in_particular LOGIN PASSWORD 'n'")
        dsn = conninfo.make_conninfo(database.dsn, user="nobody_in_particular", password="n")
        try:
            with pytest.raises(BadCredentials, match="superuser, or a role that may create roles"):
                install(dsn)
        finally:
            connection.execute("DROP ROLE nobody_in_particular")


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        install("postgresql://127.0.0.1:1/shop")


@pytest.mark.parametrize("schema", TABLES)
@pytest.mark.parametrize("other", TABLES)
def test_a_service_of_the_goods_reads_all_and_writes_its_own(
    database: Database, schema: str, other: str
) -> None:
    database.write(schema, INSERTS[schema])
    with database.connect(other) as connection:
        assert len(connection.execute(f"SELECT * FROM {schema}.{TABLES[schema]}".encode()).fetchall()) == 1
    writes = (INSERTS[schema] + " ON CONFLICT DO NOTHING", f"UPDATE {schema}.{TABLES[schema]} SET sku = 'B'")
    for statement in (*writes, f"DELETE FROM {schema}.{TABLES[schema]}"):
        if other == schema:
            database.write(other, statement)
        else:
            with pytest.raises(errors.InsufficientPrivilege):
                database.write(other, statement)
    if other != schema:
        with pytest.raises(errors.InsufficientPrivilege):
            database.write(other, f"DELETE FROM {schema}.outbox")
        with pytest.raises(errors.InsufficientPrivilege):
            database.write(other, f"CREATE TABLE {schema}.mine ()")


def test_a_commit_wakes_whoever_listens_once(database: Database) -> None:
    with database.connect() as listener, database.connect("pricing", autocommit=False) as writer:
        listener.execute("LISTEN syncline_outbox_pricing")
        for currency in ("EUR", "USD", "GBP"):
            writer.execute("INSERT INTO pricing.prices (sku, currency) VALUES ('A', %s)", (currency,))
        writer.commit()
        notifications = list(listener.notifies(timeout=30, stop_after=1))
        listener.execute("SELECT")  # brings what else there may be
        assert len(notifications) + len(list(listener.notifies(timeout=0))) == 1


def test_without_notify_nobody_is_woken_and_prepared_transactions_work(database: Database) -> None:
    install(database.dsn, notify=False)
    try:
        with database.connect() as listener, database.connect("catalog") as writer:
            listener.execute("LISTEN syncline_outbox_catalog")
            writer.execute("BEGIN")
            writer.execute(INSERTS["catalog"])
            writer.execute("PREPARE TRANSACTION 'one'")
            assert database.outbox("catalog") == []
            writer.execute("COMMIT PREPARED 'one'")
            listener.execute("SELECT")
            assert list(listener.notifies(timeout=0)) == []
        assert database.story("catalog") == [("product:A", "created")]
    finally:
        install(database.dsn, notify=True)


def test_with_notify_a_prepared_transaction_is_refused(database: Database) -> None:
    with database.connect("catalog") as writer:
        writer.execute("BEGIN")
        writer.execute(INSERTS["catalog"])
        with pytest.raises(errors.FeatureNotSupported, match="NOTIFY"):
            writer.execute("PREPARE TRANSACTION 'two'")


def test_the_read_from_a_floor_steps_over_dead_rows_by_an_index(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(
            "EXPLAIN SELECT * FROM catalog.outbox WHERE transaction_id >= '9'::xid8 ORDER BY seq"
        ).fetchall()
    assert any("outbox_transaction_id" in line for (line,) in plan)


def test_the_outbox_s_columns_are_those_that_others_rely_on(database: Database) -> None:
    columns = database.ask(
        "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute "
        "WHERE attrelid = 'catalog.outbox'::regclass AND attnum > 0 ORDER BY attnum"
    )
    assert dict(columns) == {
        "seq": "bigint",
        "transaction_id": "xid8",
        "id": "uuid",
        "aggregatetype": "text",
        "aggregateid": "text",
        "type": "text",
        "payload": "jsonb",
        "version": "bigint",
        "occurred_at": "timestamp with time zone",
    }
