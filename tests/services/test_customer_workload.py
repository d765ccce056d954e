"""What the three services write of customers next, without a database."""

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import combinations, islice, pairwise
from random import Random
from typing import Any

import pytest

from syncline.model.errors import Misconfigured
from syncline.services.customer_workload import (
    FEWEST_CUSTOMERS,
    KINDS,
    LANES,
    SHARED_FIELDS,
    WRITERS,
    ConcurrentEdits,
    CustomerMix,
    CustomerRow,
    CustomerWorkload,
)
from syncline.services.workload import Transaction

WINDOW = timedelta(seconds=5)


def happenings(
    seed: int, count: int, mix: CustomerMix | None = None
) -> tuple[list[Transaction], list[ConcurrentEdits]]:
    concurrent: list[ConcurrentEdits] = []
    workload = CustomerWorkload(Random(seed), mix or CustomerMix(), concurrent.append)
    return list(islice(workload.transactions(), count)), concurrent


def only(kind: str, **shares: float) -> CustomerMix:
    return CustomerMix(**{**dict.fromkeys(KINDS, 0.0), "concurrent": 0, kind: 1, **shares})


def row_of(transaction: Transaction) -> dict[str, Any]:
    (statement,) = transaction.statements
    (row,) = statement.rows
    return row


def puts(transactions: list[Transaction]) -> list[tuple[str, dict[str, Any]]]:
    """Writer and row of each upsert."""
    return [
        (str(transaction.writer), row_of(transaction))
        for transaction in transactions
        if transaction.statements[0].op == "upsert"
    ]


def test_the_same_seed_writes_the_same() -> None:
    assert happenings(7, 3_000) == happenings(7, 3_000)
    assert happenings(7, 3_000) != happenings(8, 3_000)


def test_all_writes_of_a_customer_share_a_lane_and_each_service_has_its_own_statements() -> None:
    lanes: dict[str, str] = {}
    for transaction in happenings(1, 5_000)[0]:
        assert lanes.setdefault(row_of(transaction)["id"], transaction.lane) == transaction.lane
        assert transaction.statements[0].name.endswith(f"_{transaction.writer}")
        assert transaction.service == transaction.writer
        assert transaction.size == 1
    assert set(lanes.values()) == set(LANES)


def test_only_rows_that_exist_are_deleted() -> None:
    there: set[tuple[str | None, str]] = set()
    deleted = 0
    for transaction in happenings(2, 20_000)[0]:
        row = (transaction.writer, row_of(transaction)["id"])
        if transaction.statements[0].op == "delete":
            assert row in there
            there.remove(row)
            deleted += 1
        else:
            there.add(row)
    assert deleted > 100


def test_no_writer_touches_a_field_that_is_not_its_own() -> None:
    touched: defaultdict[str, set[str]] = defaultdict(set)
    for writer, row in puts(happenings(3, 20_000)[0]):
        for field in row["fields"]:
            touched[field].add(writer)
    assert touched == {
        **{field: set(writers) for field, writers in SHARED_FIELDS.items()},
        "consent_at": set(WRITERS),
        "notes": {"support"},
    }


def test_one_change_in_twenty_is_a_concurrent_edit() -> None:
    _, concurrent = happenings(4, 20_000)
    assert 0.045 < 2 * len(concurrent) / 20_000 < 0.055
    assert {edits.field for edits in concurrent} == set(SHARED_FIELDS)
    assert {frozenset(edits.values) for edits in concurrent} == set(map(frozenset, combinations(WRITERS, 2)))


@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_the_share_of_concurrent_edits_can_be_set(share: float) -> None:
    _, concurrent = happenings(5, 10_000, CustomerMix(concurrent=share))
    assert 2 * len(concurrent) / 10_000 == pytest.approx(share, abs=0.02)


