"""The record that changes are in the store: counted once, with the time of each step."""

from collections.abc import Iterator
from concurrent.futures import wait
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from psycopg import conninfo

from sinks.confirmation import Confirmation, RelayConfirmation, report_of
from sinks.metrics import LatencyCollector
from sinks.redis_invalidation import Invalidated
from sinks.status import Report, StatusWriter, record_failure
from syncline.clock import Clock, system_clock_us
from syncline.model.change import ReplayOf
from syncline.model.decision import Applied, Decided, Decision, LaneWatermark, Stamps, Verdict
from syncline.model.errors import BadCredentials, MissingResource, Refused, Unavailable
from syncline.model.failure import Failure
from syncline.model.latency import LatencyHistogram
from syncline.model.outbox import OutboxBatch, OutboxRow, Publication
from syncline.model.steps import END_TO_END, STEPS
from syncline.settings import Settings
from tests.changes import NOON_US, change_message, part_of, product
from tests.own import own_database
from tests.road import Road
from tests.waiting import eventually

ALWAYS = timedelta(0)


@pytest.fixture
def dsn(own: Settings) -> str:
    dsn = own.postgres_dsn.get_secret_value()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE sync.status RESTART IDENTITY")
    return dsn


@pytest.fixture
def road(dsn: str) -> Iterator[Road]:
    with Road(int(conninfo.conninfo_to_dict(dsn)["port"] or 0)) as road:
        yield road


def rows(dsn: str, columns: str = "state, counts") -> list[Any]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(f"SELECT {columns} FROM sync.status ORDER BY id".encode()).fetchall()


def counted(dsn: str) -> int:
    return sum(counts.get("applied", 0) for _, counts in rows(dsn))


def report(count: int = 1, latency_us: int = 2_000) -> Report:
    made = Report()
    made.counts["applied"] += count
    made.latency("deliver", latency_us, count)
    made.commits(NOON_US, NOON_US)
    return made


def status(dsn: str, clock: Clock = system_clock_us) -> StatusWriter:
    return StatusWriter("tests", "0", dsn, clock, ALWAYS)


def await_writing(writer: StatusWriter) -> None:
    """Until what is under way has ended, well or badly."""
    assert wait([writer._under_way], timeout=30).done


def confirmed(offset: int = 5, decision: Decision = Decision.APPLIED, partition: int = 0) -> Invalidated:
    """A change that took 1 ms for its first step, 2 for the second, and so on to the confirmation."""
    times = [NOON_US]
    for step in range(1, len(STEPS)):
        times.append(times[-1] + step * 1_000)
    (
        committed,
        detected,
        appended,
        received,
        routed,
        transformed,
        started,
        resolved,
        validated,
        delivered,
        gone,
    ) = times
    message = change_message("product", product(), offset=offset)._replace(
        appended_at_us=appended, received_at_us=received, partition=partition
    )
    part = part_of(message)
    change = part.change._replace(committed_at_us=committed, detected_at_us=detected, message=message)
    part = part._replace(change=change, routed_at_us=routed, transformed_at_us=transformed)
    stamps = Stamps(started, resolved, validated, delivered)
    return Invalidated(Decided([Applied(part.document_id, [Verdict(part, decision)], 1, stamps)]), gone)


def test_a_replay_is_counted_and_how_long_it_lay_in_quarantine_is_no_latency() -> None:
    first, replayed = confirmed(), confirmed(offset=6)
    [applied] = replayed.decided.applied
    [verdict] = applied.verdicts
    change = verdict.part.change._replace(replay_of=ReplayOf(1, 2))
    part = verdict.part._replace(change=change)
    # A document may have both.
    first.decided.applied[0].verdicts.append(verdict._replace(part=part))
    told = report_of([first], first.invalidated_at_us + 1_000, clock_offset_us=0)
    assert told.counts == {"applied": 2}
    assert set(told.positions.values()) == {6}
    for step in ("detect", "publish", "log", "route", "window", END_TO_END.name):
        assert told.histograms[step].total == 1, step

    applied.verdicts[0] = verdict._replace(part=part)
    told = report_of([replayed], replayed.invalidated_at_us + 1_000, clock_offset_us=0)
    assert told.counts == {"applied": 1}
    assert END_TO_END.name not in told.histograms


