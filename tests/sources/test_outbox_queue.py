"""The outbox as a queue: everything that was committed, in order, once, by one relay at a time."""

import itertools
import select
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from types import TracebackType
from typing import Any, Protocol, Self

import orjson
import pytest
from psycopg import conninfo

from sinks.kafka import KafkaTransactions, Publish
from sources.outbox_queue import Outbox, OutboxSettings
from sources.published_up_to import PublishedUpTo
from syncline.circuit import Circuits
from syncline.clock import system_clock_us
from syncline.model.errors import BadCredentials, Fenced, MissingResource, Unavailable
from syncline.model.message import Message
from syncline.model.outbox import OutboxBatch, OutboxRow, Publication
from syncline.settings import Settings
from syncline.stopping import Stop
from tests.changes import SEARCH
from tests.log import Log, fields, header
from tests.own import but
from tests.road import Road
from tests.services.database import Database
from tests.waiting import eventually

TOPICS = {policy.owner: policy.topic for policy in SEARCH.entities}


class Relay:
    """One schema's relay, one step at a time."""

    def __init__(
        self,
        settings: Settings,
        schema: str = "catalog",
        *,
        dsn: str | None = None,
        batch_rows: int = 100,
        watermarks: bool = False,
        poll_interval: timedelta = timedelta(0),
        commit_interval: timedelta = timedelta(days=1),
    ) -> None:
        self.topic = TOPICS[schema](settings.topic_prefix)
        circuits = Circuits(Stop())
        self.transactions = KafkaTransactions(
            settings.kafka_bootstrap_servers, f"{settings.topic_prefix}-{schema}", circuits.kafka
        )
        self.outbox = Outbox(
            schema,
            dsn or settings.source_dsns[schema],
            {self.topic.rpartition(".")[2]: self.topic},
            OutboxSettings(
                topic_prefix=settings.topic_prefix,
                generation=settings.generation,
                batch_rows=batch_rows,
                batch_interval=timedelta(0),
                commit_interval=commit_interval,
                poll_interval=poll_interval,
                watermark_interval=timedelta(0) if watermarks else timedelta(days=1),
            ),
            circuit=circuits.postgres,
            fence=self.transactions.fence,
            published=PublishedUpTo(
                settings.kafka_bootstrap_servers, f"{settings.topic_prefix}-{schema}", self.topic
            ),
        )
        if not watermarks:
            self.outbox._next_watermark = time.monotonic() + 86_400
        self._publish = Publish({schema: self.transactions}, system_clock_us)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.outbox.close()

    def publish(self, batch: OutboxBatch) -> Publication:
        return self._publish(batch)

    def step(self) -> Publication | None:
        """Read, publish, remove."""
        batch = self.outbox.read()
        if batch is None:
            return None
        publication = self.publish(batch)
        self.outbox.settle(publication)
        return publication

    def drain(self) -> list[OutboxRow]:
        """Publish all that is there, and commit it as before a stop."""
        rows = self.publish_all()
        if last := self.outbox.last_batch():
            self.outbox.settle(self.publish(last))
        return rows

    def publish_all(self) -> list[OutboxRow]:
        rows: list[OutboxRow] = []
        while publication := self.step():
            assert publication.error is None
            if not publication.batch.rows:
                break
            rows += publication.batch.rows
        return rows


@pytest.fixture
def relay_of(own: Settings, database: Database) -> Iterator[Callable[..., Relay]]:
    """Makes relays, and closes them."""
    with ExitStack() as made:
        yield lambda settings=own, **how: made.enter_context(Relay(settings, **how))


@pytest.fixture
def relay(relay_of: Callable[..., Relay]) -> Relay:
    return relay_of()


class Since(Protocol):
    def __call__(self, *, committed: bool = True) -> list[Message]: ...


