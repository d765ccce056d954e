"""The relay is killed, its broker goes away: nothing is lost, and what comes twice comes as a replay."""

import random
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson
import psycopg
import pytest

from syncline.flow_processes import FlowProcesses, free_ports
from syncline.model.message import Message
from syncline.settings import Settings
from syncline.stack.stack import Stack
from tests.changes import PRODUCT
from tests.log import Log, header
from tests.own import but
from tests.process.probes import get
from tests.process.running import Flow, Running
from tests.services.database import TABLES, Database
from tests.waiting import eventually


class Writer:
    """Commits to a few products of the catalog, again and again, in one thread."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._ended = threading.Event()
        self.committed = 0

    def _write(self) -> None:
        draw = random.Random(7)
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute("SET ROLE catalog")
            while not self._ended.is_set():
                sku = f"S{draw.randrange(8)}"
                if draw.random() < 0.2:
                    connection.execute("DELETE FROM catalog.products WHERE sku = %s", (sku,))
                else:
                    connection.execute(
                        "INSERT INTO catalog.products (sku, name) VALUES (%s, %s) "
                        "ON CONFLICT (sku) DO UPDATE SET name = excluded.name",
                        (sku, str(self.committed)),
                    )
                self.committed += 1
                self._ended.wait(0.001)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        thread = threading.Thread(target=self._write)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()


@pytest.fixture
def topic(own: Settings) -> str:
    return PRODUCT.topic(own.topic_prefix)


@pytest.fixture
def before(log: Log, topic: str) -> set[str]:
    """Where the messages lie that other tests left in the log."""
    return {message.position for message in log.read(topic, committed=False)}


def changes(log: Log, topic: str, since: set[str], *, committed: bool = True) -> list[Message]:
    return [
        message
        for message in log.read(topic, committed=committed)
        if message.value is not None and message.position not in since
    ]


def last_seq(database: Database) -> int:
    [(seq,)] = database.ask(
        "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM catalog.outbox_seq_seq"
    )
    return int(seq)


def await_published(database: Database, count: int) -> None:
    """Until so many rows more have left the outbox."""

    def gone() -> int:
        [(waiting,)] = database.ask("SELECT count(*) FROM catalog.outbox")
        return last_seq(database) - int(waiting)

    before = gone()
    eventually(lambda: gone() >= before + count, what="the publication")


def await_empty(database: Database) -> None:
    rows = " UNION ALL ".join(f"SELECT 1 FROM {schema}.outbox" for schema in TABLES)
    eventually(lambda: not database.ask(f"{rows} LIMIT 1"), what="the empty outbox")


def assert_published_in_order(messages: list[Message], written: set[int]) -> int:
    """Check all that a relay promises, and answer how many messages came more than once."""
    by_entity: dict[str, list[tuple[int, bool]]] = defaultdict(list)
    by_tenure: dict[int, list[int]] = defaultdict(list)
    seen: set[int] = set()
    for message in messages:
        seq, tenure = int(header(message, "seq") or 0), int(header(message, "tenure") or 0)
        by_tenure[tenure].append(seq)
        if seq not in seen:
            change = orjson.loads(message.value or b"")
            by_entity[change["entity"]].append((change["version"], change["op"] == "delete"))
        seen.add(seq)
    assert seen == written, "each row is published, and nothing else is"
    for entity, versions in by_entity.items():
        assert versions == sorted(versions), f"{entity} was published out of order"

    order = sorted(written)
    place = {seq: number for number, seq in enumerate(order)}
    newest = -1
    for tenure in sorted(by_tenure):
        places = sorted(place[seq] for seq in by_tenure[tenure])
        assert places == list(range(places[0], places[-1] + 1)), f"tenure {tenure} repeats itself or has gaps"
        assert places[0] <= newest + 1, f"tenure {tenure} skips rows"
        newest = places[-1]
    return sum(map(len, by_tenure.values())) - len(seen)


def assert_acknowledged_in_order(messages: list[Message], written: set[int]) -> None:
    """The same of each partition: of a batch that a kill cut short, some partitions have their part."""
    partitions: dict[int, list[Message]] = defaultdict(list)
    for message in messages:
        partitions[message.partition].append(message)
    numbers = {
        partition: {int(header(message, "seq") or 0) for message in found}
        for partition, found in partitions.items()
    }
    assert set().union(*numbers.values()) == written
    for partition, found in partitions.items():
        assert_published_in_order(found, numbers[partition])


def test_a_relay_that_is_killed_again_and_again_loses_nothing(
    own: Settings, log: Log, database: Database, topic: str, before: set[str], tmp_path: Path
) -> None:
    first = last_seq(database)
    writer = Writer(own.postgres_dsn.get_secret_value())
    hasty = but(own, relay_batch_rows=50)
    with writer.at_work():
        for _ in range(3):
            relay = FlowProcesses("outbox_relay", hasty, None, log=tmp_path / "relay.log")
            relay.start()
            await_published(database, 200)
            relay.kill()
    with FlowProcesses("outbox_relay", hasty, None, log=tmp_path / "relay.log"):
        await_empty(database)
    written = set(range(first + 1, last_seq(database) + 1))
    messages = changes(log, topic, before)
    assert_published_in_order(messages, written)
    assert len({header(message, "tenure") for message in messages}) == 4
    assert_acknowledged_in_order(changes(log, topic, before, committed=False), written)
    assert "Traceback" not in (tmp_path / "relay.log").read_text()


def test_a_broker_that_goes_away_and_returns_costs_only_time(
    stack: Stack, own: Settings, log: Log, database: Database, topic: str, before: set[str], tmp_path: Path
) -> None:
    first = last_seq(database)
    [port] = free_ports(1)
    writer = Writer(own.postgres_dsn.get_secret_value())
    with FlowProcesses(
        "outbox_relay", but(own, health_port=port, ready_within_s=1), None, log=tmp_path / "relay.log"
    ) as relay:
        with writer.at_work():
            await_published(database, 50)
            assert get(port, "/ready")[0] == 200
            stack.stop("kafka")
            try:
                eventually(lambda: get(port, "/ready")[0] == 503, what="word that Kafka is away")
                assert relay.processes[0].poll() is None
                committed = writer.committed
                eventually(lambda: writer.committed > committed + 50, what="commits without Kafka")
            finally:
                stack.start("kafka")
            eventually(lambda: get(port, "/ready")[0] == 200, what="readiness")
        await_empty(database)
    written = set(range(first + 1, last_seq(database) + 1))
    assert_published_in_order(changes(log, topic, before), written)
    assert_acknowledged_in_order(changes(log, topic, before, committed=False), written)


SELDOM = {"relay_commit_interval_ms": 10_000, "watermark_interval_ms": 600_000}
"""So that a transaction stays open until a test has done with it."""


def names(messages: list[Message]) -> list[str]:
    return [orjson.loads(message.value or b"")["fields"]["name"] for message in messages]


def write_one_by_one(
    database: Database, log: Log, topic: str, before: set[str], sku: str, values: Sequence[str]
) -> None:
    """Change the name again when the name before is in the log: each is a batch by itself."""
    for name in values:
        database.write(
            "catalog",
            f"INSERT INTO catalog.products (sku, name) VALUES ('{sku}', '{name}') "
            "ON CONFLICT (sku) DO UPDATE SET name = excluded.name",
        )
        eventually(
            lambda name=name: name in names(changes(log, topic, before, committed=False)),  # type: ignore[misc]
            what=f"{name} in the log",
        )


def start_sharing(running: Running, database: Database, **environment: int) -> Flow:
    """A relay that has drained its outboxes, and so shares transactions."""
    database.write("catalog", "INSERT INTO catalog.products (sku, name) VALUES ('first', 'first')")
    relay = running.start("outbox_relay", **environment)
    await_empty(database)
    return relay


def test_a_relay_that_is_killed_before_its_commit_publishes_all_of_it_anew(
    log: Log, database: Database, running: Running, topic: str, before: set[str]
) -> None:
    first = last_seq(database)
    relay = start_sharing(running, database, **SELDOM)
    with database.connect("catalog", autocommit=False) as late:
        late.execute("INSERT INTO catalog.products (sku, name) VALUES ('late', 'late')")
        write_one_by_one(database, log, topic, before, "A", ["1", "2", "3"])
        late.commit()
    write_one_by_one(database, log, topic, before, "A", ["4"])
    assert names(changes(log, topic, before)) == ["first"], "nothing else is committed"
    assert len(database.outbox("catalog")) == 5, "nothing leaves the outbox before the commit"
    relay.end(signal.SIGKILL)

    with FlowProcesses("outbox_relay", running.settings, None):
        await_empty(database)
    written = set(range(first + 1, last_seq(database) + 1))
    committed = changes(log, topic, before)
    assert assert_published_in_order(committed, written) == 0, "each change exactly once"
    assert [name for name in names(committed) if name != "late"] == ["first", "1", "2", "3", "4"]
    acknowledged = changes(log, topic, before, committed=False)
    by_tenure: dict[int, list[int]] = defaultdict(list)
    for message in acknowledged:
        by_tenure[int(header(message, "tenure") or 0)].append(int(header(message, "seq") or 0))
    killed, successor = (sorted(by_tenure[tenure]) for tenure in sorted(by_tenure))
    assert killed == sorted(written)
    assert successor == killed[1:], "all that was not committed comes again, and nothing else"


def test_a_relay_that_is_told_to_stop_commits_first(
    log: Log, database: Database, running: Running, topic: str, before: set[str]
) -> None:
    relay = start_sharing(running, database, **SELDOM)
    write_one_by_one(database, log, topic, before, "A", ["1", "2"])
    assert len(database.outbox("catalog")) == 2
    assert relay.end(signal.SIGTERM) < 5
    assert relay.outcome() == 0, relay.text
    assert database.outbox("catalog") == []
    assert sorted(names(changes(log, topic, before))) == ["1", "2", "first"]


def test_an_outbox_that_has_gone_idle_is_committed(
    log: Log, database: Database, running: Running, topic: str, before: set[str]
) -> None:
    start_sharing(running, database, **{**SELDOM, "relay_commit_interval_ms": 1_000})
    write_one_by_one(database, log, topic, before, "A", ["1"])
    await_empty(database)
    assert sorted(names(changes(log, topic, before))) == ["1", "first"]


def test_a_row_that_kafka_never_takes_ends_the_tenure_whose_transaction_it_shares(
    log: Log, database: Database, running: Running, topic: str, before: set[str]
) -> None:
    relay = start_sharing(running, database, **SELDOM)
    write_one_by_one(database, log, topic, before, "A", ["1"])
    database.write(
        "catalog",
        "INSERT INTO catalog.products (sku, description) VALUES ('huge', repeat('x', 17 * 1024 * 1024))",
    )
    await_empty(database)
    write_one_by_one(database, log, topic, before, "A", ["2"])
    relay.end(signal.SIGTERM)
    assert relay.outcome() == 0, relay.text
    assert database.ask("SELECT message_key, count FROM sync.quarantine") == [(b"huge", 1)]
    committed = changes(log, topic, before)
    assert [name for name in names(committed) if name != "first"] == ["1", "2"]
    assert len({header(message, "tenure") for message in committed}) == 2


def test_a_row_that_kafka_never_takes_goes_to_quarantine_and_holds_nobody_up(
    own: Settings, log: Log, database: Database, topic: str, before: set[str], tmp_path: Path
) -> None:
    with database.connect("catalog", autocommit=False) as connection:
        for sku, size in (("small", 1), ("huge", 17 * 1024 * 1024), ("next", 1)):
            connection.execute(
                "INSERT INTO catalog.products (sku, name, description) VALUES (%s, '🦆', repeat('x', %s))",
                (sku, size),
            )
        connection.commit()
    [(payload,)] = database.ask("SELECT payload::text FROM catalog.outbox WHERE aggregateid = 'huge'")
    with FlowProcesses("outbox_relay", own, None, log=tmp_path / "relay.log"):
        await_empty(database)
    assert sorted(message.key or b"" for message in changes(log, topic, before)) == [b"next", b"small"]
    [(step, error, reason, place, key, value)] = database.ask(
        "SELECT step, error, reason, topic, message_key, message_value FROM sync.quarantine"
    )
    assert (step, error, place, key) == ("publish", "Refused", "catalog.outbox", b"huge")
    assert reason.startswith("Kafka takes no record of 178")
    assert value == payload.encode()