def test_each_step_gets_the_time_that_it_took() -> None:
    now_us = confirmed().invalidated_at_us + len(STEPS) * 1_000
    told = report_of([confirmed(), confirmed()], now_us, clock_offset_us=0)
    for number, step in enumerate(STEPS, start=1):
        histogram = told.histograms[step.name]
        assert histogram.total == 2, step.name
        assert histogram.sum_ms == pytest.approx(2 * number), step.name
    whole = told.histograms[END_TO_END.name]
    assert whole.total == 2
    assert whole.sum_ms == pytest.approx(2 * sum(range(1, 10)))


def test_the_clocks_are_evened_out_where_they_meet() -> None:
    """This machine's clock is 3 ms behind the database's: what it measured by itself stays as it is."""
    told = report_of([confirmed()], confirmed().invalidated_at_us, clock_offset_us=3_000)
    plain = report_of([confirmed()], confirmed().invalidated_at_us, clock_offset_us=0)
    differing = {
        step: told.histograms[step].sum_ms - plain.histograms[step].sum_ms
        for step in told.histograms
        if told.histograms[step].sum_ms != plain.histograms[step].sum_ms
    }
    assert differing == {"log": pytest.approx(3), END_TO_END.name: pytest.approx(3)}


def test_positions_are_the_highest_in_whatever_order_documents_were_written() -> None:
    told = report_of([confirmed(7), confirmed(9), confirmed(8), confirmed(2, partition=1)], NOON_US, 0)
    assert told.positions == {"syncline.catalog.product/0": 9, "syncline.catalog.product/1": 2}
    told.merge(report_of([confirmed(6)], NOON_US, 0))
    assert told.positions["syncline.catalog.product/0"] == 9


def test_each_change_of_a_document_counts_with_its_own_times() -> None:
    """One document, decided together: its stamps are shared, where its changes came from is not."""
    first, second = (confirmed(offset).decided.applied[0] for offset in (5, 4))
    (other,) = confirmed(9, Decision.DUPLICATE).decided.applied
    (late,) = second.verdicts
    change = late.part.change
    late = late._replace(
        part=late.part._replace(change=change._replace(committed_at_us=change.committed_at_us - 7_000)),
        decision=Decision.SUPERSEDED,
    )
    together = first._replace(verdicts=[*first.verdicts, late])
    slower = other._replace(
        stamps=other.stamps._replace(delivered_at_us=other.stamps.delivered_at_us + 1_000_000)
    )
    gone_us = slower.stamps.delivered_at_us + 10_000

    told = report_of([Invalidated(Decided([together, slower]), gone_us)], gone_us + 11_000, 0)

    assert told.counts == {"applied": 1, "superseded": 1, "duplicate": 1}
    assert (told.oldest_commit_us, told.newest_commit_us) == (NOON_US - 7_000, NOON_US)
    assert told.positions == {"syncline.catalog.product/0": 9}
    assert {histogram.total for histogram in told.histograms.values()} == {3}
    sums = {step: told.histograms[step].sum_ms for step in ("detect", "deliver", "invalidate", "confirm")}
    assert sums == {
        "detect": pytest.approx(3 * 1 + 7),
        "deliver": pytest.approx(3 * 9 + 1_000),
        "invalidate": pytest.approx(2 * 1_010 + 10),
        "confirm": pytest.approx(3 * 11),
    }
    assert told.histograms[END_TO_END.name].sum_ms == pytest.approx(3 * sum(range(1, 10)) + 7 + 1_000)


def test_what_decided_no_change_is_told_without_times() -> None:
    marks = Decided(watermarks=[LaneWatermark("00", "t/0", NOON_US)])

    assert report_of([Invalidated(marks, NOON_US)], NOON_US, 0) == Report()