@pytest.fixture
def since(log: Log, own: Settings) -> Since:
    """What came to the log since the test began; all that was acknowledged, or what is committed."""
    topics = [policy.topic(own.topic_prefix) for policy in SEARCH.entities]
    seen = {message.position for message in log.read(*topics, committed=False)}

    def read(*, committed: bool = True) -> list[Message]:
        return [m for m in log.read(*topics, committed=committed) if m.position not in seen]

    return read


def add(*skus: str) -> str:
    rows = ", ".join(f"('{sku}', 'product {sku}')" for sku in skus)
    return f"INSERT INTO catalog.products (sku, name) VALUES {rows}"


def skus(rows: list[OutboxRow]) -> list[str]:
    return [row.aggregateid for row in rows]


def cut_off(database: Database) -> None:
    """End the connection of the relay that holds the lock."""
    [(ended,)] = database.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE application_name = 'syncline-relay-catalog' AND locktype = 'advisory' AND granted "
        "AND datname = current_database()"
    )
    assert ended


def next_step(relay: Relay) -> Publication:
    """The relay's next publication that has rows."""

    def step() -> Publication | None:
        publication = relay.step()
        return publication if publication is not None and publication.batch.rows else None

    publication = eventually(step, what="a publication")
    assert publication is not None
    return publication


def microseconds(database: Database, query: str) -> int:
    [(answer,)] = database.ask(f"SELECT (extract(epoch FROM ({query})) * 1000000)::bigint")
    return int(answer)


def test_rows_are_published_in_their_order_with_all_that_is_known_of_them(
    relay: Relay, database: Database, since: Since
) -> None:
    database.write(
        "catalog", add("A", "B"), "UPDATE catalog.products SET name = '🦆'", "DELETE FROM catalog.products"
    )
    ids = {str(id_): seq for id_, seq in database.ask("SELECT id, seq FROM catalog.outbox")}
    commits = {
        seq: int(us)
        for seq, us in database.ask(
            "SELECT seq, (extract(epoch FROM pg_xact_commit_timestamp(transaction_id::xid)) * 1000000)"
            "::bigint FROM catalog.outbox"
        )
    }
    assert len(relay.drain()) == 6
    messages = since()
    assert {header(message, "id"): int(header(message, "seq") or 0) for message in messages} == ids
    for key in (b"A", b"B"):
        own = [message for message in messages if message.key == key]
        assert [header(message, "eventType") for message in own] == ["created", "updated", "deleted"]
        assert [fields(message).get("name") for message in own] == [f"product {key.decode()}", "🦆", None]
        numbers = [int(header(message, "seq") or 0) for message in own]
        assert numbers == sorted(numbers)
        assert len({message.partition for message in own}) == 1
    for message in messages:
        assert header(message, "committedAt") == str(commits[int(header(message, "seq") or 0)])
        assert header(message, "committedAtEstimated") == "0"
        assert header(message, "generation") == "1"
        assert int(header(message, "detectedAt") or 0) > int(header(message, "committedAt") or 0)
    assert len({header(message, "tenure") for message in messages}) == 1
    assert database.outbox("catalog") == []


def test_the_payload_travels_as_it_was_committed(relay: Relay, database: Database, since: Since) -> None:
    database.write(
        "catalog",
        "INSERT INTO catalog.products (sku, attributes) VALUES ('Ä🦆', '{\"n\": 12345678901234567890}')",
    )
    [row] = database.outbox("catalog")
    relay.drain()
    [message] = since()
    assert message.key == "Ä🦆".encode()
    assert message.value is not None
    assert b"12345678901234567890" in message.value
    assert orjson.loads(message.value)["entity"] == row.entity


def test_a_commit_that_comes_late_with_a_lower_number_is_not_skipped(
    relay: Relay, database: Database
) -> None:
    with database.connect("catalog", autocommit=False) as slow:
        slow.execute(add("early").encode())
        database.write("catalog", add("late"))
        assert skus(relay.drain()) == ["late"]
        slow.commit()
    [row] = relay.drain()
    assert row.aggregateid == "early"
    assert database.outbox("catalog") == []


def test_a_transaction_that_somebody_left_open_delays_nothing(relay: Relay, database: Database) -> None:
    with (
        database.connect("catalog", autocommit=False) as writing,
        database.connect(autocommit=False) as reading,
    ):
        reading.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        reading.execute("SELECT pg_current_xact_id()")
        writing.execute(add("open").encode())
        for sku in ("A", "B", "C"):
            database.write("catalog", add(sku))
            assert skus(relay.drain()) == [sku]
        writing.rollback()
    assert relay.drain() == []


def test_changes_of_an_entity_come_in_the_order_of_its_versions_whoever_waited(
    relay: Relay, database: Database, since: Since
) -> None:
    database.write("catalog", add("A"))
    with database.connect("catalog", autocommit=False) as first, database.connect("catalog") as second:
        first.execute("UPDATE catalog.products SET name = 'first'")
        with database.blocked(second, "UPDATE catalog.products SET name = 'second'"):
            relay.drain()
            first.commit()
    relay.drain()
    messages = since()
    versions = [orjson.loads(message.value or b"")["version"] for message in messages]
    assert [fields(message)["name"] for message in messages] == ["product A", "first", "second"]
    assert versions == sorted(versions)


def test_a_late_commit_amid_a_backlog_keeps_the_order_of_its_entity(
    database: Database, relay_of: Callable[..., Relay], since: Since
) -> None:
    with database.connect("catalog", autocommit=False) as slow:
        slow.execute(add("X").encode())
        database.write("catalog", add("A", "B"), add("C", "D"), add("E"))
        relay = relay_of(batch_rows=2)
        assert skus(list(next_step(relay).batch.rows)) == ["A", "B"]
        slow.commit()
    database.write("catalog", "UPDATE catalog.products SET name = 'second' WHERE sku = 'X'")
    relay.drain()
    assert database.outbox("catalog") == []
    messages = since()
    assert [fields(message)["name"] for message in messages if message.key == b"X"] == ["product X", "second"]
    assert sorted(message.key or b"" for message in messages) == [b"A", b"B", b"C", b"D", b"E", b"X", b"X"]


def test_a_large_backlog_goes_in_batches_and_in_order(own: Settings, database: Database) -> None:
    database.write("catalog", add(*(f"S{n:02}" for n in range(35))))
    batches, rows = [], []
    with Relay(own, batch_rows=10, poll_interval=timedelta(days=1)) as relay:
        while relay.outbox.due_in_seconds == 0 and (publication := relay.step()):
            batches.append(len(publication.batch.rows))
            rows += [row.seq for row in publication.batch.rows]
    assert batches == [10, 10, 10, 5], "it reads on at once while there is more"
    assert rows == sorted(rows)


def sharing(relay: Relay) -> Relay:
    """The relay, past the careful beginning of its tenure."""
    assert relay.publish_all() == []
    return relay


def step(relay: Relay) -> tuple[list[str], bool]:
    """What the next batch holds, and whether the transaction ends with it."""
    publication = relay.step()
    assert publication is not None
    assert publication.error is None
    return skus(list(publication.batch.rows)), publication.batch.commit


def keys(messages: list[Message]) -> list[str]:
    """In the order of the outbox."""
    return [
        (message.key or b"").decode()
        for message in sorted(messages, key=lambda message: int(header(message, "seq") or 0))
    ]


def test_rows_are_read_at_once_and_leave_when_their_transaction_is_committed(
    relay: Relay, database: Database, since: Since
) -> None:
    sharing(relay)
    for sku in ("A", "B"):
        database.write("catalog", add(sku))
        assert step(relay) == ([sku], False)
    assert keys(since(committed=False)) == ["A", "B"]
    assert since() == []
    assert len(database.outbox("catalog")) == 2
    last = relay.outbox.last_batch()
    assert last is not None
    assert (last.rows, last.commit) == ((), True)
    publication = relay.publish(last)
    assert keys(since()) == ["A", "B"]
    assert len(database.outbox("catalog")) == 2
    relay.outbox.settle(publication)
    assert database.outbox("catalog") == []
    assert relay.outbox.last_batch() is None


def test_what_waits_for_its_commit_is_not_read_again_and_takes_no_other_row_s_place(
    relay_of: Callable[..., Relay], database: Database
) -> None:
    relay = relay_of(batch_rows=3)
    # It was there at each read, which so tells nothing of what may still appear.
    with database.connect("catalog", autocommit=False) as open_transaction:
        open_transaction.execute("SELECT pg_current_xact_id()")
        sharing(relay)
        for sku in ("A", "B"):
            database.write("catalog", add(sku))
            assert step(relay) == ([sku], False)
        assert relay.step() is None
        database.write("catalog", add("C", "D"))
        assert step(relay) == (["C", "D"], True)
    assert database.outbox("catalog") == []


def test_an_outbox_that_has_gone_idle_is_committed_when_that_is_due(
    relay_of: Callable[..., Relay], database: Database, since: Since
) -> None:
    relay = sharing(relay_of(commit_interval=timedelta(seconds=1), poll_interval=timedelta(days=1)))
    database.write("catalog", add("A"))
    relay.outbox.tell_news()
    assert step(relay) == (["A"], False)
    eventually(lambda: relay.outbox.due_in_seconds == 0, what="the commit's time")
    assert step(relay) == ([], True)
    assert keys(since()) == ["A"]
    assert database.outbox("catalog") == []
    assert relay.outbox.due_in_seconds > 60


def test_a_busy_outbox_is_committed_when_that_is_due(
    relay_of: Callable[..., Relay], database: Database
) -> None:
    relay = sharing(relay_of(commit_interval=timedelta(seconds=1), batch_rows=1_000))
    database.write("catalog", add("A"))
    assert step(relay) == (["A"], False)
    numbers = itertools.count()

    def has_committed() -> bool:
        database.write("catalog", add(f"B{next(numbers)}"))
        return step(relay)[1]

    eventually(has_committed, what="the commit")
    assert database.outbox("catalog") == []


def test_a_watermark_is_committed_at_once(relay_of: Callable[..., Relay], database: Database) -> None:
    relay = relay_of(watermarks=True)
    step(relay)
    database.write("catalog", add("A"))
    assert step(relay) == (["A"], True)
    assert database.outbox("catalog") == []


def test_no_transaction_is_shared_before_the_outbox_was_drained_nor_in_a_backlog(
    relay_of: Callable[..., Relay], database: Database
) -> None:
    relay = relay_of(batch_rows=2)
    for _ in range(2):
        database.write("catalog", add("A", "B"), add("C"))
        assert step(relay) == (["A", "B"], True)
        assert step(relay) == (["C"], True)
        assert database.outbox("catalog") == []
        assert relay.step() is None
        database.write("catalog", "DELETE FROM catalog.products")
        relay.drain()
    database.write("catalog", add("D"))
    assert step(relay) == (["D"], False)


def test_without_a_commit_interval_each_batch_has_its_own_transaction(
    relay_of: Callable[..., Relay], database: Database
) -> None:
    relay = sharing(relay_of(commit_interval=timedelta(0)))
    for sku in ("A", "B"):
        database.write("catalog", add(sku))
        assert step(relay) == ([sku], True)
        assert database.outbox("catalog") == []


def test_no_more_rows_wait_for_a_commit_than_a_batch_may_hold(
    relay_of: Callable[..., Relay], database: Database
) -> None:
    relay = sharing(relay_of(batch_rows=3))
    for sku, commit in (("A", False), ("B", False), ("C", True), ("D", False)):
        database.write("catalog", add(sku))
        assert step(relay) == ([sku], commit)
    assert [row.aggregateid for row in database.outbox("catalog")] == ["D"]


def test_a_late_commit_with_a_lower_number_is_published_beside_what_waits_for_its_commit(
    relay: Relay, database: Database, since: Since
) -> None:
    sharing(relay)
    with database.connect("catalog", autocommit=False) as slow:
        slow.execute(add("early").encode())
        database.write("catalog", add("late"))
        assert step(relay) == (["late"], False)
        slow.commit()
    database.write("catalog", "UPDATE catalog.products SET name = 'second' WHERE sku = 'early'")
    assert step(relay) == (["early", "early"], False)
    assert relay.drain() == []
    assert keys(since()) == ["early", "late", "early"]
    assert database.outbox("catalog") == []


def test_a_relay_that_lost_its_connection_with_a_transaction_open_publishes_it_anew(
    relay: Relay, database: Database, since: Since
) -> None:
    sharing(relay)
    for sku in ("A", "B"):
        database.write("catalog", add(sku))
        assert step(relay) == ([sku], False)
    cut_off(database)
    database.write("catalog", add("C"))
    again = next_step(relay)
    assert (skus(list(again.batch.rows)), again.batch.commit) == (["A", "B", "C"], True)
    assert keys(since(committed=False)) == ["A", "A", "B", "B", "C"]
    assert keys(since()) == ["A", "B", "C"]
    assert database.outbox("catalog") == []


def test_a_standby_takes_over_what_was_not_committed_and_the_other_cannot_commit_it(
    relay: Relay, relay_of: Callable[..., Relay], database: Database, since: Since
) -> None:
    sharing(relay)
    database.write("catalog", add("A"))
    assert step(relay) == (["A"], False)
    held = relay.outbox.last_batch()
    assert held is not None
    cut_off(database)
    standby = relay_of()
    assert skus(list(next_step(standby).batch.rows)) == ["A"]
    database.write("catalog", "UPDATE catalog.products SET name = 'newer'")
    assert step(standby) == (["A"], False)

    woken = relay.publish(held)
    assert isinstance(woken.error, Fenced)
    relay.outbox.settle(woken)
    assert len(database.outbox("catalog")) == 1, "it removes nothing"
    standby.drain()
    assert [header(message, "eventType") for message in since()] == ["created", "updated"]
    assert len({header(message, "tenure") for message in since()}) == 1


def test_a_record_too_large_in_a_shared_transaction_is_refused_by_the_next_tenure(
    relay: Relay, database: Database, since: Since
) -> None:
    sharing(relay)
    database.write("catalog", add("A"))
    assert step(relay) == (["A"], False)
    with database.connect("catalog", autocommit=False) as connection:
        connection.execute(add("B").encode())
        connection.execute(
            "INSERT INTO catalog.products (sku, description) VALUES ('huge', repeat('x', 17 * 1024 * 1024))"
        )
        connection.execute(add("C").encode())
        connection.commit()
    failed = relay.step()
    assert failed is not None
    assert isinstance(failed.error, Unavailable)
    again = next_step(relay)
    assert skus(list(again.batch.rows)) == ["A", "B", "huge", "C"]
    assert [(failure.step, failure.message.key) for failure in again.refused] == [("publish", b"huge")]
    assert database.outbox("catalog") == []
    assert keys(since()) == ["A", "B", "C"]
    database.write("catalog", add("D"))
    assert step(relay) == (["D"], False)


