"""Customers edited by three services at once, by way of PostgreSQL, relay and Kafka; the flow killed twice.

Each profile is what the rules make of the tables, and each pair of concurrent edits is told once.
"""

from collections import Counter
from typing import Any

import pytest
from psycopg.rows import dict_row

from syncline.flow_processes import FlowProcesses
from syncline.monitor import sql as monitor_sql
from syncline.monitor.profile_comparison import rules_in_sql
from syncline.monitor.verification import verify
from syncline.services.customer_shop import CustomerShop
from syncline.services.customer_workload import ConcurrentEdits
from syncline.services.pace import Progress
from syncline.statements import statement
from tests.acceptance.world import World
from tests.customers import CUSTOMERS

EVERYONE = {"ids": None, **rules_in_sql(CUSTOMERS.conflicts)}
NAME = "customer_profiles"
CHANGES = 10_000
RATE = 500
KILL_AT = [CHANGES // 3, 2 * CHANGES // 3]


def profiles(world: World) -> dict[str, dict[str, Any]]:
    """What the copy shows, with the writer whose value stands of each field under review."""
    with world.database() as connection, connection.cursor(row_factory=dict_row) as cursor:
        shown = cursor.execute(
            "SELECT id, email, phone, full_name, address, marketing_consent, consent_at, notes"
            " FROM profiles.customers"
        ).fetchall()
        reviews = cursor.execute(
            "SELECT entity_id, jsonb_object_agg(field, standing) AS open_reviews FROM sync.reviews"
            " WHERE state = 'open' GROUP BY entity_id"
        ).fetchall()
    opened = {review["entity_id"]: review["open_reviews"] for review in reviews}
    return {str(row["id"]): {**row, "open_reviews": opened.pop(str(row["id"]), {})} for row in shown} | {
        id_: {"reviewed without a profile": fields} for id_, fields in opened.items()
    }


def reference(world: World) -> dict[str, dict[str, Any]]:
    """What the rules make of the tables as they stand, by plain SQL."""
    with world.database() as connection, connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(statement(monitor_sql, "customer_profiles"), EVERYONE).fetchall()
    return {str(row["id"]): row for row in rows}


def audited(world: World) -> Counter[tuple[str, str, frozenset[str]]]:
    with world.database() as connection:
        rows = connection.execute(
            "SELECT entity_id, field, known_writer, arrived_writer FROM sync.conflicts"
        ).fetchall()
    return Counter((str(id_), str(field), frozenset(map(str, writers))) for id_, field, *writers in rows)


@pytest.mark.timeout(300)
def test_profiles_are_those_of_the_reference_and_each_concurrent_pair_is_audited_once(
    shop_world: World,
) -> None:
    concurrent: list[ConcurrentEdits] = []
    shop = CustomerShop(shop_world.settings.source_dsns["customers"], 7, concurrent.append)
    kill_at = list(KILL_AT)
    lives: list[FlowProcesses] = []

    def start() -> None:
        lives.append(shop_world.copy(NAME))
        lives[-1].start()

    def kill_when_due(progress: Progress) -> None:
        if kill_at and progress.changes >= kill_at[0]:
            kill_at.pop(0)
            lives[-1].kill()
            start()

    try:
        with shop_world.relay():
            start()
            shop.run(RATE, changes=CHANGES, on_progress=kill_when_due)
            assert not kill_at, "not every kill took place"
            shop_world.wait_until_fresh(NAME)
    finally:
        lives[-1].stop()

    expected = reference(shop_world)
    found = profiles(shop_world)
    assert found.keys() == expected.keys()
    assert {id_: (found[id_], row) for id_, row in expected.items() if found[id_] != row} == {}
    assert len(found) > CHANGES // 50
    report = verify(NAME, shop_world.settings)
    assert report.is_clean, report.differing_keys
    assert report.equal == report.compared >= len(expected) == report.in_source
    pairs = Counter((edits.customer_id, edits.field, frozenset(edits.values)) for edits in concurrent)
    assert audited(shop_world) == pairs
    assert pairs.total() > CHANGES // 50
    with shop_world.database() as connection:
        assert connection.execute("SELECT count(*) FROM sync.quarantine").fetchall() == [(0,)]
