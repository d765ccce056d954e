"""What the services do during a battle, and others beside them: decided by chance from the seed.

Each transaction is committed exactly once, whatever becomes of the database meanwhile: it leaves its number
in ``chaos.committed``, and where the answer to a commit was lost the number is looked up before it is tried
again.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from queue import Full, Queue
from random import Random
from typing import Any, NamedTuple

import orjson
import psycopg
from confluent_kafka import Producer
from redis import Redis
from redis.exceptions import RedisError

from syncline.policies.reading import load_policies
from syncline.postgres import Connection
from syncline.services.customer_workload import LANES as CUSTOMER_LANES
from syncline.services.customer_workload import ConcurrentEdits, CustomerMix, CustomerWorkload
from syncline.services.lanes import STATEMENTS
from syncline.services.workload import LANES, Mix, Transaction, Workload, merged
from syncline.settings import Settings
from tests.changes import payload, price

SHOP_RATE = 100
CUSTOMER_RATE = 50
"""Transactions a second."""
PRODUCTS = 150
HOT = [f"SKU-{number:06d}" for number in range(1, 21)]
"""The products that are changed most."""
MIX = Mix(launch=2, discontinue=4, relaunch=3, skew=1.1)
CUSTOMER_MIX = CustomerMix(forget=4, concurrent=0.1)
FORGED = "forged"
"""A header that marks what no relay published."""
_SET_UP = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.committed (number bigint PRIMARY KEY);
CREATE TABLE chaos.invalid (entity text NOT NULL, version bigint NOT NULL);
CREATE TABLE chaos.outbox (schema text, seq bigint, PRIMARY KEY (schema, seq));
CREATE FUNCTION chaos.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO chaos.outbox VALUES (TG_TABLE_SCHEMA, NEW.seq);
    RETURN NULL;
END
$$;
CREATE TRIGGER chaos AFTER INSERT ON catalog.outbox FOR EACH ROW EXECUTE FUNCTION chaos.note();
CREATE TRIGGER chaos AFTER INSERT ON pricing.outbox FOR EACH ROW EXECUTE FUNCTION chaos.note();
CREATE TRIGGER chaos AFTER INSERT ON warehouse.outbox FOR EACH ROW EXECUTE FUNCTION chaos.note();
CREATE TRIGGER chaos AFTER INSERT ON customers.outbox FOR EACH ROW EXECUTE FUNCTION chaos.note();
GRANT USAGE ON SCHEMA chaos TO PUBLIC;
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA chaos TO PUBLIC;
"""
_OF_MANY = {
    "pricing": b"UPDATE pricing.prices SET list_amount = list_amount + 0.01 WHERE sku NOT LIKE 'BAD%'",
    "warehouse": b"UPDATE warehouse.stock SET on_hand = on_hand + 1 WHERE on_hand < 2000000000",
}
_PUT_LATE = """
INSERT INTO catalog.products (sku, name) VALUES (%s, 'Late')
ON CONFLICT (sku) DO UPDATE SET name = left(products.name || '.', 100)
"""
_BREAK_A_RULE = """
INSERT INTO pricing.prices (sku, currency, list_amount, sale_amount)
VALUES (%(sku)s, 'EUR', 1, 1 + %(excess)s)
ON CONFLICT (sku, currency) DO UPDATE SET sale_amount = excluded.sale_amount
"""
_NOTE_INVALID = """
INSERT INTO chaos.invalid SELECT 'price:EUR:' || sku, version FROM pricing.prices WHERE sku = %(sku)s
"""
_SEED_CACHE = """
local now = redis.call('TIME')
for _, key in ipairs(KEYS) do
    redis.call('SET', key, now[1] .. string.format('%06d', now[2]), 'NX')
end
"""
"""By the clock of Redis at the moment of the write: a paused server may get to it late."""
_WAIT_SECONDS = 0.1
_FORGER_LOG = logging.getLogger("forger")
_FORGER_LOG.propagate = False
"""Kafka's client tells of each connection that it could not make."""
_CONNECT_TIMEOUT_SECONDS = 5

Act = Callable[[Connection], None]


class _Late(NamedTuple):
    """A transaction that takes its time."""

    sku: str
    number: int
    pause_seconds: float
    chance: float
    """Of what becomes of the product."""
    is_kept: bool


class RolledBack(Exception):
    """Raised within a transaction to undo it."""


