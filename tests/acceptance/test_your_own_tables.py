"""docs/your-own-tables.md, followed to the letter: other names, columns, keys and topic, by TOML alone."""

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import orjson
import psycopg
import pytest
from elasticsearch import Elasticsearch
from typer.testing import CliRunner

from syncline import policies
from syncline.console.policies import app
from syncline.monitor.verification import verify
from syncline.policies.reading import load_policies
from syncline.provision import provision
from syncline.settings import Settings
from tests.log import Log
from tests.own import but, own_settings
from tests.process.running import Running
from tests.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "your-own-tables.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def of(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Syncline's own policies, and the page's in the place of one."""
    for file in resources.files(policies).iterdir():
        if file.name.endswith(".toml"):
            (tmp_path / file.name).write_text(file.read_text())
    [product] = of("toml")
    name = product.partition("\n")[0].rpartition("/")[2]
    assert (tmp_path / name).exists()
    (tmp_path / name).write_text(product)
    return tmp_path


@pytest.fixture
def own(settings: Settings, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("own-tables")
    with own_settings(settings, "own-tables", redis_database=11, home=home) as usual:
        own = but(usual, policies_dir=folder)
        log, topics = Log(own.kafka_bootstrap_servers), load_policies(folder).topics(own.topic_prefix)
        log.delete([topic for topic in topics if topic in log.admin.list_topics(timeout=10).topics])
        yield own


def shown(own: Settings) -> dict[str, dict[str, object]]:
    """What a search finds, without what the page does not speak of."""
    with Elasticsearch(own.elasticsearch_url.get_secret_value()) as client:
        client.indices.refresh(index=own.search_alias)
        hits = client.search(index=own.search_alias, query={"match_all": {}})["hits"]["hits"]
    fields = ("name", "brand", "category")
    return {hit["_id"]: {field: hit["_source"][field] for field in fields} for hit in hits}


def test_the_page_works_as_it_stands(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in own.as_environment().items():
        monkeypatch.setenv(name, value)
    table, changes, off_the_list, all_again = of("sql")
    [found] = of("json")
    with (
        psycopg.connect(own.postgres_dsn.get_secret_value(), autocommit=True) as erp,
        Running(own) as running,
    ):
        erp.execute(table.encode())
        assert CliRunner().invoke(app, ["check"]).exit_code == 0
        sql = CliRunner().invoke(app, ["outbox", "product"], catch_exceptions=False).stdout
        erp.execute(sql.encode())
        provision(own)
        for flow in ("outbox_relay", "catalog_search"):
            running.start(flow)

        erp.execute(changes.encode())
        eventually(lambda: shown(own) == orjson.loads(found), what=found)

        erp.execute(off_the_list.encode())
        eventually(lambda: set(shown(own)) == {"A-1"}, what="A-2 to leave")
        erp.execute(all_again.encode())
        report = verify("catalog_search", own)
        assert report.is_clean, report
        assert report.in_source == 3
