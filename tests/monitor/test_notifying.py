"""Rounds of notification against a real database, mail server and webhook."""

from collections.abc import Callable, Iterator, Mapping

import psycopg
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from syncline.model.errors import Misconfigured, MissingResource, Unavailable
from syncline.monitor.notification import Message
from syncline.monitor.notifying import Notifier
from syncline.monitor.overdue_references import OverdueReferences
from syncline.monitor.targets import targets
from syncline.policies.reading import load_policies
from syncline.settings import Settings
from syncline.stopping import Stop
from tests.changes import NOON_US
from tests.monitor.receivers import Mailbox, Webhook, mailbox, webhook
from tests.monitor.shop import Shop
from tests.monitor.waiting_room import WaitingRoom
from tests.own import but, own_database

POLICIES = load_policies()
INTERVAL_US = 60_000_000
SECRET = "t0psecret-path"


class Time:
    """A clock that is set forward by hand."""

    def __init__(self) -> None:
        self.now_us = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.now_us

    def pass_intervals(self, number: int = 1) -> None:
        self.now_us += number * INTERVAL_US


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook(SECRET) as hook:
        yield hook


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as box:
        yield box


Start = Callable[[Mapping[str, list[str]]], Notifier]


@pytest.fixture
def start(dsn: str, own: Settings, room: WaitingRoom, time: Time) -> Start:
    """A notifier as a process that starts now has it, for these addresses by recipient."""

    def start(addresses: Mapping[str, list[str]]) -> Notifier:
        return notifier(dsn, own, addresses, time)

    return start


def notifier(dsn: str, settings: Settings, addresses: Mapping[str, list[str]], time: Time) -> Notifier:
    secret = {name: [SecretStr(address) for address in own] for name, own in addresses.items()}
    return Notifier(
        dsn,
        list(targets(secret)),
        POLICIES.recipients,
        POLICIES.topics("shop"),
        POLICIES.personal,
        OverdueReferences.of(settings, POLICIES),
        INTERVAL_US,
        time,
    )


def test_ten_thousand_changes_are_one_message_a_recipient(
    start: Start, room: WaitingRoom, hook: Webhook, box: Mailbox
) -> None:
    room.quarantine(10_000)
    with webhook("warehouse") as other:
        notifier = start(
            {"data-quality": [box.address], "pricing": [hook.address], "warehouse": [other.address]}
        )
        assert notifier.round(Stop()) == 0
    [mail], [message] = box.mails, hook.messages
    assert mail["Subject"] == message["title"] == "Syncline: 10,000 changes in quarantine"
    assert mail["To"] == "team@shop.example"
    text = mail.get_payload(decode=True)
    assert isinstance(text, bytes)
    assert text.decode().split() == message["message"].split()
    assert "  10,000 Invalid, sale_amount, for example:" in message["message"].splitlines()
    assert message["message"].count("EUR:SKU-") == 3
    assert "syncline quarantine list --entity price" in message["message"]
    assert other.messages == []


def test_each_recipient_is_told_of_its_own(start: Start, room: WaitingRoom, hook: Webhook) -> None:
    room.quarantine()
    room.quarantine(entity_type=None, topic="shop.customers.crm", reason="value: 'ann@x.example' is no JSON")
    room.quarantine(entity_type=None, topic="elsewhere")
    room.review("c-1")
    room.conflict("c-2", winner="known")
    room.conflict("c-3", winner="arrived")
    room.conflict("c-4", winner="known", days_ago=30)
    with webhook("crm") as crm, webhook("customers") as customers:
        start(
            {
                "data-quality": [hook.address],
                "crm": [crm.address],
                "customers": [customers.address],
            }
        ).round(Stop())
    assert [message["title"] for message in hook.messages] == [
        "Syncline: 3 changes in quarantine, 1 open review, 1 conflict that the known side won"
    ]
    assert "not decoded, from elsewhere" in hook.messages[0]["message"]
    assert "ann@" not in hook.messages[0]["message"]
    assert [message["title"] for message in crm.messages] == ["Syncline: 1 change in quarantine"]
    [of_customers] = [message["message"] for message in customers.messages]
    assert ["c-1" in of_customers, "c-2" in of_customers, "crm" in of_customers] == [True, True, False]


def test_a_restart_neither_repeats_nor_loses(
    start: Start, room: WaitingRoom, hook: Webhook, time: Time
) -> None:
    room.quarantine(3)
    start({"pricing": [hook.address]}).round(Stop())
    time.pass_intervals()
    start({"pricing": [hook.address]}).round(Stop())
    assert len(hook.messages) == 1
    room.quarantine(2)
    start({"pricing": [hook.address]}).round(Stop())
    assert [message["title"] for message in hook.messages] == [
        "Syncline: 3 changes in quarantine",
        "Syncline: 2 changes in quarantine",
    ]
    assert "EUR:SKU-4" in hook.messages[1]["message"]
    assert "New since 2023-11-14 22:13:20 UTC" in hook.messages[1]["message"]


