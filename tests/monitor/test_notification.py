"""The wording of messages, and when a target is tried again."""

from datetime import UTC, datetime

import pytest

from syncline.monitor.notification import (
    EXAMPLES,
    LONGEST_BACKOFF_US,
    MOST_KINDS,
    MOST_SECTIONS,
    Example,
    Source,
    Tally,
    next_try_us,
    word,
)

INTERVAL_US = 60_000_000


def tally(
    source: Source = Source.QUARANTINE,
    entity_type: str | None = "price",
    topic: str | None = None,
    kind: str = "Invalid",
    field: str = "sale_amount",
    count: int = 1,
    examples: tuple[Example, ...] = (Example(1, "EUR:SKU-1", "sale_amount: 12 must lie below 9"),),
) -> Tally:
    return Tally(source, entity_type, topic, kind, field, count, examples)


def test_ten_thousand_changes_are_one_message_with_examples_and_what_to_do() -> None:
    message = word(
        [tally(count=9_990), tally(field="list_amount", count=10)],
        (),
        {},
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )
    assert message.title == "Syncline: 10,000 changes in quarantine"
    assert message.body.splitlines() == [
        "New since 2026-01-02 03:04:05 UTC:",
        "",
        "price: 10,000 changes in quarantine",
        "  9,990 Invalid, sale_amount, for example:",
        "    EUR:SKU-1 (sale_amount: 12 must lie below 9)",
        "  10 Invalid, list_amount, for example:",
        "    EUR:SKU-1 (sale_amount: 12 must lie below 9)",
        "  Next: syncline quarantine list --entity price",
    ]


def test_all_that_waits_is_counted_in_the_title() -> None:
    tallies = [
        tally(Source.CONFLICTS, "customer", kind="ownership", field="notes", count=2),
        tally(),
        tally(Source.REVIEWS, "customer", kind="concurrent values", field="email", count=3),
    ]
    message = word(tallies, (), {}, None)
    assert (
        message.title
        == "Syncline: 1 change in quarantine, 3 open reviews, 2 conflicts that the known side won"
    )
    assert message.body.startswith("Open now:\n\nprice: 1 change in quarantine\n")
    assert [line for line in message.body.splitlines() if "Next: " in line] == [
        "  Next: syncline quarantine list --entity price",
        "  Next: syncline conflicts list --open",
        "  Next: syncline conflicts list",
    ]


def test_what_is_overdue_is_named_with_how_long_it_is_hidden() -> None:
    example = Example(1, "EUR:SKU-1", "hidden since 2026-01-01 12:00:00 UTC")
    overdue = tally(
        Source.OVERDUE_REFERENCES, kind="product never came", field="", count=2, examples=(example,)
    )
    message = word([tally(), overdue], (), {}, None)
    assert message.title == "Syncline: 1 change in quarantine, 2 overdue references"
    assert message.body.splitlines()[-4:] == [
        "price: 2 overdue references",
        "  2 product never came, for example:",
        "    EUR:SKU-1 (hidden since 2026-01-01 12:00:00 UTC)",
        "  Next: syncline references",
    ]


def test_what_was_never_decoded_is_named_by_its_topic_and_entry() -> None:
    example = Example(17, None, "value: this is not JSON")
    message = word(
        [tally(entity_type=None, topic="shop.pricing.price", examples=(example,))],
        ("customer",),
        {"shop.pricing.price": "price"},
        None,
    )
    assert "not decoded, from shop.pricing.price: 1 change in quarantine" in message.body
    assert "    entry 17 (value: this is not JSON)" in message.body
    assert "Next: syncline quarantine list --topic shop.pricing.price" in message.body


@pytest.mark.parametrize(("entity_type", "topic"), [("customer", None), (None, "shop.customers.crm")])
def test_no_value_of_a_persons_data_is_shown(entity_type: str | None, topic: str | None) -> None:
    example = Example(7, "c-1", "email: 'ann@shop.example' is none")
    message = word(
        [tally(entity_type=entity_type, topic=topic, examples=(example,))],
        ("customer",),
        {"shop.customers.crm": "customer"},
        None,
    )
    assert "c-1" in message.body
    assert "ann@" not in message.title + message.body


def test_a_message_stays_short_and_still_counts_everything() -> None:
    examples = tuple(Example(number, f"SKU-{number}", "reason " * 100) for number in range(10))
    tallies = [
        tally(entity_type=f"type{entity}", field=f"field{field}", count=1_000 - field, examples=examples)
        for entity in range(20)
        for field in range(20)
    ]
    message = word(tallies, (), {}, None)
    lines = message.body.splitlines()
    assert len(lines) <= 3 + MOST_SECTIONS * (4 + MOST_KINDS * (1 + EXAMPLES))
    assert max(map(len, lines)) < 200
    assert message.title == f"Syncline: {20 * sum(range(981, 1_001)):,} changes in quarantine"
    of_a_section = sum(range(981, 997))
    assert lines.count(f"  {of_a_section:,} of 16 other kinds") == MOST_SECTIONS
    left_out = (20 - MOST_SECTIONS) * sum(range(981, 1_001))
    assert lines[-1] == f"And {left_out:,} changes in quarantine of other entities or topics."


def test_the_most_frequent_comes_first() -> None:
    message = word([tally(entity_type="stock"), tally(entity_type="price", count=2)], (), {}, None)
    assert message.body.index("price: 2") < message.body.index("stock: 1")


@pytest.mark.parametrize(("failures", "intervals"), [(0, 1), (1, 1), (2, 2), (3, 4), (7, 60), (10_000, 60)])
def test_a_target_that_fails_is_tried_ever_more_seldom(failures: int, intervals: int) -> None:
    assert next_try_us(5, INTERVAL_US, failures) == 5 + intervals * INTERVAL_US


def test_an_interval_longer_than_the_longest_backoff_is_kept() -> None:
    assert next_try_us(0, 2 * LONGEST_BACKOFF_US, 5) == 2 * LONGEST_BACKOFF_US
