import pytest

from bench.scratch import check_servers, is_loopback
from syncline.model.errors import Misconfigured
from syncline.settings import Settings


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]", "", "/run/postgresql"]
)
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "db.example.com", "localhost.example.com", "::2"])
def test_another_machine(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "setting",
    [
        {"postgres_dsn": "host=10.0.0.1 dbname=shop"},
        {"redis_url": "redis://cache.example.com:6379/0"},
        {"kafka_bootstrap_servers": "127.0.0.1:9092,10.0.0.1:9092"},
        {"elasticsearch_url": "https://10.0.0.1:9200"},
    ],
)
def test_no_other_machine_is_put_under_load(setting: dict[str, str]) -> None:
    with pytest.raises(Misconfigured, match=next(iter(setting))):
        check_servers(Settings(**setting))  # type: ignore[arg-type]
