"""The life of the real servers: started once, killed, restarted, moved, stopped; and how they fail."""

import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from elasticsearch import Elasticsearch

from syncline.kafka import CLIENT_LOG
from syncline.model.errors import Misconfigured, ServerDidNotStart
from syncline.settings import Settings, embedded_addresses_file
from syncline.stack import processes as server_processes
from syncline.stack.kafka import LARGEST_MESSAGE
from syncline.stack.ports import LOOPBACK
from syncline.stack.stack import Stack
from tests.waiting import eventually

QUICK = ("postgres", "redis")


def pids(stack: Stack) -> dict[str, int | None]:
    return {server.name: server.pid for server in stack.status()}


def processes(stack: Stack) -> list[psutil.Process]:
    return [process for server in stack.servers.values() for process in server.processes.all()]


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Stack]:
    """The two servers that start in an instant, in a home of their own, not started."""
    stack = Stack(tmp_path / "home", QUICK)
    yield stack
    stack.down()


def test_up_again_leaves_running_servers_alone(stack: Stack) -> None:
    before = pids(stack)
    addresses = stack.addresses()
    assert stack.up() == addresses
    assert pids(stack) == before
    assert {server.state for server in stack.status()} == {"running"}


def test_postgres_is_ready_for_change_capture(settings: Settings) -> None:
    with psycopg.connect(settings.postgres_dsn.get_secret_value()) as connection:
        for name, value in {
            "wal_level": "logical",
            "track_commit_timestamp": "on",
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "password_encryption": "scram-sha-256",
            "listen_addresses": LOOPBACK,
        }.items():
            assert connection.execute("SELECT current_setting(%s)", [name]).fetchone() == (value,)


def test_a_wrong_password_is_refused(settings: Settings) -> None:
    address = settings.postgres_dsn.get_secret_value().rpartition("@")[2]
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://postgres:wrong@{address}").close()


def produce(servers: str, topic: str, value: bytes) -> None:
    admin = AdminClient({"bootstrap.servers": servers}, logger=CLIENT_LOG)
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    failures: list[object] = []
    configuration = {"bootstrap.servers": servers, "message.max.bytes": LARGEST_MESSAGE, "acks": "all"}
    producer = Producer(configuration, logger=CLIENT_LOG)
    producer.produce(topic, value, on_delivery=lambda error, _: failures.append(error))
    assert producer.flush(30) == 0
    assert failures == [None]


def consume(servers: str, topic: str) -> bytes | None:
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": topic, "auto.offset.reset": "earliest"},
        logger=CLIENT_LOG,
    )
    consumer.subscribe([topic])
    try:
        message = consumer.poll(30)
        assert message is not None
        assert message.error() is None
        return message.value()
    finally:
        consumer.close()


def test_kafka_takes_a_message_of_nearly_eight_megabytes(settings: Settings) -> None:
    value = os.urandom(LARGEST_MESSAGE - 1024)
    produce(settings.kafka_bootstrap_servers, "stack.large", value)
    assert consume(settings.kafka_bootstrap_servers, "stack.large") == value


def test_killed_servers_come_back_with_their_data_at_the_same_address(
    stack: Stack, settings: Settings
) -> None:
    dsn = settings.postgres_dsn.get_secret_value()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.survivor AS SELECT 1 AS id")
    produce(settings.kafka_bootstrap_servers, "stack.survivor", b"kept")
    with Elasticsearch(settings.elasticsearch_url.get_secret_value()) as client:
        client.index(index="survivor", id="1", document={"name": "kept"})
    before = pids(stack)
    addresses = stack.addresses()

    # As from outside: only the main process, so that what it leaves behind must be found.
    for pid in before.values():
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(server.is_up() for server in stack.servers.values()))
    assert stack.up() == addresses

    after = pids(stack)
    assert all(after[name] not in (None, before[name]) for name in before)
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT id FROM public.survivor").fetchone() == (1,)
    assert consume(settings.kafka_bootstrap_servers, "stack.survivor") == b"kept"
    with Elasticsearch(settings.elasticsearch_url.get_secret_value()) as client:
        assert client.get(index="survivor", id="1")["_source"] == {"name": "kept"}


@pytest.mark.parametrize("name", QUICK)
def test_one_server_is_killed_and_started_without_the_others(quick: Stack, name: str) -> None:
    addresses = quick.up()
    before = pids(quick)
    quick.kill(name)
    assert quick.servers[name].processes.all() == []
    assert embedded_addresses_file(quick.home).exists()
    assert quick.start(name) == addresses
    assert {server for server, pid in pids(quick).items() if pid != before[server]} == {name}
    quick.stop(name)
    assert quick.servers[name].processes.all() == []