def test_a_batch_becomes_a_row(dsn: str) -> None:
    sink = Confirmation("tests", dsn, interval=ALWAYS).build("confirm", 3, 4)
    marks = [LaneWatermark(f"{lane:02}", "t/0", NOON_US + lane) for lane in (4, 2, 9)]
    sink.write_batch(
        [confirmed(), confirmed(6, Decision.DUPLICATE), Invalidated(Decided(watermarks=marks), NOON_US)]
    )
    sink.close()
    [*_, row] = rows(
        dsn,
        "flow, worker, state, counts, positions, watermarks, oldest_commit, newest_commit, error, "
        "latency_ms, histograms",
    )
    noon = datetime.fromtimestamp(NOON_US / 1e6, UTC)
    assert row[:9] == (
        "tests", "3", "stopped", {"applied": 1, "duplicate": 1}, {"syncline.catalog.product/0": 6},
        {"t/0": NOON_US + 2}, noon, noon, None,
    )  # fmt: skip
    assert row[9]["deliver"]["p95"] == pytest.approx(9, rel=0.07)
    assert LatencyHistogram.from_plain(row[10]["deliver"]).total == 2


def test_a_row_is_written_once_an_interval(dsn: str) -> None:
    now = [NOON_US]
    writer = StatusWriter("tests", "0", dsn, lambda: now[0], timedelta(seconds=1))
    await_writing(writer)
    for _ in range(50):
        writer.add(report(), {})
    eventually(lambda: counted(dsn) == 1, what="the first row")
    now[0] += 1_000_000
    await_writing(writer)
    writer.add(report(), {"t/0": 5})
    eventually(lambda: counted(dsn) == 51, what="the second row")
    writer.close()
    assert [state for state, _ in rows(dsn)] == ["running", "running", "stopped"]


def test_histograms_of_rows_add_up(dsn: str) -> None:
    writer = status(dsn)
    for latency_us in (1_000, 2_000, 400_000):
        await_writing(writer)
        writer.add(report(10, latency_us), {})
    writer.close()
    whole = LatencyHistogram()
    for (plain,) in rows(dsn, "histograms"):
        if "deliver" in plain:
            whole.merge(LatencyHistogram.from_plain(plain["deliver"]))
    assert whole.total == 30
    assert whole.percentile_ms(50) == pytest.approx(2, rel=0.07)
    assert whole.percentile_ms(99) == pytest.approx(400, rel=0.07)


def test_what_could_not_be_written_is_in_the_next_row_and_in_no_other(dsn: str, road: Road) -> None:
    writer = status(conninfo.make_conninfo(dsn, port=road.port))
    await_writing(writer)
    writer.add(report(1), {})
    eventually(lambda: counted(dsn) == 1)
    road.close()
    for _ in range(3):
        await_writing(writer)
        writer.add(report(10), {})
    await_writing(writer)
    assert isinstance(writer._under_way.exception(), Unavailable)
    assert counted(dsn) == 1
    road.open()
    writer.add(report(100), {})
    eventually(lambda: counted(dsn) == 131)
    writer.close()
    assert counted(dsn) == 131


def test_the_flow_never_waits_for_a_database_that_is_away(dsn: str, road: Road) -> None:
    road.close()
    writer = status(conninfo.make_conninfo(dsn, port=road.port))
    for _ in range(200):
        writer.add(report(), {})
    road.open()
    writer.close()
    assert counted(dsn) == 200


def test_clocks_are_compared_as_soon_as_the_database_is_there(dsn: str, road: Road) -> None:
    """A clock that is an hour behind is an hour behind the database's."""
    road.close()

    def behind() -> int:
        return system_clock_us() - 3_600_000_000

    writer = status(conninfo.make_conninfo(dsn, port=road.port), behind)
    await_writing(writer)
    assert writer.clock_offset_us == 0
    road.open()
    writer.add(report(), {})
    eventually(lambda: writer.clock_offset_us != 0)
    assert writer.clock_offset_us == pytest.approx(3_600_000_000, abs=2_000_000)
    writer.close()


