"""What a flow needs on the servers: made once, left alone afterwards, made whole where it was half made."""

from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka.admin import ConfigResource  # type: ignore[attr-defined]
from elasticsearch import Elasticsearch

from syncline import policies, provision
from syncline.model.errors import Unavailable
from syncline.policies.reading import load_policies
from syncline.settings import Settings
from tests.changes import PRODUCT
from tests.log import Log, record
from tests.own import but
from tests.road import Road


def test_again_it_changes_nothing(own: Settings, log: Log) -> None:
    topic = PRODUCT.topic(own.topic_prefix)
    log.append([record(topic, b"k", b"kept")])
    count = len(log.read(topic))
    provision.provision(own)
    assert provision.create_topics(own) == []
    assert not provision.create_search_index(own)
    assert len(log.read(topic)) == count
    with psycopg.connect(own.postgres_dsn.get_secret_value()) as connection:
        for name in ("sync.quarantine", "profiles.customers"):
            assert connection.execute("SELECT to_regclass(%s) IS NOT NULL", (name,)).fetchone() == (True,)


def test_only_the_topics_that_are_missing_are_made(own: Settings, log: Log) -> None:
    topics = [policy.topic(own.topic_prefix) for policy in load_policies().entities]
    log.delete(topics[1:2])
    assert provision.create_topics(own) == topics[1:2]


def test_topics_keep_every_change_and_take_large_ones(own: Settings, log: Log) -> None:
    topic = PRODUCT.topic(own.topic_prefix)
    asked = ConfigResource(ConfigResource.Type.TOPIC, topic)
    [described] = log.admin.describe_configs([asked]).values()
    values = {name: entry.value for name, entry in described.result(10).items()}
    assert values["cleanup.policy"] == "delete"
    assert values["message.timestamp.type"] == "LogAppendTime"
    assert int(values["max.message.bytes"]) >= 8 * 1024 * 1024
    partitions = log.admin.list_topics(topic, timeout=10).topics[topic].partitions
    assert len(partitions) == own.topic_partitions


def test_searches_see_only_what_is_to_be_shown(own: Settings) -> None:
    with Elasticsearch(own.elasticsearch_url.get_secret_value()) as client:
        for sku, hidden in (("provision-shown", False), ("provision-hidden", True)):
            body: dict[str, Any] = {"sku": sku, "name": "teapot", "_sync": {"hidden": hidden}}
            client.index(index=own.search_alias, id=sku, document=body, refresh=True)
        found = client.search(index=own.search_alias, query={"match": {"name": "teapot"}})
        assert [hit["_id"] for hit in found["hits"]["hits"]] == ["provision-shown"]


def test_a_currency_of_the_policies_can_be_searched(own: Settings, tmp_path: Path) -> None:
    for file in resources.files(policies).iterdir():
        if file.name.endswith(".toml"):
            (tmp_path / file.name).write_text(file.read_text().replace('"EUR", "USD", "GBP"', '"SEK"'))
    body = provision.search_index(but(own, policies_dir=tmp_path))
    prices = body["mappings"]["properties"]["prices"]["properties"]
    assert set(prices) == {"SEK", "CHF", "JPY"}
    assert prices["SEK"]["properties"]["list_e4"] == {"type": "long"}


def test_a_recovery_folder_is_kept_and_a_half_made_one_made_anew(own: Settings, tmp_path: Path) -> None:
    here = but(own, home=tmp_path)
    folder = provision.create_recovery_folder(here, "catalog_search")
    parts = sorted(folder.glob("part-*.sqlite3"))
    assert len(parts) == provision.RECOVERY_PARTITIONS
    made = [part.stat().st_ino for part in parts]
    assert provision.create_recovery_folder(here, "catalog_search") == folder
    assert [part.stat().st_ino for part in parts] == made
    parts[0].unlink()
    provision.create_recovery_folder(here, "catalog_search")
    assert sorted(folder.glob("part-*.sqlite3")) == parts


def test_servers_that_are_away_are_told(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provision, "TIMEOUT_SECONDS", 1.0)
    with Road(1, is_open=False) as road:
        with pytest.raises(Unavailable):
            provision.create_topics(but(own, kafka_bootstrap_servers=road.address))
        with pytest.raises(Unavailable):
            provision.create_search_index(but(own, elasticsearch_url=f"http://{road.address}"))
