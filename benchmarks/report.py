"""What an answer to a question is made of: a table and charts, kept as JSON, so that both can be made again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Cell = str | float | None


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over numbers or bars over names: `series` has for each name its (x, y) points, in the legend's order."""

    title: str
    x: str
    y: str
    series: Mapping[str, Sequence[tuple[float | str, float]]]
    kind: Literal["lines", "bars"] = "lines"


@dataclass(frozen=True, slots=True)
class Report:
    """The answer to a part's question; `rows` under `columns`, with the ratios that count in the columns named so."""

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
        """The table with its question above and what it was measured on below."""
        lines = [self.columns, ["---"] + ["---:"] * (len(self.columns) - 1)]
        lines += [[_shown(cell) for cell in row] for row in self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"### {self.question}\n\n{table}\n\n{self.model}; {self.machine}\n"


def refused_row(columns: Sequence[str], what: str, server: str, refusal: Exception) -> list[Cell]:
    """The row of a server that would not do it."""
    return [what, f"{server} refused: {str(refusal)[:120]}", *[None] * (len(columns) - 2)]


def summarize(folder: Path, parts: Sequence[str]) -> None:
    """Put all tables there are into one page, in the parts' order."""
    files = [folder / f"{part}.json" for part in parts]
    pages = [Report.load(file).markdown() for file in files if file.exists()]
    (folder / "summary.md").write_text("\n".join(pages), encoding="utf-8")


def _shown(cell: Cell) -> str:
    """Three digits that matter."""
    if isinstance(cell, str):
        return cell
    if cell is None:
        return ""
    return f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
