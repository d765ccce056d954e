"""A copy that was replaced under a running flow is noticed."""

import pytest

from operators.copy_watch import LOOK_EVERY_SECONDS, CopyWatch
from syncline.model.errors import CopyReplaced

SECOND_US = 1_000_000


def test_another_copy_is_told_at_the_next_look_and_asked_for_no_more_often() -> None:
    now_us, answers = [0], ["products-v1:one"]
    asked: list[int] = []

    def ask() -> str:
        asked.append(now_us[0])
        return answers[0]

    watch = CopyWatch(ask, lambda: now_us[0])
    assert watch.identity == "products-v1:one"
    for second in range(LOOK_EVERY_SECONDS * 3):
        now_us[0] = second * SECOND_US
        watch.look()
    assert asked == [0, 10 * SECOND_US, 20 * SECOND_US]
    answers[0] = "products-v1:two"
    watch.look()
    now_us[0] = LOOK_EVERY_SECONDS * 3 * SECOND_US
    with pytest.raises(
        CopyReplaced,
        match="wrote to the copy products-v1:one, but this is products-v1:two; remove the recovery",
    ):
        watch.look()
