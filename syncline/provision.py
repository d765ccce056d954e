"""What the flows need on the servers before they run: topics, the index, schemas, a folder.

Everything here may be run again; what is there stays as it is, but for the index's mapping, to which
fields may be added.
"""

import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import orjson
from bytewax.recovery import init_db_dir
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from sinks.elasticsearch import ElasticsearchStore
from sinks.postgres import install_sync_schema
from sinks.postgres_documents import install_profiles
from syncline import policies
from syncline.kafka import CLIENT_LOG, MAX_RECORD_BYTES, typed
from syncline.policies.reading import load_policies
from syncline.policies.reentry import reentry_topic
from syncline.recovery_folder import check_recovery_folder
from syncline.settings import Settings

RECOVERY_PARTITIONS = 4
"""Fixed when a folder is created. More than the processes that a flow will ever have gains nothing."""
TIMEOUT_SECONDS = 30.0

_TOPIC_SETTINGS = {
    "cleanup.policy": "delete",  # never compacted: a key stands for several prices and warehouses
    "message.timestamp.type": "LogAppendTime",
    "max.message.bytes": str(MAX_RECORD_BYTES),
    "retention.ms": str(7 * 24 * 3600 * 1000),
}


def topics(settings: Settings) -> list[NewTopic]:
    return [
        NewTopic(
            topic,
            num_partitions=settings.topic_partitions,
            replication_factor=settings.topic_replication_factor,
            config=_TOPIC_SETTINGS,
        )
        for topic in (
            *load_policies(settings.policies_dir).topics(settings.topic_prefix),
            reentry_topic(settings.topic_prefix),
        )
    ]


def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing, and return their names."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers}, logger=CLIENT_LOG)
    created = []
    try:
        for name, done in admin.create_topics(topics(settings), request_timeout=TIMEOUT_SECONDS).items():
            try:
                done.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise typed(error.args[0], f"creating the topic {name}") from error
            else:
                created.append(name)
    except KafkaException as error:
        raise typed(error.args[0], "creating topics") from error
    return created


def search_index(settings: Settings) -> dict[str, Any]:
    """Settings, mapping and filtered alias of the index of search documents."""
    body: dict[str, Any] = orjson.loads((resources.files(policies) / "search_index.json").read_bytes())
    price = {
        "dynamic": False,
        "properties": {
            "list_e4": {"type": "long"},
            "sale_e4": {"type": "long"},
            "valid_from": {"type": "date"},
            "valid_to": {"type": "date"},
        },
    }
    currencies = load_policies(settings.policies_dir).allowed("price", "currency")
    prices = body["mappings"]["properties"]["prices"]["properties"]
    prices.update(dict.fromkeys(map(str, currencies), price))
    shown = {"bool": {"must_not": {"term": {"_sync.hidden": True}}}}
    return {**body, "aliases": {settings.search_alias: {"filter": shown, "is_write_index": True}}}


def search_index_name(settings: Settings) -> str:
    return f"{settings.search_alias}-v1"


def create_search_index(settings: Settings) -> bool:
    """Create the index behind its alias; ``False`` where the alias is there."""
    store = ElasticsearchStore(settings.elasticsearch_url.get_secret_value(), settings.search_alias)
    try:
        return store.create_index(search_index_name(settings), search_index(settings))
    finally:
        store.close()


def create_recovery_folder(settings: Settings, flow: str) -> Path:
    """Create the folder for the flow's snapshots; a half-made one is made anew, an unusable one is told."""
    folder = settings.recovery_folder / flow
    made = list(folder.glob("part-*.sqlite3"))
    if len(made) != RECOVERY_PARTITIONS:
        if made:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        init_db_dir(folder, RECOVERY_PARTITIONS)  # type: ignore[no-untyped-call]
    check_recovery_folder(folder)
    return folder


def provision(settings: Settings) -> None:
    """Create all that the flows need."""
    dsn = settings.postgres_dsn.get_secret_value()
    install_sync_schema(dsn)
    install_profiles(dsn)
    create_topics(settings)
    create_search_index(settings)
