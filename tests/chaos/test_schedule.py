from itertools import pairwise

import pytest

from tests.chaos.schedule import KINDS, schedule


def test_the_same_seed_and_duration_are_the_same_faults() -> None:
    assert schedule(7, 60) == schedule(7, 60)
    assert schedule(7, 60) != schedule(8, 60)


@pytest.mark.parametrize("seconds", [10, 60])
def test_each_target_has_a_fault_and_none_has_two_at_a_time(seconds: float) -> None:
    for seed in range(200):
        faults = schedule(seed, seconds)
        assert faults == sorted(faults, key=lambda fault: fault.at_seconds)
        assert {fault.target for fault in faults} == set(KINDS)
        for target, kinds in KINDS.items():
            of_target = [fault for fault in faults if fault.target == target]
            assert all(fault.kind in kinds for fault in of_target)
            assert all(0 <= fault.at_seconds < seconds for fault in of_target)
            assert all(
                fault.at_seconds + fault.seconds <= next_.at_seconds + 0.11
                for fault, next_ in pairwise(of_target)
            )


def test_every_kind_of_fault_comes_up() -> None:
    found = {(fault.target, fault.kind) for seed in range(1, 21) for fault in schedule(seed, 60)}
    assert found == {(target, kind) for target, kinds in KINDS.items() for kind in kinds}
