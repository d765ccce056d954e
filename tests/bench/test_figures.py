import pytest

from bench.figures import Figure, at_least, below, number


def test_the_median_counts_and_not_the_best_run() -> None:
    figure = Figure("new products", "share", "%", (65.0, 95.0, 69.0), at_least(70))
    assert figure.median == 69
    assert not figure.is_met


def test_a_bound_from_above_must_be_kept_and_one_from_below_may_be_touched() -> None:
    assert not below(50).is_met(50)
    assert at_least(50).is_met(50)


def test_a_figure_survives_its_plain_form() -> None:
    for target in (None, below(50), at_least(40_000)):
        figure = Figure("833 changes/s", "end to end P95", "ms", (12.5, 13.0), target)
        assert Figure.from_plain(figure.to_plain()) == figure


@pytest.mark.parametrize(
    ("value", "text"), [(41_234.5, "41,234"), (12.345, "12.3"), (0.4567, "0.457"), (99.96, "100"), (0.0, "0")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text
