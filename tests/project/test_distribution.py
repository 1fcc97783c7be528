"""What `make dist` writes: the sdist's files, and a wheel from them."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

import server

ROOT = Path(__file__).parents[2]
FOLDERS = ("server", "kernels")
TOP = {".gitignore", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}


def build(function: str, source: Path, folder: Path) -> Path:
    """Call the build backend's `function` in `source`, and return the file that it writes to `folder`."""
    backend = pytest.importorskip("hatchling.build", reason="needs the build backend of requirements/dev.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(source)
        return folder / str(getattr(backend, function)(str(folder)))


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the unpacked sdist."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build("build_sdist", ROOT, folder)) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"lfm_serve-{server.__version__}"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def tracked() -> set[str]:
    """Return the files of the sdist's folders that git tracks."""
    result = subprocess.run(["git", "ls-files", *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip("this is not a git checkout")
    return set(result.stdout.split())


def test_the_sdist_holds_the_tracked_sources_and_nothing_else(unpacked: Path) -> None:
    assert files(unpacked) == tracked() | TOP


def test_a_wheel_built_from_the_sdist_holds_the_package_and_nothing_else(
    unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")  # for speed; `make dist` compiles the kernels
    with zipfile.ZipFile(build("build_wheel", unpacked, tmp_path)) as wheel:
        names = set(wheel.namelist())
    package = {name for name in names if not PurePosixPath(name).parts[0].endswith(".dist-info")}
    assert package == {name for name in tracked() if name.startswith("server/")}
