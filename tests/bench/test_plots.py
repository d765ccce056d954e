from pathlib import Path

import pytest

from bench import drain, latency, live_products, plots
from bench.figures import Figure


def found() -> dict[str, object]:
    drained = [
        Figure(case.title, name, "", (1_000.0, 1_100.0, 900.0))
        for case in drain.CASES.values()
        for name in (drain.FLOW_RATE, drain.RAW_RATE, drain.BEST_RATE, drain.SHARE, drain.BEST_SHARE)
    ]
    late = [
        Figure(f"{rate:,} changes/s", f"end to end {percentile.upper()}", "ms", (rate / 10,))
        for rate in (100, 833)
        for percentile in latency.PERCENTILES
    ]
    flat = [
        Figure(f"{level:,} products", name, "ms", (12.0, 14.0, 13.0))
        for level in (10_000, 500_000)
        for name in (live_products.P99, live_products.EPOCH_END, live_products.MEMORY)
    ]
    return {
        name: {"figures": [figure.to_plain() for figure in figures]}
        for name, figures in {"drain": drained, "latency": late, "live_products": flat}.items()
    }


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    first, second = (plots.draw(found(), folder) for folder in folders)
    assert [path.name for path in first] == ["drain.svg", "latency.svg", "live_products.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_what_was_not_measured_is_not_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert plots.draw({"dataflow_alone": {"figures": []}}, tmp_path) == []
