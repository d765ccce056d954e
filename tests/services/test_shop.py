"""The shop at work on a real server."""

import threading
from collections import Counter
from typing import Any

import pytest
from psycopg import conninfo

from syncline.model.errors import Misconfigured, MissingResource, Refused, Unavailable
from syncline.services.connection import connect_as
from syncline.services.lanes import Lanes, commit
from syncline.services.pace import Progress
from syncline.services.schema import SCHEMAS
from syncline.services.shop import Shop
from syncline.services.workload import Mix, Statement, Transaction
from syncline.stopping import Stop
from tests.services.database import TABLES, Database

FASTER_THAN_ANY_DATABASE = 1_000_000


@pytest.fixture
def dsn_without_tables(database: Database) -> str:
    return conninfo.make_conninfo(database.dsn, dbname="postgres")


def shop(database: Database, seed: int = 7, mix: Mix | None = None) -> Shop:
    return Shop(dict.fromkeys(SCHEMAS, database.dsn), seed, mix)


def published(database: Database) -> Counter[tuple[str, str]]:
    return Counter(
        (row.aggregatetype, row.payload["op"]) for schema in SCHEMAS for row in database.outbox(schema)
    )


def contents(database: Database) -> dict[str, list[Any]]:
    """The tables but for what the triggers set."""
    query = "SELECT to_jsonb(t) - 'version' - 'updated_at' FROM {}.{} AS t ORDER BY 1"
    return {schema: database.ask(query.format(schema, table)) for schema, table in TABLES.items()}


def test_what_it_says_is_what_was_published_and_what_stands(database: Database) -> None:
    worker = shop(database)
    seeded = worker.seed_products(300)
    ran = worker.run(FASTER_THAN_ANY_DATABASE, changes=3_000)
    assert Counter(seeded.changes_by_kind) + Counter(ran.changes_by_kind) == published(database)
    assert 3_000 <= ran.changes < 3_010
    assert set(ran.changes_by_kind) == {
        (e, op) for e in ("product", "price", "stock") for op in ("upsert", "delete")
    }
    for schema, table in TABLES.items():
        last = {row.entity: row for row in database.outbox(schema)}
        standing = sorted(row.version for row in last.values() if row.type != "deleted")
        assert [
            version for (version,) in database.ask(f"SELECT version FROM {schema}.{table} ORDER BY 1")
        ] == standing


def test_seeding_makes_so_many_products_each_with_price_and_stock(database: Database) -> None:
    summary = shop(database).seed_products(450)
    assert summary.changes_by_kind["product", "upsert"] == 450
    assert database.ask("SELECT count(*) FROM catalog.products") == [(450,)]
    assert database.ask("SELECT count(DISTINCT sku) FROM pricing.prices WHERE list_amount > 0") == [(450,)]
    assert database.ask("SELECT count(DISTINCT sku) FROM warehouse.stock WHERE on_hand > 0") == [(450,)]


def test_the_same_seed_leaves_the_same_rows(database: Database) -> None:
    found = []
    for seed in (7, 7, 8):
        database.clear()
        worker = shop(database, seed)
        worker.seed_products(50)
        worker.run(FASTER_THAN_ANY_DATABASE, changes=1_000)
        found.append(contents(database))
    assert found[0] == found[1] != found[2]


def test_its_data_keeps_the_rules(database: Database) -> None:
    worker = shop(database)
    worker.run(FASTER_THAN_ANY_DATABASE, changes=3_000)
    assert (
        database.ask("SELECT * FROM warehouse.stock WHERE NOT 0 <= reserved OR NOT reserved <= on_hand") == []
    )
    assert (
        database.ask("SELECT * FROM pricing.prices WHERE sale_amount > list_amount OR list_amount < 0") == []
    )
    assert database.ask("SELECT * FROM pricing.prices WHERE valid_to < valid_from") == []
    assert database.ask("SELECT * FROM catalog.products WHERE name IS NULL") == []


def test_it_goes_on_with_the_products_that_there_are(database: Database) -> None:
    database.write(
        "catalog", "INSERT INTO catalog.products (sku) SELECT 'MINE-' || n FROM generate_series(1, 10) n"
    )
    summary = shop(database, mix=Mix(launch=0, discontinue=0, relaunch=0)).run(
        FASTER_THAN_ANY_DATABASE, changes=500
    )
    assert summary.changes >= 450  # an order of a product that no other has in stock is smaller than planned
    assert {row.aggregateid.partition("-")[0] for schema in SCHEMAS for row in database.outbox(schema)} == {
        "MINE"
    }