def test_a_row_that_was_committed_late_is_told_all_the_same(
    start: Start, dsn: str, room: WaitingRoom, hook: Webhook, time: Time
) -> None:
    notifier = start({"pricing": [hook.address]})
    with psycopg.connect(dsn) as late:
        room.quarantine(reason="late: 1", connection=late)
        room.quarantine(reason="early: 1")
        notifier.round(Stop())
        late.commit()
    time.pass_intervals()
    notifier.round(Stop())
    assert ["late" in message["message"] for message in hook.messages] == [False, True]


def test_a_burst_within_the_interval_is_summed_up(
    start: Start, room: WaitingRoom, hook: Webhook, time: Time
) -> None:
    room.quarantine()
    start({"pricing": [hook.address]}).round(Stop())
    for _ in range(5):
        time.now_us += INTERVAL_US // 10
        room.quarantine(10)
        start({"pricing": [hook.address]}).round(Stop())
    assert len(hook.messages) == 1
    time.pass_intervals()
    start({"pricing": [hook.address]}).round(Stop())
    assert [message["title"] for message in hook.messages[1:]] == ["Syncline: 50 changes in quarantine"]


def test_a_target_that_is_down_is_told_later_and_holds_nobody_up(
    start: Start, room: WaitingRoom, hook: Webhook, box: Mailbox, time: Time
) -> None:
    hook.up = False
    notifier = start({"data-quality": [hook.address, box.address]})
    room.quarantine(2)
    assert notifier.round(Stop()) == 1
    assert (len(hook.messages), len(box.mails)) == (0, 1)
    room.quarantine(3)
    time.pass_intervals()
    assert notifier.round(Stop()) == 1
    hook.up = True
    time.pass_intervals()
    assert notifier.round(Stop()) == 0
    assert hook.messages == []  # the second failure: it is tried after two intervals
    time.pass_intervals()
    assert notifier.round(Stop()) == 0
    assert [message["title"] for message in hook.messages] == ["Syncline: 5 changes in quarantine"]
    assert [mail["Subject"] for mail in box.mails] == [
        "Syncline: 2 changes in quarantine",
        "Syncline: 3 changes in quarantine",
    ]


def test_what_is_opened_again_is_news(start: Start, room: WaitingRoom, hook: Webhook, time: Time) -> None:
    notifier = start({"pricing": [hook.address]})
    room.quarantine()
    notifier.round(Stop())
    room.set_state("replayed")
    time.pass_intervals()
    notifier.round(Stop())
    assert room.connection.execute("SELECT count(*) FROM sync.told").fetchall() == [(0,)]
    room.set_state("open")
    time.pass_intervals()
    notifier.round(Stop())
    assert len(hook.messages) == 2


def test_a_change_that_no_retry_got_in_is_told_and_one_that_waits_is_not(
    start: Start, room: WaitingRoom, hook: Webhook
) -> None:
    room.retry("EUR:SKU-1", "escalated")
    for number, state in enumerate(("waiting", "sent", "done", "overtaken", "quarantined", "discarded")):
        room.retry(f"USD:SKU-{number}", state)
    start({"pricing": [hook.address]}).round(Stop())
    [message] = hook.messages
    assert message["title"] == "Syncline: 1 change that no retry got in"
    assert "EUR:SKU-1 (lock timeout)" in message["message"]
    assert "syncline retries list --state escalated --entity price" in message["message"]


def test_two_processes_never_tell_the_same(
    start: Start, dsn: str, room: WaitingRoom, hook: Webhook, time: Time
) -> None:
    notifier = start({"pricing": [hook.address]})
    notifier.round(Stop())
    room.quarantine()
    with psycopg.connect(dsn) as other:
        other.execute("SELECT FROM sync.notification_targets FOR UPDATE")
        time.pass_intervals()
        assert notifier.round(Stop()) == 0
    assert hook.messages == []
    notifier.round(Stop())
    assert len(hook.messages) == 1


def test_messages_are_counted_by_recipient(start: Start, room: WaitingRoom, hook: Webhook) -> None:
    def count(outcome: str) -> float:
        labels = {"recipient": "warehouse", "outcome": outcome}
        return REGISTRY.get_sample_value("syncline_notifications_total", labels) or 0.0

    before = count("sent"), count("failed")
    room.quarantine(entity_type="stock")
    with webhook("down") as down:
        down.up = False
        start({"warehouse": [hook.address, down.address]}).round(Stop())
    assert (count("sent"), count("failed")) == (before[0] + 1, before[1] + 1)


