"""What a person mends while `syncline run` goes on trying: the index, its disk, a password."""

import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from elasticsearch import Elasticsearch
from psycopg import conninfo, sql

from syncline.provision import create_search_index, search_index_name
from syncline.settings import Settings
from syncline.supervisor import Backoff, Supervisor
from tests.log import Log
from tests.own import but, own_settings
from tests.process.probes import read_so_far
from tests.process.test_flow import is_indexed, produce
from tests.process.test_supervisor import supervised
from tests.services.database import Database
from tests.waiting import eventually

AT_ONCE = Backoff(timedelta(seconds=0.1), timedelta(seconds=0.5))
ROLE, FIRST, SECOND = "own_rotated", "the first password", "the second password"


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    with own_settings(settings, "mending", redis_database=10, home=tmp_path) as own:
        yield own


@pytest.fixture
def told(database: Database) -> Callable[[str], bool]:
    """Whether a failure that begins so is on record."""

    def is_told(beginning: str) -> bool:
        rows = database.ask("SELECT error FROM sync.status WHERE state = 'failed'")
        return any(error.startswith(beginning) for (error,) in rows)

    return is_told


@pytest.fixture
def client(own: Settings) -> Iterator[Elasticsearch]:
    with Elasticsearch(own.elasticsearch_url.get_secret_value()) as client:
        yield client


@pytest.mark.timeout(180)
def test_an_index_that_was_deleted_is_not_made_by_a_write_and_is_loaded_again_when_it_is_back(
    own: Settings, log: Log, client: Elasticsearch, told: Callable[[str], bool], tmp_path: Path
) -> None:
    supervisor = Supervisor("catalog_search", 1, lambda: own, AT_ONCE, tmp_path / "flow.log")
    with supervised(supervisor):
        produce(log, own, "before")
        eventually(lambda: is_indexed(own, "before"), what="the index")
        recovery = own.recovery_folder / "catalog_search"
        eventually(lambda: read_so_far("catalog_search", recovery), what="a snapshot")
        client.indices.delete(index=search_index_name(own))
        produce(log, own, "after")
        eventually(lambda: told(f"MissingResource: the alias {own.search_alias}"), what="word of the index")
        assert not client.indices.exists(index=own.search_alias), "a write made an index without a mapping"
        create_search_index(own)
        eventually(lambda: told("CopyReplaced: the snapshot was taken with"), what="word of the new index")
        assert not is_indexed(own, "after")
        shutil.rmtree(recovery)
        eventually(lambda: is_indexed(own, "before") and is_indexed(own, "after"), what="the load")


@pytest.mark.timeout(180)
def test_a_full_disk_of_elasticsearch_holds_the_place_until_there_is_room(
    own: Settings, log: Log, client: Elasticsearch, told: Callable[[str], bool], tmp_path: Path
) -> None:
    """As its flood-stage watermark does it; a server with room lifts the block itself after a while."""
    said = tmp_path / "flow.log"
    supervisor = Supervisor("catalog_search", 1, lambda: own, AT_ONCE, said)
    with supervised(supervisor):
        produce(log, own, "before")
        eventually(lambda: is_indexed(own, "before"), what="the index")
        blocked = {"index.blocks.read_only_allow_delete": True}
        client.indices.put_settings(index=search_index_name(own), settings=blocked)
        produce(log, own, "held")
        eventually(lambda: "cluster_block_exception" in said.read_text(), what="word of the block")
        assert not is_indexed(own, "held")
        client.indices.put_settings(index=search_index_name(own), settings=dict.fromkeys(blocked))
        eventually(lambda: is_indexed(own, "held"), what="the change that was held")
        assert not told(""), "it was held, and the flow did not end"


@pytest.fixture
def rotate(own: Settings) -> Iterator[Callable[[str], None]]:
    """Set the password of a role that may do all that a flow does."""
    with psycopg.connect(own.postgres_dsn.get_secret_value(), autocommit=True) as connection:

        def rotate(password: str) -> None:
            alter = sql.SQL("ALTER ROLE {} PASSWORD {}")
            connection.execute(alter.format(sql.Identifier(ROLE), sql.Literal(password)))

        connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(ROLE)))
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER").format(sql.Identifier(ROLE)))
        yield rotate
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [ROLE]
        )
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(ROLE)))


@pytest.mark.timeout(180)
def test_a_password_that_was_rotated_is_told_at_the_next_connection_and_read_anew(
    own: Settings,
    log: Log,
    database: Database,
    told: Callable[[str], bool],
    rotate: Callable[[str], None],
    tmp_path: Path,
) -> None:
    passwords = [FIRST]

    def load() -> Settings:
        dsn = conninfo.make_conninfo(own.postgres_dsn.get_secret_value(), user=ROLE, password=passwords[-1])
        return but(own, postgres_dsn=dsn)

    rotate(FIRST)
    said = tmp_path / "relay.log"
    with supervised(Supervisor("outbox_relay", 1, load, AT_ONCE, said)):
        database.write("catalog", "INSERT INTO catalog.products (sku) VALUES ('before')")
        eventually(lambda: not database.outbox("catalog"), what="the first change")
        rotate(SECOND)
        database.write("catalog", "INSERT INTO catalog.products (sku) VALUES ('while')")
        eventually(lambda: not database.outbox("catalog"), what="a change over connections that there were")
        database.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (ROLE,))
        eventually(lambda: "BadCredentials: PostgreSQL refuses" in said.read_text(), what="the refusal")
        assert f'failed for user \\"{ROLE}\\"' in said.read_text()
        database.write("catalog", "INSERT INTO catalog.products (sku) VALUES ('after')")
        assert len(database.outbox("catalog")) == 1
        passwords.append(SECOND)
        eventually(lambda: not database.outbox("catalog"), what="the change that waited")
