"""The three services at work on customers, on a real server."""

from collections import Counter
from typing import Any

import pytest
from psycopg import conninfo

from syncline.model.errors import MissingResource
from syncline.services.customer_shop import CustomerShop
from syncline.services.customer_workload import ConcurrentEdits, CustomerMix
from tests.services.database import WRITERS, Database

FASTER_THAN_ANY_DATABASE = 1_000_000

SEEN = """
WITH written AS (
    SELECT 'storefront' AS writer, id, field_versions, based_on FROM customers.storefront
    UNION ALL SELECT 'crm', id, field_versions, based_on FROM customers.crm
    UNION ALL SELECT 'support', id, field_versions, based_on FROM customers.support
)
SELECT
    x.id::text, field, x.writer, y.writer,
    (y.field_versions #>> ARRAY[field, 'version'])::bigint,
    (x.based_on #>> ARRAY[field, y.writer])::bigint,
    extract(
        epoch FROM (x.field_versions #>> ARRAY[field, 'at'])::timestamptz
            - (y.field_versions #>> ARRAY[field, 'at'])::timestamptz
    )
FROM written AS x
JOIN written AS y ON x.id = y.id AND x.writer <> y.writer
CROSS JOIN LATERAL jsonb_object_keys(x.field_versions) AS field
WHERE y.field_versions ? field
"""
"""Of each value x beside another writer's value y of the field: y's version, which of y's versions x had
seen, and how many seconds later than y it was set."""


def concurrent_in(database: Database) -> set[tuple[str, str, frozenset[str]]]:
    """Customer, field and the two writers whose values stand side by side, neither having seen the other."""
    sees: dict[tuple[str, str, frozenset[str]], list[bool]] = {}
    for customer_id, field, writer, other, version, seen_version, seconds_later in database.ask(SEEN):
        saw = seconds_later > 5 if seen_version is None else seen_version >= version
        sees.setdefault((customer_id, field, frozenset({writer, other})), []).append(saw)
    return {key for key, saw in sees.items() if not any(saw)}


def contents(database: Database) -> dict[str, list[Any]]:
    """The tables but for the versions: when each field changed, and whom its writer had seen."""
    query = """
        SELECT
            to_jsonb(own) - 'version' - 'updated_at' - 'field_versions' - 'based_on',
            (SELECT jsonb_object_agg(key, value -> 'at') FROM jsonb_each(field_versions)),
            (SELECT jsonb_object_agg(key, (SELECT array_agg(seen ORDER BY seen) FROM jsonb_object_keys(value) AS seen))
             FROM jsonb_each(based_on))
        FROM customers.{} AS own
        ORDER BY id"""
    return {writer: database.ask(query.format(writer)) for writer in WRITERS}


def run(
    database: Database, seed: int, changes: int, mix: CustomerMix | None = None
) -> tuple[Counter[tuple[str, str]], list[ConcurrentEdits]]:
    concurrent: list[ConcurrentEdits] = []
    shop = CustomerShop(database.dsn, seed, concurrent.append, mix)
    summary = shop.run(FASTER_THAN_ANY_DATABASE, changes=changes)
    return Counter(summary.changes_by_kind), concurrent


def test_what_it_says_is_what_was_published(database: Database) -> None:
    changes, _ = run(database, 7, 2_000)
    rows = database.outbox("customers")
    assert changes == Counter(("customer", row.payload["op"]) for row in rows)
    assert 2_000 <= changes.total() <= 2_001
    assert {row.aggregatetype for row in rows} == set(WRITERS)


def test_the_same_seed_leaves_the_same_rows(database: Database) -> None:
    found = []
    for seed in (7, 7, 8):
        database.clear()
        run(database, seed, 600)
        found.append(contents(database))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("informed", [0, 0.8, 1])
def test_what_is_concurrent_in_the_tables_was_told(database: Database, informed: float) -> None:
    """Of any two values side by side one has seen the other, but for the edits that were told and still stand."""
    _, concurrent = run(database, 9, 1_500, CustomerMix(concurrent=0.3, informed=informed))
    last: dict[tuple[str, str, str], str] = {}
    for row in database.outbox("customers"):
        if row.type == "deleted":
            for field in ("email", "phone", "full_name", "address", "marketing_consent"):
                last.pop((row.aggregateid, field, row.aggregatetype), None)
        for field, entry in row.fields.get("field_versions", {}).items():
            last[row.aggregateid, field, row.aggregatetype] = entry["at"]
    standing = {
        (edits.customer_id, edits.field, frozenset(edits.times))
        for edits in concurrent
        if all(last.get((edits.customer_id, edits.field, w)) == at for w, at in edits.times.items())
    }
    assert concurrent_in(database) == standing
    assert len(standing) > 20


def test_some_of_what_is_concurrent_is_known_by_what_was_seen(database: Database) -> None:
    run(database, 9, 1_000, CustomerMix(concurrent=0.3, informed=1))
    stale = [row for row in database.ask(SEEN) if row[5] is not None and row[5] < row[4] and abs(row[6]) <= 5]
    assert stale


def test_it_goes_on_with_the_customers_that_there_are(database: Database) -> None:
    run(database, 1, 100)
    before = {row.aggregateid for row in database.outbox("customers")}
    _, concurrent = run(database, 2, 300, CustomerMix(join=0, concurrent=0.3))
    assert {row.aggregateid for row in database.outbox("customers")} == before
    assert concurrent_in(database) <= {(e.customer_id, e.field, frozenset(e.times)) for e in concurrent}


def test_customers_of_your_own_are_left_alone(database: Database) -> None:
    customer_id = "6f1c2f0e-9c1b-4d43-8f0e-0c5a0c8f3a11"
    database.write("crm", f"INSERT INTO customers.crm (id, email) VALUES ('{customer_id}', 'me@example.com')")
    run(database, 3, 500)
    assert [row.aggregateid for row in database.outbox("customers")].count(customer_id) == 1


def test_missing_tables_are_told_with_the_way_out(database: Database) -> None:
    dsn = conninfo.make_conninfo(database.dsn, dbname="postgres")
    with pytest.raises(MissingResource, match="syncline setup"):
        CustomerShop(dsn, 0, lambda _edits: None).run(10, changes=1)
