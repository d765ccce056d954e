"""The plots, drawn from what ``results.json`` holds. The same results give the same bytes."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import drain, live_products, results
from bench.figures import Figure
from syncline.model.errors import Misconfigured
from syncline.model.steps import END_TO_END

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer
    from matplotlib.figure import Figure as Drawing

_STYLE = {
    "svg.hashsalt": "syncline",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#dddddd",
}
_DARK, _LIGHT, _THIRD = "#1f5f8b", "#a9c6da", "#e08e45"
_COLOURS = (_LIGHT, _DARK, _THIRD)


def check_installed() -> None:
    """Before hours of measuring, not after."""
    if find_spec("matplotlib") is None:
        raise Misconfigured(
            f"the plots need matplotlib; run: {sys.executable} -m pip install 'matplotlib>=3.10'"
        )


def draw(found: results.Results, folder: Path) -> list[Path]:
    """Draw what there are results for."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow to import

    mpl.use("svg")
    drawn = []
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type] # its keys are a list of literals
        for name, plot in _PLOTS.items():
            if name in found:
                path = folder / f"{name}.svg"
                plot(found[name]).savefig(path, metadata={"Date": None})
                drawn.append(path)
    return drawn


def _axes(count: int, height: float) -> "tuple[Drawing, Sequence[Axes]]":
    from matplotlib.figure import Figure as Drawing  # noqa: PLC0415

    drawing = Drawing(figsize=(8, height), layout="constrained")
    return drawing, drawing.subplots(1, count, squeeze=False)[0]


def _by_case(result: Mapping[str, Any], name: str) -> dict[str, Figure]:
    return {figure.case: figure for figure in results.figures(result) if figure.name == name}


def _label(axes: "Axes", bars: "BarContainer", texts: Sequence[str]) -> None:
    axes.bar_label(bars, labels=list(texts), padding=2, fontsize=8)


def _throughput(result: Mapping[str, Any]) -> "Drawing":
    """The flow beside the store's own limit; above its bar, its share of either raw rate."""
    drawing, [axes] = _axes(1, 4)
    of_default, of_best = _by_case(result, drain.SHARE), _by_case(result, drain.BEST_SHARE)
    series = {
        "raw bulk, the client's defaults": drain.RAW_RATE,
        "raw bulk, the fastest way": drain.BEST_RATE,
        "Syncline": drain.FLOW_RATE,
    }
    width = 0.28
    for offset, (label, name) in enumerate(series.items()):
        of_case = _by_case(result, name)
        places = [place + (offset - 1) * width for place in range(len(of_case))]
        bars = axes.bar(
            places,
            [figure.median for figure in of_case.values()],
            width * 0.95,
            yerr=_whiskers(list(of_case.values())),
            ecolor="#555555",
            label=label,
            color=_COLOURS[offset],
        )
        if name == drain.FLOW_RATE:
            _label(
                axes,
                bars,
                [f"{of_default[case].median:.0f} / {of_best[case].median:.0f} %" for case in of_case],
            )
    axes.set_xticks(range(len(of_default)), list(of_default))
    axes.set_ylabel("documents a second")
    axes.grid(visible=False, axis="x")
    drawing.legend(frameon=False, ncols=3, loc="outside upper center")
    return drawing


def _whiskers(figures: Sequence[Figure]) -> list[list[float]]:
    return [
        [figure.median - min(figure.values) for figure in figures],
        [max(figure.values) - figure.median for figure in figures],
    ]


def _latency(result: Mapping[str, Any]) -> "Drawing":
    drawing, [axes] = _axes(1, 4)
    percentiles = ("P50", "P95", "P99")
    width = 0.27
    for offset, percentile in enumerate(percentiles):
        of_case = _by_case(result, f"{END_TO_END.name.replace('_', ' ')} {percentile}")
        bars = axes.bar(
            [place + (offset - 1) * width for place in range(len(of_case))],
            [figure.median for figure in of_case.values()],
            width * 0.95,
            label=percentile,
            color=_COLOURS[offset],
        )
        _label(axes, bars, [f"{figure.median:.0f}" for figure in of_case.values()])
        axes.set_xticks(range(len(of_case)), list(of_case))
    axes.set_yscale("log")
    axes.set_ylim(bottom=1)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylabel("commit to acknowledged write, ms")
    axes.grid(visible=False, axis="x")
    drawing.legend(frameon=False, ncols=3, loc="outside upper center")
    return drawing


def _flatness(result: Mapping[str, Any]) -> "Drawing":
    """Three small plots over the number of live products, each from zero: flat looks flat."""
    names = (live_products.P99, live_products.EPOCH_END, live_products.MEMORY)
    drawing, all_axes = _axes(len(names), 3)
    for axes, name in zip(all_axes, names, strict=True):
        of_name = [
            figure for figure in results.figures(result) if figure.name == name and figure.unit != "times"
        ]
        axes.errorbar(
            [live_products.products_of(figure.case) for figure in of_name],
            [figure.median for figure in of_name],
            yerr=_whiskers(of_name),
            marker="o",
            capsize=3,
            color=_DARK,
        )
        axes.set_xscale("log")
        axes.set_xticks([live_products.products_of(figure.case) for figure in of_name])
        axes.minorticks_off()
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_ylim(0, 1.6 * max(max(figure.values) for figure in of_name))
        axes.set_title(f"{name}, {of_name[0].unit}", fontsize=10)
        axes.set_xlabel("live products")
    return drawing


_PLOTS: Mapping[str, Callable[[Mapping[str, Any]], "Drawing"]] = {
    "drain": _throughput,
    "latency": _latency,
    "live_products": _flatness,
}
"""By measurement."""
