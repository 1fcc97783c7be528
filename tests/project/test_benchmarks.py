"""The benchmarks still run, on the built-in model and with the smallest load."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import benchmarks
from benchmarks import kernels
from server.bench.plots import draw
from server.runtime.native.library import MatrixFormat
from tests import models

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


MODULES = [module.name for module in pkgutil.walk_packages(benchmarks.__path__, "benchmarks.")]


@pytest.mark.parametrize("name", [name for name in MODULES if name != "benchmarks.__main__"])
def test_it_can_be_imported(name: str) -> None:
    if name.startswith("benchmarks.ray_"):
        pytest.importorskip("ray", reason="needs the environment of requirements/ray.txt")
    importlib.import_module(name)


@pytest.mark.slow
def test_the_bench_answers_with_a_table_and_a_plot_that_can_be_drawn_again(tmp_path: Path) -> None:
    result = bench("--only", "clients", "--rounds", "1", "--out", str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "| 16 | lfm-serve |" in result.stdout
    assert "| 16 | raw session |" in (tmp_path / "summary.md").read_text()
    assert {row[1] for row in json.loads((tmp_path / "clients.json").read_text())["rows"]} == {
        "lfm-serve",
        "raw session",
    }
    plot = (tmp_path / "clients.svg").read_text()
    assert ElementTree.fromstring(plot).tag.endswith("svg")

    (tmp_path / "clients.svg").unlink()
    assert bench("--only", "clients", "--redraw", "--out", str(tmp_path)).returncode == 0
    assert (tmp_path / "clients.svg").read_text() == plot


def test_an_unknown_part_is_refused_with_the_known_ones() -> None:
    result = bench("--only", "client")
    assert result.returncode == 2
    assert "unknown part client (choose from clients, pace, " in result.stderr


@pytest.mark.slow
def test_the_cost_of_telemetry_is_printed_as_ratios() -> None:
    command = [sys.executable, "-m", "benchmarks.telemetry_cost", "--pairs", "1", "--rounds", "1"]
    command += ["--streams", "2", "--tokens", "4"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert "2 streams, with to without: throughput " in result.stdout


@pytest.mark.slow
def test_the_cost_of_a_token_is_compared_between_protocols() -> None:
    command = [sys.executable, "-m", "benchmarks.token_cost", "chat", "responses", "messages", "--rounds", "1"]
    command += ["--clients", "2", "--tokens", "20"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert "responses: " in result.stdout
    assert "messages: " in result.stdout


@pytest.mark.slow
def test_the_kernels_are_compared_with_the_core(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kernels, "BUDGET", 0.01)
    monkeypatch.setattr(kernels, "MATRICES", {"in cache": MatrixFormat(64, 256, 4, False)})
    report = kernels.measure_kernels()
    assert [row[0] for row in report.rows][: len(kernels.ROWS)] == [
        f"{report.charts[0].title}, in cache, {count} rows" for count in kernels.ROWS
    ]
    draw(report, tmp_path / "kernels.svg")
    assert ElementTree.fromstring((tmp_path / "kernels.svg").read_text()).tag.endswith("svg")


@pytest.mark.slow
def test_a_model_is_compared_on_both_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kernels, "PREFILLS", (16,))
    report = kernels.compare(models.build("q4", tmp_path / "q4"), rounds=1)
    assert [row[0] for row in report.rows] == ["prefill 16", "decode 1", "decode 4", "decode 8", "decode 16"]
