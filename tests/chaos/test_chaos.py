"""Random writes and random faults by a seed: nothing lost, nothing resurrected, nothing out of order.

``pytest tests/chaos --seed 7 --minutes 2`` or ``--seeds 1-20``. The seed fixes what is written and which
faults come when; how the two meet is the machine's doing, so a seed that fails may pass the next time.
"""

from collections import Counter
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import pytest

from tests.chaos.battle import battle
from tests.chaos.checks import faults_found
from tests.chaos.ground import Ground

MOST_SEEDS = 6
SHORT_SECONDS = 10.0


def test_nothing_is_lost_resurrected_or_out_of_order(
    battleground: Ground, tmp_path: Path, tell: Callable[[str], None], seed: int, seconds: float
) -> None:
    with battle(battleground, tmp_path, seed, seconds) as fought:
        found = faults_found(fought)
    tell(
        f"seed {seed}: {fought.load.told}, {len(fought.inflicted)} faults in {seconds:g} s; "
        f"{len(found)} found wrong"
    )
    assert not found, "\n".join(
        [
            f"{fought.load.told}; {len(found)} found wrong:",
            *(f"{count:,} {kind}" for kind, count in Counter(map(_kind, found)).items()),
            "the first:",
            *found[:20],
            "after these faults:",
            *map(str, sorted(fought.inflicted, key=attrgetter("at_seconds"))),
            f"logs are in {tmp_path}; once more:",
            f"./run test tests/chaos --seed {seed} --minutes {seconds / 60:g}",
        ]
    )


def _kind(found: str) -> str:
    return found.partition(":")[0]


@pytest.mark.timeout(900)
def test_acknowledging_before_the_write_is_found(battleground: Ground, tmp_path: Path) -> None:
    """The suite's own test: a flow whose writes are acknowledged first is found out, within a few seeds."""
    for seed in range(1, MOST_SEEDS + 1):
        home = tmp_path / str(seed)
        home.mkdir()
        with battle(battleground, home, seed, SHORT_SECONDS, acknowledges_first=True) as fought:
            if any(found.startswith("lost") for found in faults_found(fought)):
                return
    pytest.fail(f"nothing was found in {MOST_SEEDS} seeds")
