"""Long work shows a bar in a terminal and lines of text elsewhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from server.progress import show_progress
from tests.checkpoints import CONFIGS, random_tensors, write_checkpoint

ROOT = Path(__file__).parents[2]
PROGRAM = """
import logging, sys
from server.progress import show_progress
logging.basicConfig(format="%(message)s")
say = lambda line: print(line, file=sys.stderr)
with show_progress("weights", 4_000_000, say, lambda done: f"{done} bytes", start=1_000_000, interval=0) as advance:
    advance(2_000_000)
    logging.warning("a log line")
    advance(4_000_000)
"""


def in_terminal(*command: str) -> str:
    """Run a command whose standard error is a terminal, and return what it writes there."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with subprocess.Popen(command, cwd=ROOT, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        try:
            while piece := os.read(ours, 4096):
                written += piece
        except OSError:  # Linux ends a terminal like this
            pass
    os.close(ours)
    assert process.returncode == 0, written
    return written.decode()


def test_a_terminal_gets_a_bar_that_goes_when_the_work_is_done() -> None:
    written = in_terminal(sys.executable, "-c", PROGRAM)
    assert "weights:  25%|" in written
    assert "1.00M/4.00M" in written
    assert "bytes" not in written
    assert "\ra log line\r\n" in written
    assert written.endswith("\r")


def test_without_a_terminal_there_are_lines() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stderr.splitlines() == ["2000000 bytes", "a log line", "4000000 bytes"]


def test_lines_keep_their_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 4.0, 5.0, 9.0, 10.0])
    monkeypatch.setattr("server.progress.time.monotonic", lambda: next(seconds))
    said: list[str] = []
    with show_progress("weights", 4, said.append, str, interval=5, bar=False) as advance:
        for done in range(1, 5):
            advance(done)
    assert said == ["2", "4"]


def test_an_export_shows_a_bar_in_a_terminal(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", CONFIGS["moe"], random_tensors(CONFIGS["moe"]))
    arguments = ["export", str(checkpoint), str(tmp_path / "out"), "--dtype", "fp32"]
    written = in_terminal(sys.executable, "-m", "server", *arguments)
    assert "Layers:   0%|" in written
    assert "layer 1 of 4" not in written
