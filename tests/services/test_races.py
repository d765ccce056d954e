"""Versions when sessions get in each other's way: per entity they follow the order of commits."""

import threading
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
from psycopg import errors

from tests.services.database import Database

INSERT = "INSERT INTO catalog.products (sku, name) VALUES ('B', 'new')"


def assert_versions_follow_commits(database: Database) -> None:
    """In the order of `seq`, each entity's versions rise (a delete stands above the upsert of its version),
    its commits never go back, and creations and deletions take turns."""
    histories = defaultdict(list)
    for entity, op, change, version, committed in database.ask(
        "SELECT payload ->> 'entity', payload ->> 'op', type, version, "
        "pg_xact_commit_timestamp(transaction_id::xid) "
        "FROM catalog.outbox ORDER BY seq"
    ):
        histories[entity].append(((version, op == "delete"), change, committed))
    for entity, history in histories.items():
        versions = [version for version, _, _ in history]
        commits = [committed for _, _, committed in history]
        assert all(a < b for a, b in pairwise(versions)), (entity, versions)
        assert commits == sorted(commits), entity
        exists = False
        for _, change, _ in history:
            assert exists == (change != "created"), (entity, [change for _, change, _ in history])
            exists = change != "deleted"
    standing = {
        entity: history[-1][0][0] for entity, history in histories.items() if history[-1][1] != "deleted"
    }
    assert standing == {
        f"product:{sku}": version
        for sku, version in database.ask("SELECT sku, version FROM catalog.products")
    }


def test_an_insert_that_waits_for_a_delete_of_its_key_gets_the_higher_version(database: Database) -> None:
    database.write("catalog", INSERT)
    with database.connect("catalog", autocommit=False) as deleter, database.connect("catalog") as inserter:
        deleter.execute("UPDATE catalog.products SET name = 'locked'")
        with database.blocked(inserter, INSERT):
            # Drawn after the insert began: an insert that had drawn at its start would now come too late.
            deleter.execute("UPDATE catalog.products SET name = 'last'")
            deleter.execute("DELETE FROM catalog.products")
            deleter.commit()
    assert [change for _, change in database.story("catalog")] == [
        "created",
        "updated",
        "updated",
        "deleted",
        "created",
    ]
    assert_versions_follow_commits(database)


def test_a_key_changed_onto_a_key_just_deleted_gets_the_higher_version(database: Database) -> None:
    database.write("catalog", INSERT, "INSERT INTO catalog.products (sku) VALUES ('A')")
    with database.connect("catalog", autocommit=False) as deleter, database.connect("catalog") as mover:
        deleter.execute("UPDATE catalog.products SET name = 'locked' WHERE sku = 'B'")
        with database.blocked(mover, "UPDATE catalog.products SET sku = 'B' WHERE sku = 'A'"):
            deleter.execute("UPDATE catalog.products SET name = 'last' WHERE sku = 'B'")
            deleter.execute("DELETE FROM catalog.products WHERE sku = 'B'")
            deleter.commit()
    assert database.story("catalog")[-3:] == [
        ("product:B", "deleted"),
        ("product:A", "deleted"),
        ("product:B", "created"),
    ]
    assert_versions_follow_commits(database)


def test_an_insert_of_a_key_that_another_session_moves_away(database: Database) -> None:
    database.write("catalog", INSERT)
    with database.connect("catalog", autocommit=False) as mover, database.connect("catalog") as inserter:
        mover.execute("UPDATE catalog.products SET sku = 'C' WHERE sku = 'B'")
        with database.blocked(inserter, INSERT):
            mover.commit()
    assert_versions_follow_commits(database)