def test_only_the_edits_that_are_told_are_within_the_window() -> None:
    """By the times alone: of the rest each is later than any other writer's before it."""
    edits: defaultdict[tuple[str, str], list[tuple[datetime, str, str]]] = defaultdict(list)
    transactions, concurrent = happenings(6, 20_000)
    for writer, row in puts(transactions):
        for field in row["fields"]:
            edits[row["id"], field].append((datetime.fromisoformat(row["at"]), writer, row["at"]))
    close = {
        (customer_id, field, frozenset({(writer, at), (other_writer, other_at)}))
        for (customer_id, field), history in edits.items()
        for (first, writer, at), (second, other_writer, other_at) in pairwise(sorted(history))
        if second - first <= WINDOW and field != "consent_at"
    }
    assert close == {(e.customer_id, e.field, frozenset(e.times.items())) for e in concurrent}


def test_the_values_that_are_told_are_those_that_are_written_and_differ() -> None:
    transactions, concurrent = happenings(7, 10_000)
    written = {(writer, row["id"], row["at"]): row["fields"] for writer, row in puts(transactions)}
    for edits in concurrent:
        for writer, value in edits.values.items():
            fields = written[writer, edits.customer_id, edits.times[writer]]
            assert value == (fields if edits.field == "marketing_consent" else fields[edits.field])
        one, other = edits.values.values()
        if edits.field == "marketing_consent":
            assert one["marketing_consent"] is not other["marketing_consent"]
        assert one != other


def test_of_two_concurrent_edits_the_second_says_nothing_of_the_first() -> None:
    transactions, concurrent = happenings(8, 20_000)
    written = {(row["id"], row["at"], writer): row["seen"] for writer, row in puts(transactions)}
    order = {edit: number for number, edit in enumerate(written)}
    for edits in concurrent:
        first, second = sorted(
            ((edits.customer_id, at, writer) for writer, at in edits.times.items()), key=lambda e: order[e]
        )
        assert order[first] + 1 == order[second]
        assert first[2] not in written[second].get(edits.field, ())


@pytest.mark.parametrize("share", [0, 0.8, 1])
def test_so_many_edits_tell_what_they_had_seen_of_all_others(share: float) -> None:
    transactions, _ = happenings(9, 5_000, only("move", informed=share))
    told = [
        (writer, row["seen"]) for writer, row in puts(transactions) if row["fields"].keys() == {"address"}
    ]
    informed = [(writer, seen) for writer, seen in told if seen]
    assert len(informed) / len(told) == pytest.approx(share, abs=0.03)
    assert all({writer, *seen["address"]} == set(WRITERS) for writer, seen in informed)


def test_times_are_over_and_rise_for_each_customer() -> None:
    last: dict[str, datetime] = {}
    for _, row in puts(happenings(9, 20_000)[0]):
        at = datetime.fromisoformat(row["at"])
        assert last.get(row["id"], at) <= at + WINDOW
        assert at < datetime(2026, 1, 1, tzinfo=UTC)
        last[row["id"]] = max(at, last.get(row["id"], at))


def test_customers_at_the_end_of_the_era_make_room_for_new_ones() -> None:
    transactions, _ = happenings(10, 40_000, only("edit"))
    customers = Counter(row["id"] for _, row in puts(transactions))
    assert len(customers) > FEWEST_CUSTOMERS
    assert all(datetime.fromisoformat(row["at"]).year < 2026 for _, row in puts(transactions))


def test_it_goes_on_after_the_last_edit_of_those_that_there_are() -> None:
    last_edit = datetime(2024, 7, 1, tzinfo=UTC)
    rows = [
        CustomerRow(f"00000000-0000-4000-8000-{number:012d}", writer, {"email": "a@example.com"}, last_edit)
        for writer in WRITERS
        for number in range(FEWEST_CUSTOMERS)
    ]
    recent = CustomerRow("10000000-0000-4000-8000-000000000000", "crm", {}, datetime(2026, 6, 1, tzinfo=UTC))
    workload = CustomerWorkload(Random(0), only("edit"), lambda _edits: None)
    workload.know([*rows, recent])
    edited = puts(list(islice(workload.transactions(), 500)))
    assert {row["id"] for _, row in edited} == {row.customer_id for row in rows}
    assert min(datetime.fromisoformat(row["at"]) for _, row in edited) >= last_edit + timedelta(seconds=10)


@pytest.mark.parametrize(
    "wrong", [{"edit": -1}, dict.fromkeys(KINDS, 0), {"concurrent": 1.1}, {"informed": -0.1}]
)
def test_a_mix_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Misconfigured):
        CustomerMix(**wrong)
