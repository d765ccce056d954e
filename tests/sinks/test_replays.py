"""Entries of the quarantine: one for each entity, and what becomes of it when it is replayed."""

from typing import Any

import psycopg
import pytest

from sinks.postgres import install_sync_schema
from sinks.quarantine import quarantine
from sinks.replays import replay_ends
from syncline.circuit import Circuits
from syncline.model.change import ReplayOf
from syncline.model.errors import Invalid, Undecodable
from syncline.model.failure import Failure
from syncline.model.message import Message
from syncline.model.reentry import ReplayEnd, ReplayState
from syncline.settings import Settings
from syncline.stopping import Stop
from tests.changes import change_message, change_of, price

FLOW = "tests"


@pytest.fixture
def dsn(own: Settings) -> str:
    dsn = own.postgres_dsn.get_secret_value()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE sync.quarantine")
    return dsn


OF_THE_FIRST_VERSION = """
ALTER TABLE sync.quarantine
    DROP COLUMN corrected_value, DROP COLUMN attempt, DROP COLUMN handled_by, DROP COLUMN why,
    DROP COLUMN handled_at, DROP COLUMN ended_at, DROP CONSTRAINT quarantine_state_check,
    ADD CONSTRAINT quarantine_state_check CHECK (state IN ('open', 'replayed', 'discarded')),
    ADD UNIQUE (flow, step, topic, fingerprint);
DROP INDEX sync.quarantine_once;
"""


