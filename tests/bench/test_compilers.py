"""What the servers' compilers take is told from what all else takes."""

import pytest

from bench.compilers import CompilerWatch, cpu_seconds, spent_seconds


@pytest.mark.usefixtures("settings")
def test_the_compilers_of_the_servers_are_found() -> None:
    """Kafka's and Elasticsearch's: each has one thread of each kind at least."""
    assert len(cpu_seconds()) >= 2
    assert sum(cpu_seconds().values()) > 0
    assert CompilerWatch().percent_of_a_core() >= 0


def test_threads_that_ended_or_began_meanwhile_count_by_what_is_known_of_them() -> None:
    assert spent_seconds({"1": 5.0, "2": 7.0}, {"1": 6.5, "3": 0.5}) == 2.0
