"""How long changes took, step by step, from what the flows' workers recorded."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
from rich.table import Column, Table

from syncline.model.latency import LatencyHistogram
from syncline.model.steps import END_TO_END, STEPS, Step
from syncline.monitor import sql
from syncline.postgres import Connection, connect, raise_typed
from syncline.settings import Settings
from syncline.statements import statement


@dataclass(frozen=True, slots=True)
class StepLatency:
    step: Step
    changes: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None

    @property
    def is_within_budget(self) -> bool:
        budget_ms = self.step.budget_ms
        return budget_ms is None or self.p95_ms is None or self.p95_ms <= budget_ms


def step_latencies(settings: Settings, flow: str, since: datetime) -> list[StepLatency]:
    """Each step that the flow recorded since then, in order, and the whole way last.

    A row tells of about a second, so the first one may hold changes from just before ``since``.
    """
    with connect(settings.postgres_dsn.get_secret_value()) as connection:
        return read_step_latencies(connection, flow, since)


def counts(settings: Settings, flow: str, since: datetime) -> Counter[str]:
    """Changes by decision since then, the most frequent first."""
    with connect(settings.postgres_dsn.get_secret_value()) as connection:
        return read_counts(connection, flow, since)


def read_step_latencies(connection: Connection, flow: str, since: datetime) -> list[StepLatency]:
    histograms: dict[str, dict[int, int]] = {}
    try:
        found = connection.execute(statement(sql, "latency_counts"), {"flow": flow, "since": since})
    except psycopg.Error as error:
        raise_typed(error, "reading sync.status")
    for step, bucket, count in found:
        histograms.setdefault(step, {})[bucket] = count
    return [
        _latency(step, LatencyHistogram(histograms[step.name]))
        for step in (*STEPS, END_TO_END)
        if step.name in histograms
    ]


def read_counts(connection: Connection, flow: str, since: datetime) -> Counter[str]:
    try:
        found = connection.execute(statement(sql, "decision_counts"), {"flow": flow, "since": since})
    except psycopg.Error as error:
        raise_typed(error, "reading sync.status")
    return Counter(dict(found.fetchall()))


def _latency(step: Step, histogram: LatencyHistogram) -> StepLatency:
    p50, p95, p99 = (histogram.percentile_ms(percent) for percent in (50, 95, 99))
    return StepLatency(step, histogram.total, p50, p95, p99)


def latency_table(latencies: Sequence[StepLatency]) -> Table:
    """For a terminal; narrow enough for 80 columns."""
    numbers = ("changes", "P50", "P95", "P99", "budget")
    table = Table(
        "step",
        "what",
        *(Column(name, justify="right") for name in numbers),
        box=None,
        pad_edge=False,
        caption="milliseconds; the budget is for P95",
        caption_justify="left",
    )
    for latency in latencies:
        step = latency.step
        style = "bold" if step is END_TO_END else None if latency.is_within_budget else "red"
        table.add_row(
            step.name.replace("_", " "),
            step.what,
            f"{latency.changes:,}",
            *(_ms(value) for value in (latency.p50_ms, latency.p95_ms, latency.p99_ms)),
            "" if step.budget_ms is None else str(step.budget_ms),
            style=style,
        )
    return table


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
