"""A change that kills its flow is found, put aside whole, and the flow goes on with the others."""

from collections import deque
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from sources.isolation import SETTLE_ASKED, Hand
from syncline.console.main import app
from syncline.flow_processes import FlowProcesses
from syncline.isolation import (
    Isolation,
    Journal,
    JournalFile,
    Plan,
    Poison,
    Span,
    common,
    count,
    fingerprint,
    read_journal,
    read_plan,
    write_plan,
)
from syncline.model.message import Message
from syncline.settings import Settings
from syncline.supervisor import Backoff, Supervisor
from tests.changes import PRODUCT, payload, product
from tests.log import Log
from tests.own import own_settings
from tests.process.dying_flow import CRASHES, RAISES
from tests.process.test_flow import is_indexed, produce
from tests.process.test_supervisor import supervised
from tests.services.database import Database
from tests.waiting import eventually

AT_ONCE = Backoff(timedelta(seconds=0.1), timedelta(seconds=0.2))
DYING = "tests.process.dying_flow"


def message(offset: int, topic: str = "t", partition: int = 0) -> Message:
    return Message(topic, partition, offset, b"k", b"v%d" % offset, (), 0, 0)


def test_what_lies_in_both() -> None:
    left = [Span("t", 0, 0, 10), Span("t", 1, 0, 10)]
    right = [Span("t", 0, 5, 20), Span("u", 1, 0, 10), Span("t", 1, 10, 20)]
    assert common(left, right) == (Span("t", 0, 5, 10),)
    assert count(left) == 20


def died(isolation: Isolation, *spans: Span, alone: str | None = None) -> Poison | None:
    return isolation.died("KeyError: 'x'", [Journal(spans, alone)])


def test_what_two_deaths_have_in_common_is_narrowed_down_to_the_one_that_was_alone_twice() -> None:
    isolation = Isolation()
    assert died(isolation, Span("t", 0, 0, 100), Span("t", 1, 0, 9)) is None
    assert not count(isolation.suspects), "one death may be an accident"
    assert died(isolation, Span("t", 0, 40, 200)) is None
    assert list(isolation.suspects) == [Span("t", 0, 40, 100)]
    assert died(isolation, Span("t", 0, 50, 51), Span("t", 0, 51, 52)) is None
    assert count(isolation.suspects) == 2
    assert died(isolation, Span("t", 0, 51, 52), alone="print") is None
    assert list(isolation.suspects) == [Span("t", 0, 51, 52)]
    found = died(isolation, Span("t", 0, 51, 52), alone="print")
    assert found == Poison("t", 0, 51, "print", "KeyError: 'x'")
    assert isolation.plan == Plan((), (found,))


def test_deaths_that_have_nothing_in_common_find_nobody_guilty() -> None:
    isolation = Isolation()
    for n in range(20):
        assert died(isolation, Span("t", 0, 10 * n, 10 * n + 10)) is None
        assert isolation.suspects == ()


def test_a_search_ends_where_the_flow_dies_of_something_else() -> None:
    isolation = Isolation()
    died(isolation, Span("t", 0, 0, 10))
    died(isolation, Span("t", 0, 0, 10))
    assert isolation.suspects
    died(isolation)
    assert isolation.suspects == ()


def test_what_kills_while_nothing_was_handed_on_is_in_the_snapshot() -> None:
    isolation = Isolation()
    died(isolation, Span("t", 0, 0, 10))
    died(isolation, Span("t", 0, 0, 10))
    assert not isolation.is_in_snapshot
    isolation.died("KeyError: 'x'", [Journal(is_resuming=True)])
    assert isolation.is_in_snapshot
    assert isolation.suspects == ()


def test_a_journal_is_read_whole_whatever_was_written_before(tmp_path: Path) -> None:
    assert read_journal(tmp_path) == Journal()
    file = JournalFile(tmp_path)
    for journal in (
        Journal((Span("t", 0, 0, 10**12),) * 5, "print"),
        Journal(),
        Journal((Span("t", 0, 1, 2),)),
    ):
        file.write(journal)
        assert read_journal(tmp_path) == journal
    file.close()
    (tmp_path / "handed_on.json").write_bytes(b'{"spans": [')
    assert read_journal(tmp_path) == Journal()


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = Plan((Span("t", 0, 1, 2),), (Poison("t", 0, 1, "print", "KeyError: 'x'"),))
    assert read_plan(tmp_path / "flow") == Plan()
    write_plan(tmp_path / "flow", plan)
    assert read_plan(tmp_path / "flow") == plan


def settle(hand: Hand, part: str = "0") -> None:
    for _ in range(SETTLE_ASKED):
        if hand.may_hand_on(part):
            return
    eventually(lambda: hand.may_hand_on(part), what="the portion's end")