def test_the_addresses_are_recorded_for_the_settings_and_for_their_owner_alone(
    quick: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = quick.up()
    file = embedded_addresses_file(quick.home)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    monkeypatch.setenv("SYNCLINE_HOME", str(quick.home))
    assert Settings().postgres_dsn.get_secret_value() == addresses["postgres_dsn"]
    assert Settings().redis_url.get_secret_value() == addresses["redis_url"]
    quick.down()
    assert not file.exists()


def test_down_leaves_no_process_and_keeps_the_data(quick: Stack) -> None:
    quick.up()
    assert processes(quick)
    quick.down()
    assert processes(quick) == []
    assert {server.state for server in quick.status()} == {"stopped"}
    assert (quick.servers["postgres"].data / "PG_VERSION").exists()


def test_reset_deletes_everything(quick: Stack) -> None:
    quick.up()
    quick.reset()
    assert processes(quick) == []
    assert not any(server.folder.exists() for server in quick.servers.values())


def test_down_and_reset_of_a_stack_that_never_was(quick: Stack) -> None:
    quick.down()
    quick.reset()
    assert not quick.home.exists()


def test_a_server_whose_port_was_taken_moves(quick: Stack) -> None:
    before = quick.up()
    quick.down()
    with socket.create_server((LOOPBACK, quick.servers["redis"].ports["port"])):
        after = quick.up()
        assert after["redis_url"] != before["redis_url"]
        assert after["postgres_dsn"] == before["postgres_dsn"]
        with redis.Redis.from_url(after["redis_url"]) as client:
            assert client.ping()
    assert after["redis_url"] in embedded_addresses_file(quick.home).read_text()


def test_a_number_that_another_program_got_is_not_its_server(quick: Stack) -> None:
    folder = quick.servers["redis"].folder
    folder.mkdir(parents=True)
    (folder / "process.json").write_text(f'{{"pid": {os.getpid()}, "created": 1.0}}')
    assert not quick.servers["redis"].is_up()
    quick.kill("redis")
    quick.up()
    assert pids(quick)["redis"] != os.getpid()


@contextmanager
def another_process(code: str, stack: Stack) -> Iterator[subprocess.Popen[bytes]]:
    program = (
        f"from pathlib import Path; from syncline.stack.stack import Stack\n"
        f"stack = Stack(Path({str(stack.home)!r}), {QUICK})\n{code}"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_up_that_was_killed_half_way_is_taken_up_again(quick: Stack) -> None:
    with another_process("stack.up()", quick) as process:
        eventually(lambda: processes(quick))
        process.kill()
    quick.up()
    assert {server.state for server in quick.status()} == {"running"}
    quick.down()
    assert processes(quick) == []


def test_two_that_start_at_once_share_the_servers(quick: Stack) -> None:
    with another_process("stack.up()", quick) as one, another_process("stack.up()", quick) as other:
        assert one.wait(60) == 0
        assert other.wait(60) == 0
    mains = [
        process for process in processes(quick) if process.ppid() not in {p.pid for p in processes(quick)}
    ]
    assert len(mains) == len(QUICK)


def test_servers_do_not_outlive_the_process_that_they_are_for(quick: Stack) -> None:
    with another_process("with stack.while_this_process_lives(): input()", quick) as process:
        eventually(lambda: embedded_addresses_file(quick.home).exists())
        assert processes(quick)
        process.kill()
    eventually(lambda: not processes(quick))


def test_the_process_that_they_are_for_ends_without_a_word_of_them(quick: Stack) -> None:
    """In Python's development mode, which tells of every process that nobody waited for."""
    program = (
        "from pathlib import Path; from syncline.stack.stack import Stack\n"
        f"with Stack(Path({str(quick.home)!r}), {QUICK}).while_this_process_lives(): pass"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not processes(quick)


def test_a_corrupt_data_folder_names_the_log_and_shows_its_end(quick: Stack) -> None:
    quick.up()
    quick.down()
    postgres = quick.servers["postgres"]
    (postgres.data / "global" / "pg_control").write_bytes(b"\0" * 8192)
    with pytest.raises(ServerDidNotStart) as raised:
        quick.up()
    assert str(postgres.log) in str(raised.value)
    assert "database files are incompatible with server" in str(raised.value)
    assert "./run stack reset" in str(raised.value)


def test_a_full_disk_is_told_and_passes_once_there_is_room(quick: Stack) -> None:
    """A limit on the size of files fails as a full disk does, and needs no disk to fill."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, limits[1]))
    try:
        with pytest.raises(ServerDidNotStart, match="postgres did not start"):
            quick.up()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    quick.up()


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="file/home"):
        Stack(tmp_path / "file" / "home", QUICK).up()


def test_an_unknown_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="no such server: mysql"):
        Stack(tmp_path, ["mysql"])


def test_a_server_that_is_started_while_others_are_reaped_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[object] = []

    class Ended:
        def poll(self) -> int:
            started.append("another")
            return 0

    started.append(Ended())
    monkeypatch.setattr(server_processes, "_started", started)

    server_processes.reap_ended()

    assert started == ["another"]
