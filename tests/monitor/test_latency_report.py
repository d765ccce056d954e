"""Histograms of several workers, added up."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb
from rich.console import Console

from syncline.model.latency import LatencyHistogram
from syncline.monitor.latency_report import counts, latency_table, step_latencies
from syncline.settings import Settings


@pytest.fixture(autouse=True)
def rows(connection: psycopg.Connection) -> Iterator[None]:
    """Two workers' rows now, and one of an hour ago."""
    for worker, latency_ms, age in (("0", 10, 0), ("1", 300, 0), ("0", 9_000, 3_600)):
        histogram = LatencyHistogram()
        histogram.record(latency_ms, 50)
        plain = histogram.to_plain()
        connection.execute(
            "INSERT INTO sync.status (flow, run, worker, state, counts, histograms, recorded_at)"
            " VALUES ('catalog_search', %s, %s, 'running', %s, %s, clock_timestamp() - %s)",
            (
                uuid4(), worker, Jsonb({"applied": 50, "superseded": 1}),
                Jsonb({"end_to_end": plain, "deliver": plain, "detect": plain}), timedelta(seconds=age),
            ),
        )  # fmt: skip
    yield
    connection.execute("TRUNCATE sync.status")


def a_minute_ago() -> datetime:
    return datetime.now(UTC) - timedelta(minutes=1)


def test_steps_come_in_order_and_the_whole_way_last(own: Settings) -> None:
    found = step_latencies(own, "catalog_search", a_minute_ago())
    assert [latency.step.name for latency in found] == ["detect", "deliver", "end_to_end"]
    assert [latency.changes for latency in found] == [100] * 3
    assert found[0].p50_ms == pytest.approx(10, rel=0.06)
    assert found[0].p95_ms == pytest.approx(300, rel=0.06)
    assert [latency.is_within_budget for latency in found] == [False, False, True]


def test_counts_by_decision(own: Settings) -> None:
    assert counts(own, "catalog_search", a_minute_ago()) == {"applied": 100, "superseded": 2}
    assert counts(own, "outbox_relay", a_minute_ago()) == {}


def test_nothing_was_recorded(own: Settings) -> None:
    assert step_latencies(own, "catalog_search", datetime.now(UTC) + timedelta(hours=1)) == []


def test_the_table_fits_into_a_narrow_terminal(own: Settings) -> None:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(latency_table(step_latencies(own, "catalog_search", a_minute_ago())))
    lines = captured.get().splitlines()
    assert len(lines) == 5
    assert "end to end" in lines[-2]