def test_an_insert_that_loses_draws_and_publishes_nothing(database: Database) -> None:
    with database.connect("catalog", autocommit=False) as winner, database.connect("catalog") as loser:
        winner.execute(INSERT)
        before = database.ask("SELECT last_value FROM catalog.versions")
        with pytest.raises(errors.UniqueViolation), database.blocked(loser, INSERT):
            winner.commit()
    assert database.ask("SELECT last_value FROM catalog.versions") == before
    assert database.story("catalog") == [("product:B", "created")]


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_an_update_that_waits_for_another_draws_after_it(database: Database, isolation: str) -> None:
    database.write("catalog", INSERT)
    update = "UPDATE catalog.products SET name = name || '!'"
    with database.connect("catalog", autocommit=False) as first, database.connect("catalog") as second:
        second.execute(f"SET default_transaction_isolation = '{isolation}'".encode())
        first.execute(update)
        if isolation == "read committed":
            with database.blocked(second, update):
                first.commit()
        else:
            with pytest.raises(errors.SerializationFailure), database.blocked(second, update):
                first.commit()
    assert_versions_follow_commits(database)


def test_an_upsert_that_waits_for_a_delete_inserts_with_the_higher_version(database: Database) -> None:
    upsert = f"{INSERT} ON CONFLICT (sku) DO UPDATE SET name = excluded.name"
    database.write("catalog", INSERT)
    with database.connect("catalog", autocommit=False) as deleter, database.connect("catalog") as writer:
        deleter.execute("UPDATE catalog.products SET name = 'locked'")
        with database.blocked(writer, upsert):
            deleter.execute("DELETE FROM catalog.products")
            deleter.commit()
    assert [change for _, change in database.story("catalog")][-2:] == ["deleted", "created"]
    assert_versions_follow_commits(database)


SKUS = ("A", "B", "C")
SESSIONS = 8
TRANSACTIONS_A_SESSION = 120


def _insert(random: Random) -> tuple[str, tuple[object, ...]]:
    return "INSERT INTO catalog.products (sku, name) VALUES (%s, %s)", (random.choice(SKUS), random.random())


def _upsert(random: Random) -> tuple[str, tuple[object, ...]]:
    statement, parameters = _insert(random)
    return f"{statement} ON CONFLICT (sku) DO UPDATE SET name = excluded.name", parameters


def _insert_if_absent(random: Random) -> tuple[str, tuple[object, ...]]:
    statement, parameters = _insert(random)
    return f"{statement} ON CONFLICT DO NOTHING", parameters


def _update(random: Random) -> tuple[str, tuple[object, ...]]:
    return "UPDATE catalog.products SET name = %s WHERE sku = %s", (random.random(), random.choice(SKUS))


def _delete(random: Random) -> tuple[str, tuple[object, ...]]:
    return "DELETE FROM catalog.products WHERE sku = %s", (random.choice(SKUS),)


def _move(random: Random) -> tuple[str, tuple[object, ...]]:
    return "UPDATE catalog.products SET sku = %s WHERE sku = %s", tuple(random.sample(SKUS, 2))


WRITES: tuple[Callable[[Random], tuple[str, tuple[object, ...]]], ...] = (
    _insert,
    _upsert,
    _insert_if_absent,
    _update,
    _update,
    _delete,
    _delete,
    _move,
)


def test_random_sessions_on_three_keys(database: Database) -> None:
    """Eight sessions insert, upsert, update, delete, move and roll back on the same three keys."""
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        random = Random(seed)
        try:
            with database.connect() as connection:
                connection.execute("SET deadlock_timeout = '5ms'")
                connection.execute("SET ROLE catalog")
                for _ in range(TRANSACTIONS_A_SESSION):
                    try:
                        with connection.transaction(force_rollback=random.random() < 0.1):
                            for _ in range(random.randint(1, 4)):
                                statement, parameters = random.choice(WRITES)(random)
                                connection.execute(statement.encode(), parameters)
                    except (errors.UniqueViolation, errors.DeadlockDetected):
                        continue
        except BaseException as error:  # noqa: BLE001 - shown by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(SESSIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(database.outbox("catalog")) > SESSIONS * TRANSACTIONS_A_SESSION // 4
    assert_versions_follow_commits(database)
