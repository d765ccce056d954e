"""A Redis that is killed, paused, or restarted with an old state, and what a flow and a reader make of it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

import sinks.redis_invalidation
from sinks.redis_invalidation import InvalidateLogic, RedisInvalidation
from syncline.circuit import Circuits
from syncline.clock import system_clock_us
from syncline.model.answer import Source
from syncline.model.decision import Applied, Decided, Decision, Stamps, Verdict
from syncline.policies.cache_keys import PRODUCT_RULES
from syncline.reads import Reads
from syncline.stack.stack import Stack
from syncline.stopping import Stop
from tests.changes import product_part
from tests.waiting import eventually


class World:
    """A Redis, one lane of a flow, and a reader, each with a connection of its own."""

    def __init__(self, home: Path) -> None:
        self.stack = Stack(home, ("redis",))
        self.url = self.stack.up()["redis_url"]
        with Redis.from_url(self.url) as redis:
            self.pid: int = redis.info("server")["process_id"]
        self.cache = RedisInvalidation(self.url, Circuits(Stop()).redis)
        self.lane = InvalidateLogic(self.cache, PRODUCT_RULES.stale, None, system_clock_us, None)
        self.reads = Reads(self.url, flow="catalog_search")
        self.change("SKU-0")

    def close(self) -> None:
        self.cache.close()
        self.reads.close()
        self.stack.down()

    def change(self, sku: str) -> None:
        part = product_part(sku=sku)
        verdict = Verdict(part, Decision.APPLIED)
        self.lane.on_batch([Decided([Applied(sku, [verdict], 1, Stamps(0, 0, 0, 0))])])

    def read(self, name: str, value: bytes) -> bytes | None:
        return self.reads.get(name, lambda: value).value

    @property
    def pending(self) -> list[str]:
        kept: list[str] = self.lane.snapshot()["pending"]
        return kept

    def await_the_flow(self) -> None:
        def is_sent() -> bool:
            self.lane.on_notify()
            return not self.pending

        eventually(is_sent, what="the sending of what was kept")

    def await_the_reader(self) -> None:
        eventually(lambda: self.reads.get("none:of-interest", lambda: b"").source is Source.CACHE)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "home")
    yield world
    world.close()


def test_what_redis_did_not_take_is_kept_and_taken_when_it_is_back(world: World) -> None:
    assert world.read("product:SKU-1", b"v1") == b"v1"
    world.stack.kill("redis")
    world.change("SKU-1")
    assert "product:SKU-1" in world.pending
    assert world.read("product:SKU-1", b"v2") == b"v2", "the store answers"
    world.stack.start("redis")
    world.await_the_flow()
    world.await_the_reader()
    assert world.read("product:SKU-1", b"v3") == b"v3"


def test_an_entry_that_outlived_the_outage_is_stale_when_it_is_over(world: World) -> None:
    for sku in ("SKU-1", "SKU-2"):
        world.read(f"product:{sku}", b"v1")
    os.kill(world.pid, signal.SIGSTOP)
    world.change("SKU-1")
    assert "product:SKU-1" in world.pending
    os.kill(world.pid, signal.SIGCONT)
    world.await_the_flow()
    world.await_the_reader()
    assert world.read("product:SKU-1", b"v2") == b"v2"
    assert world.read("product:SKU-2", b"v2") == b"v1", "nothing happened to this one"


def test_with_more_than_is_kept_all_of_the_namespace_is_stale(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks.redis_invalidation, "MAX_WAITING_NAMES", 10)
    for name in ("product:SKU-1", "product:unchanged", "customer:1"):
        world.read(name, b"v1")
    os.kill(world.pid, signal.SIGSTOP)
    for number in range(100):
        world.change(f"SKU-{number}")
    assert len(world.pending) <= 10
    os.kill(world.pid, signal.SIGCONT)
    world.await_the_flow()
    world.await_the_reader()
    assert world.read("product:SKU-1", b"v2") == b"v2"
    assert world.read("product:unchanged", b"v2") == b"v2"
    assert world.read("customer:1", b"v2") == b"v1"


def test_a_redis_that_comes_back_with_a_state_of_before_serves_none_of_it(world: World) -> None:
    world.read("product:SKU-1", b"v1")
    with Redis.from_url(world.url) as redis:
        redis.save()
    world.change("SKU-1")
    assert world.pending == [], "it was taken, and is lost with the server"
    world.stack.kill("redis")
    world.stack.start("redis")
    with Redis.from_url(world.url) as redis:
        assert redis.exists("syncline:cache:entry:product:SKU-1"), "the old state is back"
    world.change("SKU-2")
    world.await_the_flow()
    world.await_the_reader()
    assert world.read("product:SKU-1", b"v2") == b"v2"