def test_what_only_a_person_can_mend_ends_the_flow(settings: Settings, dsn: str) -> None:
    denied = status(conninfo.make_conninfo(dsn, password="wrong"))
    await_writing(denied)
    with pytest.raises(BadCredentials, match="password authentication failed"):
        denied.add(report(), {})
    denied.close()

    with own_database(settings.postgres_dsn.get_secret_value(), "own_sinks_empty") as bare:
        missing = status(bare)

        def told() -> bool:
            try:
                missing.add(report(), {})
            except MissingResource as error:
                return "run: syncline setup" in str(error)
            return False

        eventually(told, what="the error")
        missing.close()


def test_word_is_left_of_why_a_flow_ended(dsn: str) -> None:
    record_failure("tests", dsn, "MissingResource: 🦆 is gone")
    assert rows(dsn, "flow, worker, state, error, counts") == [
        ("tests", "main", "failed", "MissingResource: 🦆 is gone", {})
    ]


def test_a_row_is_kept_for_a_day(dsn: str) -> None:
    for error in ("yesterday's", "today's"):
        record_failure("tests", dsn, error)
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "UPDATE sync.status SET recorded_at = recorded_at - interval '25 hours' WHERE error = %s",
            ("yesterday's",),
        )
    record_failure("others", dsn, "of another flow")
    assert ("yesterday's",) in rows(dsn, "error")
    record_failure("tests", dsn, "the newest")
    assert ("yesterday's",) not in rows(dsn, "error")
    assert ("today's",) in rows(dsn, "error")


def test_the_relay_counts_what_it_published(dsn: str) -> None:
    published = tuple(
        OutboxRow(seq, str(seq), "product", "A", "updated", b"{}", commit_us, NOON_US)
        for seq, commit_us in ((7, NOON_US + 5), (9, None))
    )
    batch = OutboxBatch("catalog", 3, published, (), NOON_US + 2_000, NOON_US + 1, ("t",), commit=True)
    refused = Failure("publish", change_message("product", product()), Refused())
    sink = RelayConfirmation("relay", dsn, interval=ALWAYS).build("confirm", 0, 1)
    sink.write_batch(
        [
            Publication(batch, (refused,), published_at_us=NOON_US + 3_000),
            Publication(batch, error=Unavailable()),
        ]
    )
    sink.close()
    [*_, row] = rows(dsn, "counts, positions, watermarks, oldest_commit")
    assert row == (
        {"published": 1, "refused": 1},
        {"catalog.outbox": 9},
        {"catalog.outbox": NOON_US + 1},
        datetime.fromtimestamp(NOON_US / 1e6, UTC),
    )


def test_prometheus_reads_the_histograms() -> None:
    registry = CollectorRegistry()
    collector = LatencyCollector(registry)
    recorded = report(3, 2_000)
    recorded.latency("deliver", 10**12)  # beyond the last bucket
    recorded.latency("deliver", -5)  # clocks disagree
    collector.add("tests", recorded)
    collector.add("tests", report(1, 7_000))
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    [family] = families
    assert (family.name, family.type) == ("syncline_step_duration_seconds", "histogram")
    assert {tuple(s.labels[name] for name in ("flow", "step")) for s in family.samples} == {
        ("tests", "deliver")
    }
    buckets = [(float(s.labels["le"]), s.value) for s in family.samples if s.name.endswith("_bucket")]
    bounds, values = zip(*buckets, strict=True)
    assert list(bounds) == sorted(set(bounds))
    assert bounds[-1] == float("inf")
    assert list(values) == sorted(values)
    at = dict(buckets)
    assert at[min(bound for bound in bounds if bound >= 0.002)] == 4
    assert values[-2:] == (5, 6)
    [count] = [s.value for s in family.samples if s.name.endswith("_count")]
    [total] = [s.value for s in family.samples if s.name.endswith("_sum")]
    assert count == 6
    assert total == pytest.approx(1_000_000.013)