def test_a_second_relay_stands_by_and_takes_over_with_a_new_tenure(
    relay_of: Callable[..., Relay], database: Database, relay: Relay, since: Since
) -> None:
    database.write("catalog", add("A"))
    first = relay.step()
    assert first is not None
    standby = relay_of()
    database.write("catalog", add("B"))
    [(before,)] = database.ask("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
    for _ in range(5):
        assert standby.step() is None
        assert standby.outbox.is_well, "standing by is no failure"
        assert standby.outbox.socket is None
    assert database.ask("SELECT pg_snapshot_xmax(pg_current_snapshot())::text") == [(before,)], (
        "standing by uses up no transaction numbers"
    )

    # Paused between reading and publishing, and its connection cut.
    held = relay.outbox.read()
    assert held is not None
    cut_off(database)
    taken = next_step(standby)
    assert skus(list(taken.batch.rows)) == ["B"]
    assert taken.batch.tenure > first.batch.tenure
    database.write("catalog", "UPDATE catalog.products SET name = 'newer' WHERE sku = 'B'")
    standby.drain()

    woken = relay.publish(held)
    assert isinstance(woken.error, Fenced)
    relay.outbox.settle(woken)
    assert not relay.outbox.is_well
    assert relay.step() is None
    assert [
        (message.key, header(message, "eventType"))
        for message in sorted(since(), key=lambda m: int(header(m, "seq") or 0))
    ] == [
        (b"A", "created"),
        (b"B", "created"),
        (b"B", "updated"),
    ]
    standby.outbox.close()
    database.write("catalog", add("C"))
    back = next_step(relay)
    assert skus(list(back.batch.rows)) == ["C"]
    assert back.batch.tenure > taken.batch.tenure


def test_a_relay_that_lost_its_connection_removes_nothing_and_begins_again(
    relay: Relay, database: Database, since: Since
) -> None:
    database.write("catalog", add("A", "B"))
    batch = relay.outbox.read()
    assert batch is not None
    cut_off(database)
    published = relay.publish(batch)
    assert published.error is None
    relay.outbox.settle(published)
    assert len(database.outbox("catalog")) == 2
    again = next_step(relay)
    assert skus(list(again.batch.rows)) == ["A", "B"]
    assert database.outbox("catalog") == []
    tenures = {header(message, "tenure") for message in since()}
    assert len(tenures) == 2


def test_a_log_that_is_away_costs_nothing(own: Settings, log: Log, database: Database) -> None:
    database.write("catalog", add("A"))
    with Road(1, is_open=False) as road, Relay(but(own, kafka_bootstrap_servers=road.address)) as away:
        assert away.step() is None
        assert not away.outbox.is_well
        assert len(database.outbox("catalog")) == 1
        with Relay(own) as relay:
            assert skus(relay.drain()) == ["A"], "the lock was let go, for another that may do better"


def test_a_watermark_follows_all_that_was_committed_before_it(
    own: Settings, database: Database, relay_of: Callable[..., Relay], since: Since
) -> None:
    relay = relay_of(watermarks=True, batch_rows=10)
    database.write("catalog", add(*(f"S{n:02}" for n in range(25))))
    begun = microseconds(database, "clock_timestamp()")
    published: list[OutboxRow] = []
    while (step := relay.step()) is not None and step.batch.watermark_us is None:
        published += step.batch.rows
        assert not any(header(message, "watermark") for message in since()), "more rows were waiting"
    assert step is not None
    assert len(published) + len(step.batch.rows) == 25
    assert begun <= (step.batch.watermark_us or 0) <= microseconds(database, "clock_timestamp()")
    messages = since()
    for partition in range(own.topic_partitions):
        *changes, mark = [m for m in messages if (m.topic, m.partition) == (relay.topic, partition)]
        assert changes
        assert not any(header(message, "watermark") for message in changes)
        assert header(mark, "watermark") == str(step.batch.watermark_us)
        assert (mark.key, mark.value) == (None, None)


def test_an_idle_outbox_has_watermarks_too_and_not_more_than_are_due(
    relay_of: Callable[..., Relay], database: Database
) -> None:
    relay = relay_of(watermarks=True)
    first, second = relay.step(), relay.step()
    assert first is not None
    assert second is not None
    assert (first.batch.watermark_us or 0) < (second.batch.watermark_us or 0)
    relay.outbox._next_watermark = time.monotonic() + 60
    assert relay.step() is None


def test_a_notification_wakes_the_relay(relay: Relay, database: Database) -> None:
    relay.drain()
    assert relay.outbox.socket is not None
    assert select.select([relay.outbox.socket], [], [], 0)[0] == []
    database.write("catalog", add("A"))
    assert select.select([relay.outbox.socket], [], [], 10)[0]


def test_without_notifications_the_poll_finds_the_rows(
    relay_of: Callable[..., Relay], database: Database
) -> None:
    database.write("catalog", "ALTER TABLE catalog.outbox DISABLE TRIGGER outbox_notify")
    try:
        relay = relay_of(poll_interval=timedelta(seconds=2))
        relay.drain()
        database.write("catalog", add("A"))
        assert relay.outbox.due_in_seconds > 0
        eventually(lambda: relay.outbox.due_in_seconds == 0, what="the poll")
        assert skus(relay.drain()) == ["A"]
    finally:
        database.write("catalog", "ALTER TABLE catalog.outbox ENABLE TRIGGER outbox_notify")


def blocks_read(database: Database, relay: Relay) -> int:
    """How many pages of the outbox and its indexes the next read touches."""

    def so_far() -> int:
        connection = relay.outbox._connection
        assert connection is not None
        connection.execute("SELECT pg_stat_force_next_flush()")
        [(blocks,)] = database.ask(
            "SELECT heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read FROM pg_statio_user_tables "
            "WHERE relid = 'catalog.outbox'::regclass"
        )
        return int(blocks)

    before = so_far()
    assert relay.outbox.read() is None
    return so_far() - before


def test_rows_that_are_dead_cost_the_next_read_nothing(
    database: Database, relay_of: Callable[..., Relay]
) -> None:
    # An old snapshot, so that nothing dead can be cleared away.
    with database.connect(autocommit=False) as old:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")
        with relay_of(batch_rows=50_000) as relay:
            database.write(
                "catalog",
                "INSERT INTO catalog.products (sku) SELECT 'S' || n FROM generate_series(1, 20000) AS n",
            )
            assert len(relay.drain()) == 20_000
            assert blocks_read(database, relay) < 20
            database.write("catalog", add("A"))
            assert skus(relay.drain()) == ["A"]
        # Without the floor, as at the start of a tenure, they do cost something.
        with relay_of() as fresh:
            assert fresh.step() is None
            fresh.outbox._floor = "0"
            assert blocks_read(database, fresh) > 200


def test_a_missing_outbox_is_told(relay_of: Callable[..., Relay], database: Database) -> None:
    relay = relay_of()
    database.write("catalog", "ALTER TABLE catalog.outbox RENAME TO elsewhere")
    try:
        with pytest.raises(
            MissingResource, match=r'relation "catalog.outbox" does not exist; run: syncline setup'
        ):
            relay.step()
    finally:
        database.write("catalog", "ALTER TABLE catalog.elsewhere RENAME TO outbox")


def test_a_wrong_password_is_told(own: Settings, relay_of: Callable[..., Relay]) -> None:
    wrong = conninfo.make_conninfo(own.source_dsns["catalog"], password="wrong")
    with pytest.raises(BadCredentials, match="password authentication failed"):
        relay_of(dsn=wrong).step()


def test_a_database_that_is_away_is_waited_for(
    own: Settings, relay_of: Callable[..., Relay], database: Database
) -> None:
    port = int(conninfo.conninfo_to_dict(own.source_dsns["catalog"])["port"] or 0)
    with Road(port, is_open=False) as road:
        relay = relay_of(dsn=conninfo.make_conninfo(own.source_dsns["catalog"], port=road.port))
        database.write("catalog", add("A"))
        assert relay.step() is None
        assert not relay.outbox.is_well
        road.open()
        assert skus(relay.drain()) == ["A"]
        assert relay.outbox.is_well
        road.close()
        assert relay.step() is None
        road.open()
        database.write("catalog", add("B"))
        assert skus(relay.drain()) == ["B"]


def test_without_commit_times_the_rows_own_time_stands_in(relay: Relay) -> None:
    row = OutboxRow(7, "id", "product", "A", "updated", b"{}", None, 1_234)
    batch = relay.outbox._batch(3, [row], read_at_us=2_000, watermark_us=None, commit=True)
    headers: dict[str, Any] = dict(batch.records[0].headers)
    assert (headers["committedAt"], headers["committedAtEstimated"]) == (b"1234", b"1")
