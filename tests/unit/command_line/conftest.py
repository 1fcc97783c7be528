"""A folder to run commands in, without the variables of options."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.settings import Settings


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Unset all option variables and change to a folder with only a template."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"LFM_{name.upper()}", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "template.jinja").write_text("{{ messages }}")
    monkeypatch.chdir(tmp_path)
