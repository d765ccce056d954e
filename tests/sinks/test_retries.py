"""Entries of the retry queue: one for each change, however often it is told, and what becomes of it."""

from typing import Any

import psycopg
import pytest

from sinks import retries
from sinks.retries import postponed_changes, retry_ends
from syncline.circuit import Circuits
from syncline.jitter import JITTER
from syncline.model.change import RetryOf
from syncline.model.errors import Postponed, Refused
from syncline.model.failure import Failure
from syncline.model.reentry import RetryEnd, RetryState
from syncline.settings import Settings
from syncline.stopping import Stop
from tests.changes import change_message, change_of, price

FLOW = "tests"
ATTEMPTS = 2


@pytest.fixture
def dsn(own: Settings) -> str:
    dsn = own.postgres_dsn.get_secret_value()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE sync.retries")
    return dsn


def ask(dsn: str, query: str) -> list[Any]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def do(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


def locked_price(version: int, amount: str = "1") -> Failure:
    change = change_of(change_message("price", price(list_amount=amount), version, offset=version))
    return Failure("apply", change.message, Postponed("locked"), change)


def postpone(dsn: str, *failures: Failure, attempts: int = ATTEMPTS) -> None:
    sink = postponed_changes(FLOW, dsn, Circuits(Stop()).postgres, attempts)
    sink.write(failures)
    sink.close()


def tell(dsn: str, *ends: RetryEnd) -> None:
    sink = retry_ends(FLOW, dsn, Circuits(Stop()).postgres, ATTEMPTS)
    sink.write(ends)
    sink.close()


def send(dsn: str, attempt: int) -> RetryOf:
    """The one entry is on its way."""
    [(entry, turned_back)] = ask(
        dsn, f"UPDATE sync.retries SET state = 'sent', attempt = {attempt} RETURNING id, turned_back"
    )
    return RetryOf(entry, attempt, turned_back)


def turned_back_again(retry_of: RetryOf) -> RetryEnd:
    failure = locked_price(5)
    assert failure.change is not None
    failure = failure._replace(change=failure.change._replace(retry_of=retry_of))
    return RetryEnd(retry_of, RetryState.WAITING, failure)


def seen(dsn: str) -> list[Any]:
    return ask(dsn, "SELECT (version ->> 1)::int, state, turned_back FROM sync.retries ORDER BY id")


def test_each_change_waits_whole_and_once(dsn: str) -> None:
    five, other_five, six = locked_price(5), locked_price(5, amount="2"), locked_price(6)
    postpone(dsn, five, six, five)
    postpone(dsn, six, other_five)
    assert sorted(seen(dsn)) == [(5, "waiting", 1), (5, "waiting", 1), (6, "waiting", 1)]
    columns = 'topic, partition, "offset", message_key, message_value, appended_at_us, error, reason'
    message = six.message
    assert ask(dsn, f"SELECT {columns} FROM sync.retries WHERE version ->> 1 = '6'") == [
        (*message[:5], message.appended_at_us, "Postponed", "locked")
    ]


def test_it_comes_back_within_the_first_wait(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JITTER, "random", lambda: 0.5)
    postpone(dsn, locked_price(5))
    [(wait_s,)] = ask(dsn, "SELECT extract(epoch FROM next_attempt_at - first_seen) FROM sync.retries")
    assert float(wait_s) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("state", [RetryState.DONE, RetryState.OVERTAKEN])
def test_what_ends_well_is_closed_once(dsn: str, state: RetryState) -> None:
    postpone(dsn, locked_price(5))
    retry_of = send(dsn, 1)
    tell(dsn, RetryEnd(retry_of, state), RetryEnd(retry_of, state))
    tell(dsn, RetryEnd(retry_of, RetryState.OVERTAKEN), turned_back_again(retry_of))
    assert seen(dsn) == [(5, state, 1)]
    assert ask(dsn, "SELECT ended_at IS NOT NULL FROM sync.retries") == [(True,)]


def test_attempts_are_counted_once_each_and_exhausted_after_the_last(dsn: str) -> None:
    postpone(dsn, locked_price(5))
    for attempt in range(1, ATTEMPTS + 1):
        assert seen(dsn) == [(5, "waiting", attempt)]
        end = turned_back_again(send(dsn, attempt))
        tell(dsn, end)
        tell(dsn, end)
    assert seen(dsn) == [(5, "escalated", ATTEMPTS + 1)]
    postpone(dsn, locked_price(5))
    assert seen(dsn) == [(5, "escalated", ATTEMPTS + 1)], "a log that is read again tells it again"


def test_without_attempts_it_is_escalated_at_once(dsn: str) -> None:
    postpone(dsn, locked_price(5), attempts=0)
    assert seen(dsn) == [(5, "escalated", 1)]


def test_what_no_message_could_carry_is_escalated_at_once(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "LARGEST_CARRIED_BYTES", 10)
    postpone(dsn, locked_price(5))
    assert seen(dsn) == [(5, "escalated", 1)]


def test_only_the_last_sending_counts(dsn: str) -> None:
    postpone(dsn, locked_price(5))
    first = send(dsn, 1)
    last = send(dsn, 2)
    tell(dsn, RetryEnd(first, RetryState.DONE))
    assert seen(dsn) == [(5, "sent", 1)]
    tell(dsn, RetryEnd(last, RetryState.DONE))
    assert seen(dsn) == [(5, "done", 1)]


def test_what_can_never_be_taken_is_left_to_the_quarantine(dsn: str) -> None:
    postpone(dsn, locked_price(5))
    retry_of = send(dsn, 1)
    failure = locked_price(5)._replace(error=Refused("no such price"))
    tell(dsn, RetryEnd(retry_of, RetryState.QUARANTINED, failure))
    assert seen(dsn) == [(5, "quarantined", 1)]


@pytest.mark.parametrize("state", ["done", "overtaken", "quarantined", "discarded"])
def test_what_was_closed_and_is_turned_back_anew_waits_anew(dsn: str, state: str) -> None:
    """The copy may have been made anew since, and the log be read from its beginning."""
    postpone(dsn, locked_price(5))
    do(
        dsn,
        f"UPDATE sync.retries SET state = '{state}', turned_back = 2, handled_by = 'ann', ended_at = now()",
    )
    postpone(dsn, locked_price(5))
    assert seen(dsn) == [(5, "waiting", 1)]
    assert ask(dsn, "SELECT handled_by, ended_at FROM sync.retries") == [(None, None)]


@pytest.mark.parametrize("state", ["waiting", "sent"])
def test_what_waits_and_is_told_again_is_not_counted(dsn: str, state: str) -> None:
    postpone(dsn, locked_price(5))
    do(dsn, f"UPDATE sync.retries SET state = '{state}', turned_back = 2")
    postpone(dsn, locked_price(5))
    assert seen(dsn) == [(5, state, 2)]
