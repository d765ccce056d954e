"""Readers fill while writers invalidate, on a real Redis: in the end no entry says what the store no longer
says.

Besides, no hit may be older than what had been invalidated when the read began. Leases run out, tokens and
whole epochs are lost, and what the store has none of comes and goes. ``SYNCLINE_CACHE_ROUNDS=100000 pytest
tests/reads/test_races.py`` looks deeper; a round is one read.
"""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from redis import Redis

from sinks.redis_invalidation import RedisInvalidation
from syncline.model.cache import EPOCH_OF_ALL, lease_key, token_keys
from syncline.model.errors import Unavailable
from syncline.reads import Lifetimes, Reads, Source

ROUNDS = int(os.environ.get("SYNCLINE_CACHE_ROUNDS", "4000"))
READERS, WRITERS = 6, 2
PRODUCTS, CATEGORIES = 40, 4

pytestmark = pytest.mark.timeout(max(180, ROUNDS // 50))


class Store:
    """What is right: a version of each product, and a listing of each category that counts all of its
    versions."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._versions: Counter[str] = Counter()

    def write(self, *names: str) -> list[int]:
        with self._lock:
            for name in names:
                self._versions[name] += 1
            return [self._versions[name] for name in names]

    def read(self, name: str) -> bytes | None:
        """Of each product every fifth version is that there is none."""
        with self._lock:
            version = self._versions[name]
        return None if name.startswith("product:") and version % 5 == 0 else b"%d" % version


class Race:
    def __init__(self, redis_url: str, redis: Redis, flow: RedisInvalidation) -> None:
        self.store = Store()
        self.invalidated: Counter[str] = Counter()
        """By name the version that must be seen by each read that begins now."""
        self.seen: Counter[str] = Counter()
        self.stale_hits: list[str] = []
        self._redis_url = redis_url
        self._redis = redis
        self._flow = flow
        self._is_over = threading.Event()

    def run(self) -> None:
        with ThreadPoolExecutor(READERS + WRITERS) as threads:
            writers = [threads.submit(self._write, seed) for seed in range(WRITERS)]
            readers = [threads.submit(self._read, seed, ROUNDS // READERS) for seed in range(READERS)]
            for reader in readers:
                reader.result()
            self._is_over.set()
            for writer in writers:
                writer.result()

    def left_stale(self) -> list[str]:
        """The names whose entry, as a reader would get it now without reading the store, is wrong."""
        reads, wrong = Reads(self._redis_url, flow="race"), []
        for name, tags in every_name():
            try:
                answer = reads.get(name, _no_store, tags)
            except Unavailable:
                continue
            if not answer.stale and answer.value != self.store.read(name):
                wrong.append(name)
        reads.close()
        return wrong

    def _write(self, seed: int) -> None:
        draw = random.Random(seed)
        while not self._is_over.is_set():
            number = draw.randrange(PRODUCTS)
            product, category = f"product:{number}", f"category:{number % CATEGORIES}"
            listing = f"listing:{number % CATEGORIES}"
            versions = self.store.write(product, listing)
            self._flow.invalidate([product, category])
            for name, version in zip((product, listing), versions, strict=True):
                self.invalidated[name] = max(self.invalidated[name], version)
            if draw.random() < 0.02:
                lost = draw.choice([EPOCH_OF_ALL, *token_keys(product), lease_key(product)])
                self._redis.delete(lost)
            time.sleep(draw.random() * 0.004)

    def _read(self, seed: int, rounds: int) -> None:
        draw = random.Random(1_000 + seed)
        # Every other reader is often later than its lease.
        lease = timedelta(seconds=5) if seed % 2 else timedelta(milliseconds=2)
        reads = Reads(self._redis_url, flow="race", lifetimes=Lifetimes(lease=lease))
        names = every_name()
        for _ in range(rounds):
            name, tags = draw.choice(names)
            must_be_seen = self.invalidated[name]
            answer = reads.get(name, lambda name=name: self._load(name, draw), tags)  # type: ignore[misc]
            self.seen[answer.source] += 1
            self.seen["stored"] += answer.stored
            self.seen[answer.detail] += 1
            is_hit = answer.source is Source.CACHE and not answer.stale
            if is_hit and answer.value is not None and int(answer.value) < must_be_seen:
                self.stale_hits.append(name)
        reads.close()

    def _load(self, name: str, draw: random.Random) -> bytes | None:
        value = self.store.read(name)
        if draw.random() < 0.3:
            time.sleep(draw.random() * 0.004)
        return value


def every_name() -> list[tuple[str, Collection[str]]]:
    products: list[tuple[str, Collection[str]]] = [(f"product:{number}", ()) for number in range(PRODUCTS)]
    return products + [(f"listing:{number}", [f"category:{number}"]) for number in range(CATEGORIES)]


def _no_store() -> bytes:
    raise Unavailable


def test_no_stale_entry_is_left_and_none_is_served(
    redis_url: str, redis: Redis, flow: RedisInvalidation
) -> None:
    race = Race(redis_url, redis, flow)
    race.run()
    assert race.seen[Source.CACHE] > ROUNDS // 50
    assert race.seen["stored"] > 0
    assert race.seen["overtaken"] > 0, "no fill raced an invalidation: this shows nothing"
    assert race.stale_hits == []
    assert race.left_stale() == []