def test_the_time_bounds_a_run_and_the_pace_is_kept(database: Database) -> None:
    worker = shop(database)
    worker.seed_products(20)
    told: list[Progress] = []
    summary = worker.run(100, seconds=1, on_progress=told.append)
    assert 100 <= summary.changes < 110
    assert summary.seconds > 0.9
    assert summary.rate == pytest.approx(summary.changes / summary.seconds)
    assert told
    assert told[0].changes < summary.changes


def test_a_pace_that_the_databases_cannot_keep_ends_in_time(database: Database) -> None:
    summary = shop(database).run(FASTER_THAN_ANY_DATABASE, seconds=0.2)
    assert 0 < summary.changes < 0.2 * FASTER_THAN_ANY_DATABASE
    assert Counter(summary.changes_by_kind) == published(database)


def test_a_stop_ends_it_with_everything_counted(database: Database) -> None:
    stop = Stop()
    summary = shop(database).run(500, on_progress=lambda _progress: stop.request(), stop=stop)
    assert summary.changes > 0
    assert Counter(summary.changes_by_kind) == published(database)


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_rate_that_is_none_is_refused(database: Database, rate: float) -> None:
    with pytest.raises(Misconfigured, match="rate"):
        shop(database).run(rate, seconds=1)


def test_missing_tables_are_told_with_the_way_out(dsn_without_tables: str) -> None:
    with pytest.raises(MissingResource, match="syncline setup"):
        Shop(dict.fromkeys(SCHEMAS, dsn_without_tables)).run(10, changes=1)


def test_a_server_that_goes_away_ends_the_run_and_leaves_no_thread(database: Database) -> None:
    threads = threading.active_count()

    def cut(_progress: Progress) -> None:
        database.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    with pytest.raises(Unavailable):
        shop(database).run(500, seconds=60, on_progress=cut)
    assert threading.active_count() == threads


def test_an_exception_abandons_what_stands_in_the_lanes(database: Database) -> None:
    threads = threading.active_count()
    with pytest.raises(ZeroDivisionError), Lanes(dict.fromkeys(SCHEMAS, database.dsn), 10):
        raise ZeroDivisionError
    assert threading.active_count() == threads


def test_what_the_database_refuses_is_told_as_refused(database: Database) -> None:
    row = {"sku": "A", "warehouse_id": "W:1", "on_hand": 1, "reserved": 0}
    with (
        pytest.raises(Refused, match="check constraint"),
        Lanes(dict.fromkeys(SCHEMAS, database.dsn), 10) as lanes,
    ):
        lanes.put(Transaction("warehouse:1", (Statement("put_stock", "stock", "upsert", (row,)),)))


def test_a_deadlock_with_someone_else_is_tried_again(database: Database) -> None:
    database.write("catalog", "INSERT INTO catalog.products (sku) VALUES ('A'), ('B'), ('C')")
    edits = [Statement("edit_product", "product", "upsert", ({"sku": sku, "name": "ours"},)) for sku in "ACB"]
    impatient = conninfo.make_conninfo(database.dsn, options="-c deadlock_timeout=5ms")
    counts: list[list[int]] = []
    with (
        connect_as(impatient, "catalog") as ours,
        database.connect(autocommit=False) as other,
        database.connect(autocommit=False) as gate,
    ):
        other.execute("SET LOCAL deadlock_timeout = '60s'")
        other.execute("UPDATE catalog.products SET name = 'theirs' WHERE sku = 'B'")
        gate.execute("SELECT FROM catalog.products WHERE sku = 'C' FOR UPDATE")
        with database.blocked(ours, lambda: counts.append(commit(ours, edits))):  # holds A, waits for C
            with database.blocked(other, "UPDATE catalog.products SET name = 'theirs' WHERE sku = 'A'"):
                gate.rollback()  # now ours waits for B, and the circle is closed
            other.commit()
    assert counts == [[1, 1, 1]]
    assert set(database.ask("SELECT name FROM catalog.products")) == {("ours",)}
    assert database.story("catalog").count(("product:A", "updated")) == 2
