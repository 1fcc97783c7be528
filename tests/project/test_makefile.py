"""The Makefile's own decisions: which Python it uses, its error without one, and when it installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def script(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    path.chmod(0o755)
    return path


def make(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    outer = ("MAKE", "MFLAGS", "ARGS", "VENV", "PYTHON")  # what `make test` hands down
    environment = {key: value for key, value in os.environ.items() if not key.startswith(outer)}
    return subprocess.run(
        ["make", *arguments],
        cwd=ROOT,
        env=environment | ({"PATH": path} if path else {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A virtual environment that is up to date, with a server that only prints its arguments."""
    venv = tmp_path / "venv"
    script(venv / "bin" / "python", f'echo "$@" >> {tmp_path}/python-calls')
    script(venv / "bin" / "lfm-serve", 'echo "started: $@"')
    (venv / ".runtime").touch()
    return venv


def test_a_python_that_is_too_old_is_named_with_the_version_needed(tmp_path: Path) -> None:
    old = script(tmp_path / "python3.9", 'test "$1" = --version && echo Python 3.9.18 || exit 1')
    result = make("serve", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}")
    assert result.returncode != 0
    assert f"lfm-serve needs Python 3.11 or newer; {old} is Python 3.9.18" in result.stderr
    assert "make serve PYTHON=" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_a_newer_python_is_found_where_python3_is_too_old(tmp_path: Path) -> None:
    script(tmp_path / "python3", "exit 1")
    script(tmp_path / "python3.13", "exit 0")
    result = make("serve", "--dry-run", f"VENV={tmp_path / 'venv'}", path=f"{tmp_path}:/usr/bin:/bin")
    assert "python3.13 -m venv" in result.stdout


def test_an_environment_that_could_not_be_made_is_not_left_behind(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    broken = script(tmp_path / "python3", f'test "$1" = -c && exec {sys.executable} "$@"; mkdir {venv}; exit 1')
    result = make("serve", f"PYTHON={broken}", f"VENV={venv}")
    assert result.returncode != 0
    assert "apt install python3-venv" in result.stderr
    assert not venv.exists()


def test_nothing_is_installed_again_while_nothing_has_changed(installed: Path) -> None:
    result = make("serve", f"VENV={installed}")
    assert result.stdout == "started: serve\n"
    assert not (installed.parent / "python-calls").exists()


def test_options_are_passed_on_to_the_server(installed: Path) -> None:
    result = make("serve", f"VENV={installed}", "ARGS=--port 9000")
    assert result.stdout == "started: serve --port 9000\n"


def test_a_lock_that_is_newer_than_the_environment_is_installed(installed: Path) -> None:
    os.utime(installed / ".runtime", (0, 0))
    result = make("serve", f"VENV={installed}")
    calls = (installed.parent / "python-calls").read_text().splitlines()
    assert result.returncode == 0
    assert any("--require-hashes -r requirements/runtime.txt" in call for call in calls)
