"""What supersedes what, and what stands, at the borders of the rules."""

from datetime import timedelta
from itertools import permutations

import pytest

from syncline.model.errors import Misconfigured
from syncline.policies.field_merge import MERGE_RULES, RESOLUTION, FieldMerge, FieldVersion
from syncline.policies.strategies import FieldPolicy, MergeRule, Strategy
from tests.customers import CUSTOMERS

WINDOW = timedelta(seconds=5)
WINDOW_US = 5_000_000
WRITERS = ("storefront", "crm", "support")

manual = FieldMerge(FieldPolicy("email", ("email",), WRITERS, Strategy.MANUAL, None), WINDOW)
last = FieldMerge(FieldPolicy("name", ("name",), WRITERS, Strategy.LAST_WRITE_WINS, None), WINDOW)


def value(writer: str, version: int, at_us: int = 0, said: object = None, **based_on: int) -> FieldVersion:
    return FieldVersion.made(writer, version, at_us, f"{writer}'s" if said is None else said, based_on)


def test_one_microsecond_more_than_the_window_supersedes() -> None:
    known = value("storefront", 1)

    assert manual.are_concurrent(value("crm", 2, WINDOW_US), known)
    assert manual.supersedes(value("crm", 2, WINDOW_US + 1), known)
    assert not manual.supersedes(known, value("crm", 2, WINDOW_US + 1))


def test_where_a_writer_says_what_it_had_seen_times_say_nothing() -> None:
    known = value("storefront", 5, at_us=100 * WINDOW_US)

    assert manual.supersedes(value("crm", 6, 0, storefront=5), known)
    assert not manual.supersedes(value("crm", 6, 900 * WINDOW_US, storefront=4), known)
    assert manual.supersedes(value("crm", 6, 900 * WINDOW_US, support=4), known)


def test_a_writer_s_values_do_not_supersede_each_other() -> None:
    assert not manual.supersedes(value("crm", 9, 9 * WINDOW_US), value("crm", 1))
    assert not manual.are_concurrent(value("crm", 2), value("crm", 1))


def test_of_two_that_supersede_each_other_the_higher_version_does() -> None:
    one, other = value("storefront", 5, crm=6), value("crm", 6, storefront=5)

    assert manual.supersedes(other, one)
    assert not manual.supersedes(one, other)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_where_each_is_superseded_by_another_all_are_heads(order: tuple[int, ...]) -> None:
    late = 2 * WINDOW_US
    circle = [
        value("storefront", 3, 0, crm=2, support=0),
        value("crm", 2, late, storefront=0, support=9),
        value("support", 1, late, storefront=9, crm=0),
    ]
    candidates = [circle[number] for number in order]

    standing = manual.standing(candidates)

    assert standing is not None
    assert {head.writer for head in standing.heads} == set(WRITERS)
    assert (standing.chosen.writer, standing.needs_review) == ("storefront", True)


def test_nothing_stands_of_nothing() -> None:
    assert manual.standing([]) is None
    assert last.standing([]) is None


def test_heads_that_agree_need_no_review_whatever_the_order_of_their_keys() -> None:
    one = value("storefront", 1, said={"a": 1, "b": [2]})
    other = value("crm", 2, said={"b": [2], "a": 1})

    standing = manual.standing([other, one])

    assert standing is not None
    assert (standing.chosen, standing.needs_review) == (one, False)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_one_of_three_heads_that_differs_is_enough_for_a_review(order: tuple[int, ...]) -> None:
    heads = [value("storefront", 1, said="a"), value("crm", 2, said="a"), value("support", 3, said="b")]

    standing = manual.standing([heads[number] for number in order])

    assert standing is not None
    assert standing.needs_review


def test_equal_versions_are_told_apart_by_rank() -> None:
    standing = last.standing([value("support", 7), value("crm", 7)])

    assert standing is not None
    assert standing.chosen.writer == "crm"


class TestResolution:
    answer = value(RESOLUTION, 1, at_us=100 * WINDOW_US, said="right", crm=5)

    def test_what_it_covers_is_gone_however_late_it_says_it_was_made(self) -> None:
        covered = value("crm", 5, at_us=900 * WINDOW_US)

        for merge in (manual, last):
            standing = merge.standing([covered, self.answer])
            assert standing is not None
            assert standing.heads == (self.answer,)
            assert not merge.are_concurrent(covered, self.answer)

    def test_its_own_version_is_not_compared_with_the_writers(self) -> None:
        newer = value("crm", 6, at_us=101 * WINDOW_US + 1)

        standing = manual.standing([newer, self.answer])

        assert standing is not None
        assert standing.heads == (newer,)

    def test_where_nobody_is_asked_all_that_it_does_not_cover_stands_above_it(self) -> None:
        early = value("storefront", 1, at_us=0)

        standing = last.standing([self.answer, early])

        assert standing is not None
        assert standing.chosen == early
        assert last.supersedes(early, self.answer)
        assert not last.supersedes(self.answer, early)


def test_every_named_rule_is_in_the_table() -> None:
    assert set(MERGE_RULES) == set(MergeRule)


@pytest.mark.parametrize(
    ("columns", "strategy", "rule", "reason"),
    [
        (("email",), Strategy.MERGE, None, "a rule belongs to the strategy merge"),
        (("email",), Strategy.MANUAL, MergeRule.LATEST_CONSENT, "a rule belongs to the strategy merge"),
        (
            ("email",),
            Strategy.MERGE,
            MergeRule.LATEST_CONSENT,
            "cannot read the columns email; it needs marketing_consent, consent_at",
        ),
    ],
)
def test_a_rule_that_does_not_fit_the_field_is_refused(
    columns: tuple[str, ...], strategy: Strategy, rule: MergeRule | None, reason: str
) -> None:
    with pytest.raises(Misconfigured, match=reason):
        FieldMerge(FieldPolicy("email", columns, WRITERS, strategy, rule), WINDOW)


def test_the_customers_fields_can_all_be_merged() -> None:
    for field in CUSTOMERS.conflicts.fields:
        FieldMerge(field, CUSTOMERS.conflicts.concurrency_window)
