"""Last write wins by version, never by arrival; the content breaks a tie."""

from itertools import permutations

import pytest

from operators.resolve import Resolve
from syncline.model.decision import Decision, Known, Verdict
from syncline.model.document import merge
from syncline.model.part import Part
from syncline.model.version import Version
from syncline.policies.search_document import SearchDocument
from tests.changes import NOON_US, price_part, stock_part, with_correction

resolve = Resolve()

LOW, HIGH = sorted(
    [stock_part(5, on_hand=10), stock_part(5, on_hand=11)], key=lambda part: part.change.content_hash
)
"""Two contents of one version: ``HIGH`` wins."""


def known(part: Part) -> Known:
    return Known(part.version, part.change.content_hash)


def test_what_the_copy_never_heard_of_is_applied() -> None:
    assert resolve.judge(LOW, None) == Verdict(LOW, Decision.APPLIED)


@pytest.mark.parametrize(
    ("arrives", "stands", "decision"),
    [
        (stock_part(6), stock_part(5), Decision.APPLIED),
        (stock_part(5), stock_part(6), Decision.SUPERSEDED),
        (stock_part(5), stock_part(5), Decision.DUPLICATE),
        (stock_part(5, "delete"), stock_part(5), Decision.APPLIED),
        (stock_part(5), stock_part(5, "delete"), Decision.SUPERSEDED),
        (stock_part(4, on_hand=99), stock_part(5, "delete"), Decision.SUPERSEDED),
        (stock_part(6), stock_part(5, "delete"), Decision.APPLIED),
        (stock_part(5, "delete", on_hand=1), stock_part(5, "delete", on_hand=2), Decision.DUPLICATE),
        (with_correction(stock_part(6), 1), stock_part(6, on_hand=3), Decision.APPLIED),
        (with_correction(stock_part(6), 1), stock_part(7), Decision.SUPERSEDED),
        (with_correction(stock_part(6), 1), with_correction(stock_part(6), 2), Decision.SUPERSEDED),
    ],
    ids=[
        "newer",
        "older",
        "the same",
        "delete of the version that stands",
        "late upsert of the deleted version",
        "late upsert of an older version",
        "re-created after the delete",
        "delete again, whatever the row last said",
        "corrected",
        "correction that came too late",
        "correction of an older correction",
    ],
)
def test_the_higher_version_wins(arrives: Part, stands: Part, decision: Decision) -> None:
    assert resolve.judge(arrives, known(stands)) == Verdict(arrives, decision)


def test_a_restored_source_speaks_above_all_that_it_said_before() -> None:
    restored = stock_part(1)
    change = restored.change._replace(version=restored.version._replace(generation=2))

    verdict = resolve.judge(restored._replace(change=change), known(stock_part(900)))

    assert verdict.decision is Decision.APPLIED


def test_the_same_version_with_other_content_is_a_conflict_that_the_higher_hash_wins() -> None:
    won, lost = resolve.judge(HIGH, known(LOW)), resolve.judge(LOW, known(HIGH))

    assert (won.decision, lost.decision) == (Decision.APPLIED, Decision.REJECTED)
    for verdict, standing in ((won, LOW), (lost, HIGH)):
        assert verdict.conflict is not None
        assert verdict.conflict.event_id == verdict.part.change.event_id
        assert verdict.conflict.known[1:3] == (tuple(known(standing).version), known(standing).content_hash)
        assert verdict.conflict.kind == "version"
        assert verdict.conflict.won == (verdict.decision is Decision.APPLIED)


def test_each_part_is_judged_by_what_the_copy_says_of_its_own_entity() -> None:
    document = SearchDocument().empty("SKU-1")
    merge(SearchDocument(), document, stock_part(9, warehouse_id="W1"), NOON_US)

    verdicts = resolve.against_copy(
        document, [stock_part(3, warehouse_id="W2"), stock_part(3, warehouse_id="W1"), price_part(3)]
    )

    assert [verdict.decision for verdict in verdicts] == [
        Decision.APPLIED,
        Decision.SUPERSEDED,
        Decision.APPLIED,
    ]


def decided(verdicts: list[Verdict]) -> dict[Version | str, list[Decision]]:
    outcome: dict[Version | str, list[Decision]] = {}
    for verdict in verdicts:
        outcome.setdefault(str(verdict.part.rank), []).append(verdict.decision)
    return {rank: sorted(decisions) for rank, decisions in outcome.items()}


def test_in_a_batch_the_newest_of_each_entity_enters_whatever_the_order_of_arrival() -> None:
    parts = [stock_part(4), LOW, HIGH, HIGH, price_part(1)]
    expected = {
        str(stock_part(4).rank): [Decision.SUPERSEDED],
        str(LOW.rank): [Decision.REJECTED],
        str(HIGH.rank): [Decision.APPLIED, Decision.DUPLICATE],
        str(price_part(1).rank): [Decision.APPLIED],
    }

    for order in permutations(parts):
        entering = [Verdict(part, Decision.APPLIED) for part in order]
        assert decided(resolve.among(entering)) == expected


def test_the_only_one_that_may_enter_keeps_its_conflict_with_the_copy() -> None:
    verdict = resolve.judge(HIGH, known(LOW))

    assert resolve.among([verdict]) == [verdict]
    assert verdict in resolve.among([Verdict(stock_part(4), Decision.APPLIED), verdict])


def test_a_conflict_is_told_also_where_a_third_stands_above_both() -> None:
    newest = stock_part(9, on_hand=1, reserved=0)
    conflicts = [
        verdict.conflict.event_id
        for verdict in resolve.among([Verdict(part, Decision.APPLIED) for part in (LOW, newest, HIGH)])
        if verdict.conflict is not None
    ]

    assert conflicts == [LOW.change.event_id]
