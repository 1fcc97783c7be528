"""What `make dist` writes: the sdist's files, and a wheel from them."""

from __future__ import annotations

import subprocess
import sysconfig
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
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 and newer
        archive.extractall(folder)
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


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that is built from the sdist."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CFLAGS", "-O0")  # compiles in a third of the time
        return zipfile.ZipFile(build("build_wheel", unpacked, tmp_path_factory.mktemp("wheel")))


def test_the_wheel_holds_the_package_the_kernels_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if not PurePosixPath(name).parts[0].endswith(".dist-info")}
    kernels = {name for name in names if PurePosixPath(name).stem == "lfm_kernels"}
    assert names - kernels == {name for name in tracked() if name.startswith("server/")}
    assert any(name.startswith("server/demo/") and name.endswith(".onnx") for name in names)


def test_the_wheel_has_the_packages_version_and_licence(wheel: zipfile.ZipFile) -> None:
    assert f"Version: {server.__version__}\n" in information(wheel, "METADATA")
    assert "Apache License" in information(wheel, "licenses/LICENSE")


def test_the_wheel_with_kernels_is_for_one_platform_and_any_python_3(wheel: zipfile.ZipFile) -> None:
    if "server/runtime/native/lfm_kernels.so" not in wheel.namelist():
        pytest.skip("there is no C compiler")
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert f"Tag: py3-none-{platform}\n" in information(wheel, "WHEEL")
    assert "Root-Is-Purelib: false\n" in information(wheel, "WHEEL")


def test_without_a_compiler_the_wheel_has_no_kernels_and_is_for_every_platform(
    unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    (unpacked / "server" / "runtime" / "native" / "lfm_kernels.so").touch()  # left by an earlier build
    built = build("build_wheel", unpacked, tmp_path)
    assert built.name.endswith("-py3-none-any.whl")
    assert not any("lfm_kernels" in name for name in zipfile.ZipFile(built).namelist())
    assert "there is no C compiler named no-such-compiler" in capsys.readouterr().err


def information(wheel: zipfile.ZipFile, name: str) -> str:
    return wheel.read(f"lfm_serve-{server.__version__}.dist-info/{name}").decode()
