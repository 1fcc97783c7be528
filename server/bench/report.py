"""Saves a benchmark's table and charts as JSON, and the table as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Cell = str | float | None


@dataclass(frozen=True, slots=True)
class Chart:
    """A line chart or a bar chart.

    series: the (x, y) points of each legend entry. In a bar chart, x is the label of a group of bars.
    log: whether both axes are logarithmic.
    """

    title: str
    x: str
    y: str
    series: Mapping[str, Sequence[tuple[float | str, float]]]
    kind: Literal["lines", "bars"] = "lines"
    log: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """The results of one benchmark, with the machine and the model."""

    part: str
    question: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    charts: Sequence[Chart]
    machine: str = ""
    model: str = ""

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.part}.json").write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, file: Path) -> Report:
        stored = json.loads(file.read_text(encoding="utf-8"))
        return cls(**stored | {"charts": [Chart(**chart) for chart in stored["charts"]]})

    def markdown(self) -> str:
        """Return the report as Markdown: heading, table, model and machine."""
        lines = [self.columns, ["---"] + ["---:"] * (len(self.columns) - 1)]
        lines += [[_shown(cell) for cell in row] for row in self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"### {self.question}\n\n{table}\n\n{self.model}; {self.machine}\n"


def refused_row(columns: Sequence[str], what: str, server: str, refusal: Exception) -> list[Cell]:
    """Return the row for a server that refused a request."""
    return [what, f"{server} refused: {str(refusal)[:120]}", *[None] * (len(columns) - 2)]


def summarize(folder: Path, parts: Sequence[str]) -> None:
    """Write the saved reports to summary.md.

    parts: benchmarks in the order of the summary. Those without a report are left out.
    """
    files = [folder / f"{part}.json" for part in parts]
    pages = [Report.load(file).markdown() for file in files if file.exists()]
    (folder / "summary.md").write_text("\n".join(pages), encoding="utf-8")


def _shown(cell: Cell) -> str:
    """Format a cell.

    Numbers below 100 get up to three significant digits. Larger ones are rounded to whole numbers.
    """
    if isinstance(cell, str):
        return cell
    if cell is None:
        return ""
    return f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