def ask(dsn: str, query: str) -> list[Any]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def do(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


def bad_price(version: int, offset: int | None = None, amount: str = "-1") -> Failure:
    """Of one price, as the apply step tells it."""
    row = price(list_amount=amount)
    change = change_of(change_message("price", row, version, offset=version if offset is None else offset))
    return Failure("apply", change.message, Invalid(f"list_amount: {amount} in version {version}"), change)


def of_replay(failure: Failure, quarantine_id: int, attempt: int) -> ReplayEnd:
    replay_of = ReplayOf(quarantine_id, attempt)
    if failure.change is not None:
        failure = failure._replace(change=failure.change._replace(replay_of=replay_of))
    return ReplayEnd(replay_of, ReplayState.OPEN, failure)


def put_aside(dsn: str, *failures: Failure) -> int:
    """The id of the one entry that there is then."""
    sink = quarantine(FLOW, dsn, Circuits(Stop()).postgres)
    sink.write(failures)
    sink.close()
    [(entry_id,)] = ask(dsn, "SELECT id FROM sync.quarantine")
    return int(entry_id)


def tell(dsn: str, *ends: ReplayEnd) -> None:
    sink = replay_ends(FLOW, dsn, Circuits(Stop()).postgres)
    sink.write(ends)
    sink.close()


def replaying(dsn: str, attempt: int) -> None:
    do(dsn, f"UPDATE sync.quarantine SET state = 'replaying', attempt = {attempt}")


def seen(dsn: str) -> Any:  # noqa: ANN401 - a row
    [row] = ask(dsn, "SELECT (version ->> 1)::int, count, state, reason FROM sync.quarantine")
    return row


def test_a_hundred_failures_of_an_entity_are_one_entry_with_the_newest_of_them(dsn: str) -> None:
    failures = [bad_price(version) for version in range(1, 101)]
    put_aside(dsn, *failures[:40])
    put_aside(dsn, *failures[40:])
    assert seen(dsn) == (100, 100, "open", "list_amount: -1 in version 100")
    put_aside(dsn, *failures)
    assert seen(dsn)[1] == 100, "a flow that lost its snapshots reads them all again"
    [(value, first, last)] = ask(dsn, "SELECT message_value, first_seen, last_seen FROM sync.quarantine")
    assert value == failures[-1].message.value
    assert first < last


def test_an_older_change_that_comes_late_is_counted_and_the_newest_stays(dsn: str) -> None:
    put_aside(dsn, bad_price(7, offset=1))
    put_aside(dsn, bad_price(5, offset=2))
    assert seen(dsn) == (7, 2, "open", "list_amount: -1 in version 7")


def test_other_steps_of_an_entity_are_the_same_entry(dsn: str) -> None:
    put_aside(dsn, bad_price(5), bad_price(6)._replace(step="transform"))
    assert seen(dsn)[:2] == (6, 2)


@pytest.mark.parametrize("state", [ReplayState.REPLAYED, ReplayState.OVERTAKEN])
def test_a_replay_that_ends_well_closes_its_entry_once(dsn: str, state: ReplayState) -> None:
    entry = put_aside(dsn, bad_price(5))
    replaying(dsn, attempt=1)
    end = ReplayEnd(ReplayOf(entry, 1), state)
    tell(dsn, end, end)
    assert seen(dsn)[:3] == (5, 1, state)
    tell(dsn, ReplayEnd(ReplayOf(entry, 1), ReplayState.OVERTAKEN), of_replay(bad_price(5), entry, 1))
    assert seen(dsn)[:3] == (5, 1, state), "a log that is read again tells it again"


def test_a_replay_that_fails_again_opens_the_same_entry_once(dsn: str) -> None:
    entry = put_aside(dsn, bad_price(5))
    replaying(dsn, attempt=1)
    again = of_replay(bad_price(5, amount="-2"), entry, 1)
    tell(dsn, again)
    tell(dsn, again)
    assert seen(dsn) == (5, 2, "open", "list_amount: -2 in version 5")


def test_only_the_last_attempt_counts(dsn: str) -> None:
    entry = put_aside(dsn, bad_price(5))
    replaying(dsn, attempt=2)
    tell(dsn, of_replay(bad_price(5), entry, 1))
    assert seen(dsn)[:3] == (5, 1, "replaying")
    tell(dsn, ReplayEnd(ReplayOf(entry, 2), ReplayState.REPLAYED))
    assert seen(dsn)[2] == "replayed"


def test_what_is_decoded_at_last_and_then_fails_has_its_entity_on_record(dsn: str) -> None:
    failure = bad_price(5)
    entry = put_aside(dsn, Failure("decode", failure.message, Undecodable("no")))
    replaying(dsn, attempt=1)
    tell(dsn, of_replay(failure, entry, 1))
    assert seen(dsn)[:3] == (5, 2, "open")
    assert ask(dsn, "SELECT step, error, entity_id FROM sync.quarantine") == [
        ("apply", "Invalid", "EUR:SKU-1")
    ]


def test_what_was_never_decoded_fails_again_as_it_is(dsn: str) -> None:
    failure = Failure("decode", Message("t", 0, 1, b"k", b"{", (), 0, 0), Undecodable("no JSON"))
    entry = put_aside(dsn, failure)
    replaying(dsn, attempt=1)
    tell(dsn, ReplayEnd(ReplayOf(entry, 1), ReplayState.OPEN, failure._replace(error=Undecodable("still"))))
    assert seen(dsn) == (None, 2, "open", "still")


@pytest.mark.parametrize("state", ["replaying", "replayed", "overtaken"])
def test_a_repeat_of_a_corrected_change_opens_nothing_and_a_newer_failure_does(dsn: str, state: str) -> None:
    put_aside(dsn, bad_price(5))
    do(
        dsn,
        f"UPDATE sync.quarantine SET state = '{state}', version = '[1, 5, 0, 1]', corrected_value = 'x',"
        " handled_by = 'ann'",
    )
    put_aside(dsn, bad_price(5, offset=8))
    assert seen(dsn)[:3] == (5, 2, state)
    assert ask(dsn, "SELECT corrected_value, handled_by FROM sync.quarantine") == [(b"x", "ann")]
    put_aside(dsn, bad_price(6, offset=9))
    assert seen(dsn)[:3] == (6, 3, "open")
    assert ask(dsn, "SELECT corrected_value, handled_by FROM sync.quarantine") == [(None, None)]


def test_a_repeat_of_what_was_replayed_as_it_is_opens_nothing(dsn: str) -> None:
    put_aside(dsn, bad_price(5))
    do(dsn, "UPDATE sync.quarantine SET state = 'replayed'")
    put_aside(dsn, bad_price(5, offset=8))
    assert seen(dsn)[:3] == (5, 2, "replayed")


def test_a_table_of_the_first_version_is_brought_up_to_date_with_what_is_in_it(dsn: str) -> None:
    entry = put_aside(dsn, bad_price(5))
    do(dsn, OF_THE_FIRST_VERSION)
    for _ in range(2):
        install_sync_schema(dsn)
    replaying(dsn, attempt=1)
    tell(dsn, ReplayEnd(ReplayOf(entry, 1), ReplayState.OVERTAKEN))
    put_aside(dsn, bad_price(6)._replace(step="transform"))
    assert seen(dsn)[:3] == (6, 2, "open")