class Committer:
    """One thread's commits, as one service after another."""

    def __init__(self, dsn: str, numbers: Iterator[int]) -> None:
        self._dsn = dsn
        self._numbers = numbers
        self._connection: Connection | None = None
        self.committed = 0
        self.in_doubt = 0
        """Commits whose answer was lost."""

    def commit(self, service: str, act: Act) -> None:
        """Commit what ``act`` does, once; wait as long as the database is away."""
        number, is_in_doubt = next(self._numbers), False
        while True:
            try:
                connection = self._connection or self._connect()
                if is_in_doubt and _is_committed(connection, number):
                    self.in_doubt += 1
                    break
                is_in_doubt = True
                self._transact(connection, service, number, act)
                break
            except RolledBack:
                return
            except psycopg.OperationalError:
                self.close()
                time.sleep(_WAIT_SECONDS)
        self.committed += 1

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> Connection:
        self._connection = psycopg.connect(
            self._dsn, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_SECONDS, application_name="chaos"
        )
        return self._connection

    def _transact(self, connection: Connection, service: str, number: int, act: Act) -> None:
        with connection.transaction():
            connection.execute(f"SET LOCAL ROLE {service}".encode())
            connection.execute("INSERT INTO chaos.committed VALUES (%s)", (number,))
            act(connection)


def _is_committed(connection: Connection, number: int) -> bool:
    found = connection.execute("SELECT FROM chaos.committed WHERE number = %s", (number,)).fetchone()
    return found is not None


def _make(transaction: Transaction) -> Act:
    def act(connection: Connection) -> None:
        for statement in transaction.statements:
            connection.execute(STATEMENTS[statement.name], [orjson.dumps(statement.rows).decode()])

    return act


