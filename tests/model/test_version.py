"""The total order of an entity's changes, element by element."""

from itertools import pairwise, permutations

from syncline.model.version import OpRank, Version

IN_ORDER = [
    Version(1, 1, OpRank.UPSERT),
    Version(1, 5, OpRank.UPSERT),
    Version(1, 5, OpRank.UPSERT, correction=1),
    Version(1, 5, OpRank.UPSERT, correction=2),
    Version(1, 5, OpRank.DELETE),
    Version(1, 6, OpRank.UPSERT),
    Version(1, 2**63 - 1, OpRank.DELETE),
    Version(2, 1, OpRank.UPSERT),
]


def test_generation_stands_above_row_above_operation_above_correction() -> None:
    for lower, higher in pairwise(IN_ORDER):
        assert lower < higher
        assert not higher < lower


def test_sorting_ends_the_same_from_any_order() -> None:
    assert all(sorted(order) == IN_ORDER[:5] for order in permutations(IN_ORDER[:5]))


def test_a_version_from_the_copy_equals_the_one_that_was_written() -> None:
    for version in IN_ORDER:
        assert Version(*list(version)) == version