def test_all_is_handed_on_at_once_while_nothing_is_suspect(tmp_path: Path) -> None:
    hand = Hand(Plan(), JournalFile(tmp_path))
    assert hand.may_hand_on("0")
    assert len(hand.take("0", deque(map(message, range(5, 10))))) == 5
    assert read_journal(tmp_path).spans == (Span("t", 0, 5, 10),)
    hand.done({("t", 0): 8, ("other", 0): 3})
    assert read_journal(tmp_path).spans == (Span("t", 0, 8, 10),)


def test_suspects_go_in_portions_and_the_others_between_them_at_once(tmp_path: Path) -> None:
    hand = Hand(Plan((Span("t", 0, 3, 3 + 128),)), JournalFile(tmp_path))
    assert not hand.may_hand_on("0"), "what a snapshot held comes first"
    assert read_journal(tmp_path).is_resuming
    settle(hand)
    assert read_journal(tmp_path) == Journal()
    waiting = deque(map(message, range(200)))
    assert [m.offset for m in hand.take("0", waiting)] == [0, 1, 2]
    assert hand.may_hand_on("0")
    assert [m.offset for m in hand.take("0", waiting)] == [3, 4]
    assert read_journal(tmp_path) == Journal((Span("t", 0, 3, 4), Span("t", 0, 4, 5)))
    for _ in range(SETTLE_ASKED * 2):
        assert not hand.may_hand_on("1"), "another partition has to wait"
    hand.done({("t", 0): 5})
    assert count(read_journal(tmp_path).spans) == 2, "a snapshot alone says nothing"
    settle(hand)
    assert read_journal(tmp_path) == Journal()
    for _ in range(63):
        hand.take("0", waiting)
        settle(hand)
    assert len(hand.take("0", waiting)) == 69, "the rest is beyond the suspects"
    assert waiting == deque()


def test_the_last_suspect_is_alone_and_known_by_its_bytes(tmp_path: Path) -> None:
    hand = Hand(Plan((Span("t", 0, 1, 2),)), JournalFile(tmp_path))
    settle(hand)
    waiting = deque(map(message, range(3)))
    hand.take("0", waiting)
    assert [m.offset for m in hand.take("0", waiting)] == [1]
    assert read_journal(tmp_path) == Journal((Span("t", 0, 1, 2),), fingerprint(message(1)))


def test_poison_is_marked_unless_another_message_has_its_place(tmp_path: Path) -> None:
    bad = Poison("t", 0, 1, fingerprint(message(1)), "KeyError: 'x'")
    hand = Hand(Plan((), (bad,)), JournalFile(tmp_path))
    assert hand.marked(message(1)).poison == "KeyError: 'x'"
    assert hand.marked(message(0)).poison is None
    assert hand.marked(message(1)._replace(value=b"of a topic that was made anew")).poison is None


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """A log of its own for each test: what kills the flow stays in it."""
    with own_settings(settings, "isolation", redis_database=10, home=tmp_path) as own:
        yield own


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search flow that is started is the one that dies of some documents."""
    usual = FlowProcesses._command

    def command(self: FlowProcesses) -> list[str]:
        return [DYING if word == "dataflows.catalog_search" else word for word in usual(self)]

    monkeypatch.setattr(FlowProcesses, "_command", command)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", [RAISES, CRASHES])
def test_a_change_that_kills_the_flow_goes_to_quarantine_and_the_others_go_on(
    own: Settings,
    log: Log,
    database: Database,
    tmp_path: Path,
    dying: None,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    before, after = ([f"{how[-6:]}-{when}-{n}" for n in range(50)] for when in ("before", "after"))
    produce(log, own, *before, how, *after)
    supervisor = Supervisor("catalog_search", 1, lambda: own, AT_ONCE, tmp_path / "flow.log")

    def quarantine() -> list[tuple[object, ...]]:
        return database.ask("SELECT error, step, state, message_key, message_value, id FROM sync.quarantine")

    with supervised(supervisor) as codes:
        skus = (*before, *after)
        eventually(lambda: all(is_indexed(own, sku) for sku in skus), seconds=120, what="the others")
        [entry] = eventually(quarantine, what="the quarantine")
        assert entry[:4] == ("Poison", "isolate", "open", how.encode())
        assert entry[4] == orjson.dumps(payload("product", product(how)))
        assert not is_indexed(own, how)
        life = supervisor.running

        for name, value in own.as_environment().items():
            monkeypatch.setenv(name, value)
        with FlowProcesses("outbox_relay", own, None, log=tmp_path / "relay.log"):
            replay = ["quarantine", "replay", str(entry[5]), "--by", "ann"]
            assert CliRunner().invoke(app, replay).exit_code == 0
            eventually(lambda: supervisor.running is not life, what="another death")
            eventually(lambda: quarantine()[0][2] == "open", seconds=120, what="the replay's end")
            assert len(quarantine()) == 1
            produce(log, own, f"{how[-6:]}-at-last")
            eventually(lambda: is_indexed(own, f"{how[-6:]}-at-last"), what="the next change")
        assert codes == []
    assert codes == [0]
    assert PRODUCT.topic(own.topic_prefix) in (tmp_path / "run/catalog_search/isolation.json").read_text()