def test_a_stop_ends_the_round_before_the_next_target(start: Start, room: WaitingRoom, hook: Webhook) -> None:
    room.quarantine()
    stop = Stop()
    stop.request()
    start({"pricing": [hook.address]}).round(stop)
    assert hook.messages == []


def test_a_failure_says_what_was_wrong(hook: Webhook) -> None:
    hook.up = False
    [target] = targets({"pricing": [SecretStr(hook.address)]})
    with pytest.raises(Unavailable, match=r"pricing/1 does not take a message: .*503"):
        target.send(Message("title", "body"))


def test_a_failure_shows_no_part_of_the_address() -> None:
    """The host too may be a secret: the first token of Slack's addresses stands in its place."""
    [target] = targets({"pricing": [SecretStr(f"json://127.0.0.1:1/{SECRET}")]})
    with pytest.raises(Unavailable, match=r"Connection error occurred .* to \*\*\*\*") as told:
        target.send(Message("title", "body"))
    assert "127.0.0.1" not in str(told.value)


@pytest.mark.parametrize(
    ("addresses", "told"),
    [
        ({}, "there are none"),
        ({"pricing": ["json://127.0.0.1/x", "nonsense://s3cret"]}, "address 2 of 'pricing'"),
        ({"princing": ["json://127.0.0.1/x"]}, "'princing' is told of nothing; there are catalog, crm"),
    ],
)
def test_a_target_that_could_never_be_told_is_named(
    start: Start, addresses: dict[str, list[str]], told: str
) -> None:
    with pytest.raises(Misconfigured, match=told) as error:
        start(addresses)
    assert "s3cret" not in str(error.value)


def test_a_database_without_the_schema_is_told(own: Settings, hook: Webhook, time: Time) -> None:
    with own_database(own.postgres_dsn.get_secret_value(), "own_nothing") as dsn:
        without_schema = notifier(dsn, own, {"pricing": [hook.address]}, time)
        with pytest.raises(MissingResource, match="syncline setup"):
            without_schema.round(Stop())


@pytest.fixture
def waiting(shop: Shop, time: Time) -> Shop:
    """A shop with prices and stock of products that never came, an hour and more ago."""
    time.now_us = NOON_US + 3_700_000_000
    for sku in ("A", "B"):
        shop.sell_early(sku)
    return shop


def test_a_product_that_never_came_is_told_once_to_whom_it_concerns(
    start: Start, waiting: Shop, hook: Webhook, time: Time
) -> None:
    with webhook("catalog") as catalog:
        tell = start({"pricing": [hook.address], "catalog": [catalog.address]})
        tell.round(Stop())
        time.pass_intervals()
        tell.round(Stop())
    [message] = hook.messages
    assert message["title"] == "Syncline: 2 overdue references"
    assert "  2 product never came, for example:" in message["message"].splitlines()
    assert "    EUR:A (hidden since 2026-01-01 12:00:00 UTC)" in message["message"].splitlines()
    assert catalog.messages == []


def test_what_is_within_its_grace_time_is_not_told(
    start: Start, waiting: Shop, hook: Webhook, time: Time
) -> None:
    time.now_us = NOON_US + 3_600_000_000
    start({"pricing": [hook.address]}).round(Stop())
    assert hook.messages == []
    time.now_us += 5_000  # the copy had it so much later than its commit
    start({"pricing": [hook.address]}).round(Stop())
    assert len(hook.messages) == 1


def test_an_overdue_reference_that_went_away_and_came_back_is_news(
    start: Start, waiting: Shop, hook: Webhook, time: Time
) -> None:
    tell = start({"pricing": [hook.address]})
    tell.round(Stop())
    early = waiting.document("A")
    waiting.index({**early, "name": "Cup", "_sync": {**early["_sync"], "hidden": False}})
    time.pass_intervals()
    tell.round(Stop())
    waiting.index(early)
    time.pass_intervals()
    tell.round(Stop())
    assert [message["title"] for message in hook.messages] == [
        "Syncline: 2 overdue references",
        "Syncline: 1 overdue reference",
    ]
    assert "EUR:A" in hook.messages[1]["message"]


def test_a_search_copy_that_is_away_keeps_nobody_from_the_rest(
    dsn: str, own: Settings, start: Start, room: WaitingRoom, waiting: Shop, hook: Webhook, time: Time
) -> None:
    addresses = {"pricing": [hook.address]}
    start(addresses).round(Stop())
    room.quarantine()
    time.pass_intervals()
    away = notifier(dsn, but(own, elasticsearch_url="http://127.0.0.1:1"), addresses, time)
    with pytest.raises(Unavailable, match="Elasticsearch does not answer"):
        away.round(Stop())
    told = [message["title"] for message in hook.messages]
    assert told == ["Syncline: 2 overdue references", "Syncline: 1 change in quarantine"]
    time.pass_intervals()
    start(addresses).round(Stop())
    assert len(hook.messages) == len(told)
