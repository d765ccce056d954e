"""A cache of these tests' own, and the flow's side of it."""

from collections.abc import Iterator

import pytest
from redis import Redis

from sinks.redis_invalidation import RedisInvalidation
from syncline.circuit import Circuits
from syncline.settings import Settings
from syncline.stopping import Stop

DATABASE = 10


@pytest.fixture
def redis_url(settings: Settings) -> str:
    return f"{settings.redis_url.get_secret_value().rpartition('/')[0]}/{DATABASE}"


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as redis:
        redis.flushdb()
        yield redis
        redis.flushdb()


@pytest.fixture
def flow(redis_url: str, redis: Redis) -> Iterator[RedisInvalidation]:
    """It knows the server already: else its first invalidation is of everything."""
    flow = RedisInvalidation(redis_url, Circuits(Stop()).redis)
    flow.invalidate(["none:of-interest"])
    yield flow
    flow.close()