class Load:
    """Everybody who writes, while they do."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.concurrent: list[ConcurrentEdits] = []
        """Edits that must be audited, each pair once."""
        self._settings = settings
        self._dsn = settings.postgres_dsn.get_secret_value()
        self._seed = seed
        self._numbers = count(1)
        self._over = threading.Event()
        self._queues: dict[str, Queue[Transaction | None]] = {
            lane: Queue(1_000) for lane in (*LANES, *CUSTOMER_LANES)
        }
        self._committers: list[Committer] = []
        self._failures: list[BaseException] = []
        self._workload = Workload(Random(seed), MIX)
        self._customers = CustomerWorkload(Random(seed), CUSTOMER_MIX, self.concurrent.append)

    @property
    def told(self) -> str:
        committed = sum(committer.committed for committer in self._committers)
        in_doubt = sum(committer.in_doubt for committer in self._committers)
        return f"{committed:,} transactions committed, {in_doubt} of them without an answer"

    def set_up(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute(_SET_UP)
        committer = self._committer()
        for transaction in merged(part for _ in range(PRODUCTS) for part in self._workload.launch()):
            committer.commit(transaction.service, _make(transaction))
        committer.close()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Leaving the block ends the work, and waits until all that was begun is committed."""
        feeding = [
            self._thread(self._feed, self._workload.transactions(), SHOP_RATE),
            self._thread(self._feed, self._customers.transactions(), CUSTOMER_RATE),
            self._thread(self._meddle),
            self._thread(self._meddle_with_many),
            self._thread(self._break_rules),
            self._thread(self._forge),
            self._thread(self._fill_cache),
        ]
        committing = [self._thread(self._work_off, lane) for lane in self._queues]
        try:
            yield
        finally:
            self._over.set()
            for thread in feeding:
                thread.join()
            for queue in self._queues.values():
                queue.put(None)
            for thread in committing:
                thread.join()
        if self._failures:
            raise self._failures[0]

    def _thread(self, work: Callable[..., None], *arguments: object) -> threading.Thread:
        def run() -> None:
            try:
                work(*arguments)
            except BaseException as error:  # noqa: BLE001 - raised again where the work is waited for
                self._failures.append(error)

        thread = threading.Thread(target=run, name=work.__name__, daemon=True)
        thread.start()
        return thread

    def _committer(self) -> Committer:
        self._committers.append(Committer(self._dsn, self._numbers))
        return self._committers[-1]

    def _feed(self, transactions: Iterator[Transaction], rate: float) -> None:
        """At the pace, less what the database was away."""
        due = time.monotonic()
        while not self._over.is_set():
            transaction = next(transactions)
            queue = self._queues[transaction.lane]
            while True:
                with suppress(Full):
                    queue.put(transaction, timeout=_WAIT_SECONDS)
                    break
            due = max(due + 1 / rate, time.monotonic() - 1)
            self._over.wait(max(0.0, due - time.monotonic()))

    def _work_off(self, lane: str) -> None:
        committer = self._committer()
        while (transaction := self._queues[lane].get()) is not None:
            committer.commit(transaction.service, _make(transaction))
        committer.close()

    def _meddle(self) -> None:
        """Transactions that take their time, and some that come to nothing, on what is changed most."""
        draw, committer = Random(f"{self._seed}/meddle"), self._committer()
        while not self._over.is_set():
            drawn = _Late(
                draw.choice(HOT),
                draw.randrange(10),
                draw.uniform(0.1, 1.5),
                draw.random(),
                draw.random() < 0.6,
            )
            committer.commit("catalog", partial(self._make_late, drawn))
        committer.close()

    def _make_late(self, drawn: "_Late", connection: Connection) -> None:
        connection.execute(_PUT_LATE, (f"LATE-{drawn.number}",))
        self._over.wait(drawn.pause_seconds)
        connection.execute("SAVEPOINT before")
        connection.execute("DELETE FROM catalog.products WHERE sku = %s", (drawn.sku,))
        if drawn.chance < 0.5:
            connection.execute("ROLLBACK TO before")
        elif drawn.chance < 0.8:
            connection.execute(
                "INSERT INTO catalog.products (sku, name, status) VALUES (%s, 'Again', 'active')",
                (drawn.sku,),
            )
        if not drawn.is_kept:
            raise RolledBack

    def _meddle_with_many(self) -> None:
        draw, committer = Random(f"{self._seed}/many"), self._committer()
        while not self._over.wait(draw.uniform(1, 5)):
            service, statement = draw.choice(list(_OF_MANY.items()))

            def act(connection: Connection, statement: bytes = statement) -> None:
                connection.execute(statement)

            committer.commit(service, act)
        committer.close()

    def _break_rules(self) -> None:
        """Prices above which the sale price lies: no copy may have them, and each waits in quarantine."""
        draw, committer = Random(f"{self._seed}/rules"), self._committer()
        while not self._over.wait(draw.uniform(0.1, 0.6)):
            given = {"sku": f"BAD-{draw.randrange(30)}", "excess": draw.randrange(1, 10_000) / 100}

            def act(connection: Connection, given: dict[str, Any] = given) -> None:
                connection.execute(_BREAK_A_RULE, given)
                connection.execute(_NOTE_INVALID, given)

            committer.commit("pricing", act)
        committer.close()

    def _forge(self) -> None:
        """Messages that nobody can read, and changes by a service that does not own what it changes."""
        draw = Random(f"{self._seed}/forge")
        prefix = self._settings.topic_prefix
        policies = load_policies()
        topics = [policy.topic(prefix) for policy in policies.entities]
        catalog = next(policy.topic(prefix) for policy in policies.entities if policy.type == "product")
        producer = Producer(
            {
                "bootstrap.servers": self._settings.kafka_bootstrap_servers,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
            },
            logger=_FORGER_LOG,
        )
        for number in count(1):
            if self._over.wait(draw.uniform(0.1, 0.6)):
                break
            sku = draw.choice(HOT)
            forged = orjson.dumps(payload("price", price(sku, list_amount="0.0100"), 1_000_000 + number))
            topic, value = draw.choice([(draw.choice(topics), b"{forged %d" % number), (catalog, forged)])
            with suppress(BufferError):
                producer.produce(topic, key=sku.encode(), value=value, headers=[(FORGED, b"1")])
            producer.poll(0)
        producer.flush(60)

    def _fill_cache(self) -> None:
        """Entries that the next change of their product makes stale."""
        keys = cache_keys(HOT)
        with Redis.from_url(
            self._settings.redis_url.get_secret_value(), socket_timeout=2, socket_connect_timeout=2
        ) as redis:
            while not self._over.wait(_WAIT_SECONDS):
                with suppress(RedisError):
                    redis.eval(_SEED_CACHE, len(keys), *keys)


def cache_keys(skus: Sequence[str]) -> list[str]:
    return [f"product:{sku}" for sku in skus]
