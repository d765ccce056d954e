"""Do the servers answer, each of them, now?"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from psycopg.conninfo import conninfo_to_dict
from redis import Redis
from redis.exceptions import RedisError

from syncline import elasticsearch, postgres
from syncline.model.errors import SynclineError
from syncline.settings import Settings

TIMEOUT_SECONDS = 5


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """``error`` is what was wrong; ``None`` where the server answered."""

    name: str
    address: str
    error: str | None


def ask_servers(settings: Settings) -> list[ServerAnswer]:
    """Ask all at once; the longest silence counts."""
    questions = {**_postgres_questions(settings), **_other_questions(settings)}
    with ThreadPoolExecutor(len(questions)) as pool:
        errors = list(pool.map(_error_of, questions.values()))
    return [ServerAnswer(*server, error) for server, error in zip(questions, errors, strict=True)]


_Questions = Mapping[tuple[str, str], Callable[[], object]]


def _postgres_questions(settings: Settings) -> _Questions:
    """One a database: sources may share theirs with Syncline."""
    dsns = {"postgres": settings.postgres_dsn.get_secret_value()}
    for schema, dsn in settings.source_dsns.items():
        if dsn not in dsns.values():
            dsns[f"postgres ({schema})"] = dsn
    return {(name, _postgres_address(dsn)): partial(_ask_postgres, dsn) for name, dsn in dsns.items()}


def _ask_postgres(dsn: str) -> None:
    postgres.connect(dsn, "syncline-status").close()


def _postgres_address(dsn: str) -> str:
    """Without user and password."""
    parts = conninfo_to_dict(dsn)
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}"


def _other_questions(settings: Settings) -> _Questions:
    redis_url = settings.redis_url.get_secret_value()
    elasticsearch_url = settings.elasticsearch_url.get_secret_value()

    def ask_redis() -> None:
        client = Redis.from_url(
            redis_url, socket_connect_timeout=TIMEOUT_SECONDS, socket_timeout=TIMEOUT_SECONDS
        )
        with client:
            client.ping()

    def ask_kafka() -> None:
        admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": 0})
        admin.list_topics(timeout=TIMEOUT_SECONDS)

    def ask_elasticsearch() -> None:
        with elasticsearch.connect(elasticsearch_url, TIMEOUT_SECONDS) as client:
            client.indices.exists_alias(name=settings.search_alias)

    return {
        ("redis", _url_address(redis_url)): ask_redis,
        ("kafka", settings.kafka_bootstrap_servers): ask_kafka,
        ("elasticsearch", _url_address(elasticsearch_url)): ask_elasticsearch,
    }


def _url_address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def _error_of(question: Callable[[], object]) -> str | None:
    try:
        question()
    except (SynclineError, KafkaException, *elasticsearch.FAILURES, RedisError) as error:
        return str(error).strip().splitlines()[0]
    return None
