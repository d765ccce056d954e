"""The waits between the attempts of a change that a store could not take for now."""

from datetime import timedelta

import pytest

from syncline.model.retry_schedule import LONGEST_WAIT, longest_wait, wait_before_retry


def test_the_longest_waits_double_up_to_five_minutes() -> None:
    waits_s = [longest_wait(turned_back).total_seconds() for turned_back in range(1, 13)]
    assert waits_s == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert longest_wait(10**9) == LONGEST_WAIT


@pytest.mark.parametrize("turned_back", [1, 7, 11])
def test_a_wait_is_drawn_from_nothing_to_the_longest(turned_back: int) -> None:
    assert wait_before_retry(turned_back, 0) == timedelta(0)
    assert wait_before_retry(turned_back, 0.5) == longest_wait(turned_back) / 2
