"""A source database that was restored to an earlier point: told, and made good by the page on failures."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from syncline.provision import provision
from syncline.services.schema import install_all
from syncline.settings import Settings
from syncline.stack.stack import Stack
from tests.acceptance.world import World
from tests.own import but
from tests.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "failures.md"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Stack]:
    """A PostgreSQL of this test alone."""
    stack = Stack(tmp_path, ["postgres"])
    with stack.while_this_process_lives():
        yield stack


def sell(world: World, *statements: str) -> None:
    with psycopg.connect(world.settings.postgres_dsn.get_secret_value(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def names(world: World) -> dict[str, str]:
    with world.elasticsearch() as client:
        client.indices.refresh(index=world.settings.search_alias)
        hits = client.search(index=world.settings.search_alias, size=100)["hits"]["hits"]
    return {hit["_id"]: hit["_source"].get("name") for hit in hits}


@pytest.mark.timeout(240)
def test_a_restored_source_is_told_and_copies_come_to_its_state(
    settings: Settings, database: Stack, tmp_path: Path
) -> None:
    postgres_dsn = str(database.addresses()["postgres_dsn"])
    name = f"r{uuid4().hex[:12]}"
    own = but(settings, home=tmp_path, postgres_dsn=postgres_dsn, topic_prefix=name, search_alias=name)
    install_all(own.source_dsns)
    provision(own)
    shop = World(own)
    data = database.servers["postgres"].data
    with shop.search():
        with shop.relay():
            sell(shop, "INSERT INTO catalog.products (sku, name, status) VALUES ('A', 'old', 'active')")
            eventually(lambda: names(shop) == {"A": "old"}, what="the first change")
        database.stop("postgres")
        shutil.copytree(data, tmp_path / "backup")
        database.start("postgres")
        with shop.relay():
            sell(
                shop,
                "UPDATE catalog.products SET name = 'lost' WHERE sku = 'A'",
                "INSERT INTO catalog.products (sku, name, status) VALUES ('B', 'lost', 'active')",
            )
            eventually(lambda: names(shop) == {"A": "lost", "B": "lost"}, what="what will be lost")

        database.stop("postgres")
        shutil.rmtree(data)
        shutil.copytree(tmp_path / "backup", data)
        for path in (data, *data.rglob("*")):
            shutil.chown(path, *owner_of(tmp_path / "backup" / path.relative_to(data)))
        database.start("postgres")
        with shop.relay() as refused:
            assert refused.wait() == 1
        assert "SourceRestored: the outbox of catalog has come to 1, and 3 was published" in shop.log(
            "outbox_relay"
        ).read_text().replace("\\u0027", "'")

        raised = World(but(shop.settings, generation=2))
        with raised.relay():
            sell(raised, "UPDATE catalog.products SET sku = sku")
            sell(
                raised,
                "INSERT INTO catalog.products (sku) VALUES ('B')",
                "DELETE FROM catalog.products WHERE sku = 'B'",
            )
            eventually(lambda: names(raised) == {"A": "old"}, what="the restored state")
            raised.wait_until_fresh()
            assert raised.verify().is_clean
    assert "UPDATE catalog.products SET sku = sku" in PAGE.read_text(encoding="utf-8")


def owner_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid
