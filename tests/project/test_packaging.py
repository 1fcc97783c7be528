"""The package: its entry point, its dependencies, the lock files that pin them, and the size of its model."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {
    name: ROOT / "requirements" / f"{name}.txt"
    for name in ("runtime", "container", "dev", "clients", "playground", "ray", "docs", "release")
}
PINNED = re.compile(
    r"^(?P<name>[a-z0-9-]+)==(?P<version>[^ ;\\]+).*?(?P<hashes>(?:\\\n +--hash=\S+ ?)*)$", re.MULTILINE
)


def pins(lock: str) -> dict[str, str]:
    return {match["name"]: match["version"] for match in PINNED.finditer(LOCKS[lock].read_text())}


def requirements(extra: str | None = None) -> list[Requirement]:
    return [Requirement(r) for r in (PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"])]


def imported_distributions(paths: Iterable[Path]) -> set[str]:
    """Return the distributions that the modules of `paths` import, at any place in a file."""
    found: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    distributions = packages_distributions()
    modules = found - set(sys.stdlib_module_names) - {"server"}
    return {canonicalize_name(distributions[module][0]) for module in modules}


FOLDERS = {"bench": "bench", "chat": "terminal", "events": "kv_events", "ray": "ray"}
"""The folder under server/ that needs an extra, by the extra's name."""
BROUGHT_ALONG = {"anyio", "pydantic-core"}  # by fastapi and pydantic


def names(requirements: Iterable[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


def modules(extra: str) -> set[Path]:
    return set((ROOT / "server" / FOLDERS[extra]).rglob("*.py"))


def test_what_the_code_imports_is_what_the_project_depends_on() -> None:
    others = set((ROOT / "server").rglob("*.py")).difference(*map(modules, FOLDERS))
    imported = {name for name in imported_distributions(others) if not name.startswith("opentelemetry-")}  # an extra
    assert imported - BROUGHT_ALONG == names(requirements())


@pytest.mark.parametrize("extra", FOLDERS)
def test_a_folder_imports_what_its_extra_adds(extra: str) -> None:
    if extra == "ray":
        pytest.importorskip("ray", reason="needs the environment of requirements/ray.txt")
    assert imported_distributions(modules(extra)) - BROUGHT_ALONG - names(requirements()) == names(requirements(extra))


EXTRAS = [requirement for extra in PROJECT["optional-dependencies"] for requirement in requirements(extra)]


@pytest.mark.parametrize("requirement", requirements() + EXTRAS, ids=str)
def test_a_dependency_has_a_lower_bound_and_an_upper_major(requirement: Requirement) -> None:
    assert sorted(specifier.operator for specifier in requirement.specifier) == ["<", ">="]


@pytest.mark.parametrize(
    ("lock", "requirement"),
    [("runtime", r) for r in requirements()]
    + [(lock, r) for lock in ("runtime", "container", "dev") for r in requirements("chat")]
    + [("container", r) for r in requirements() + requirements("otel") + requirements("events")]
    + [(extra, r) for extra in ("dev", "clients", "playground", "ray") for r in requirements() + requirements(extra)],
    ids=str,
)
def test_a_lock_pins_a_version_that_the_project_allows(lock: str, requirement: Requirement) -> None:
    assert requirement.specifier.contains(pins(lock)[canonicalize_name(requirement.name)])


@pytest.mark.parametrize("lock", ["container", "dev", "playground", "ray"])
def test_the_locks_for_more_only_add_to_the_runtime_lock(lock: str) -> None:
    assert pins("runtime").items() <= pins(lock).items()


def test_the_clients_lock_has_the_versions_that_the_server_depends_on() -> None:
    names = {canonicalize_name(requirement.name) for requirement in requirements()}
    assert {name: pins("clients")[name] for name in names} == {name: pins("runtime")[name] for name in names}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_hashes_and_names_no_place_to_download_from(lock: str) -> None:
    text = LOCKS[lock].read_text()
    assert all(match["hashes"] for match in PINNED.finditer(text))
    assert not re.search(r"://|^ *--(?!hash=)|^ *[./]|@", text, re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_no_torch(lock: str) -> None:
    assert "torch" not in pins(lock)


def test_the_command_starts_at_a_function_that_exists() -> None:
    module, function = PROJECT["scripts"]["lfm-serve"].split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_built_in_model_takes_at_most_12_megabytes() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "server" / "demo").rglob("*") if path.is_file()) <= 12_000_000
