"""Draws a report's charts as one SVG for light and dark pages."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import ScalarFormatter

from server.bench.report import Chart, Report

INK = "#010203"
"""Placeholder for the page's text colour."""

STYLE = """<style>svg { color: #1f2328; font-family: system-ui, sans-serif }
@media (prefers-color-scheme: dark) { svg { color: #e6edf3 } }</style>"""
COLOURS = ("#2f81f7", "#d9730d", "#8250df", "#1a9e5c")
"""Colours that colour-blind readers can tell apart, on white and on black."""

SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # keep text as text
    "svg.hashsalt": "lfm-serve",  # make the file reproducible
    "axes.prop_cycle": cycler(color=COLOURS, marker=("o", "s", "^", "D")),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "legend.frameon": False,
} | dict.fromkeys(
    ("axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "text.color", "xtick.color", "ytick.color"), INK
)


def draw(report: Report, file: Path) -> None:
    """Write the charts to `file`, side by side."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(4.6 * len(report.charts), 3.4), layout="constrained")
        for axes, chart in zip(figure.subplots(1, len(report.charts), squeeze=False)[0], report.charts, strict=True):
            _lines(axes, chart) if chart.kind == "lines" else _bars(axes, chart)
            axes.set(title=chart.title, xlabel=chart.x, ylabel=chart.y)
            if chart.log:
                axes.set(xscale="log", yscale="log")
            else:
                axes.set_ylim(0, axes.dataLim.ymax * 1.3)  # leave room for the legend
            axes.grid(axis="y", color="#808080", alpha=0.25)
            if len(chart.series) > 1:
                axes.legend(loc="upper left", ncols=2)
        figure.supxlabel(f"{report.model}; {report.machine}", fontsize=7)
        image = io.StringIO()
        figure.savefig(image, format="svg", transparent=True, metadata={"Date": None})
    head, body = image.getvalue().replace(INK, "currentColor").split("<defs>", 1)
    file.write_text(f"{head}{STYLE}\n<defs>{body}", encoding="utf-8")


def _lines(axes: Axes, chart: Chart) -> None:
    for name, points in chart.series.items():
        axes.plot(*zip(*points, strict=True), label=name)
    xs = sorted({float(x) for points in chart.series.values() for x, _ in points})
    if len(xs) <= 8:
        axes.set_xticks(xs)
    axes.xaxis.set_major_formatter(ScalarFormatter())


def _bars(axes: Axes, chart: Chart) -> None:
    names = [str(name) for name, _ in next(iter(chart.series.values()))]
    width = 0.8 / len(chart.series)
    for index, (label, points) in enumerate(chart.series.items()):
        centres = [group + (index - (len(chart.series) - 1) / 2) * width for group in range(len(names))]
        axes.bar(centres, [height for _, height in points], width * 0.9, label=label)
    axes.set_xticks(range(len(names)), names)
