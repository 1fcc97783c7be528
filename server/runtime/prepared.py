"""Prepared models: a graph as onnxruntime has optimised it, and its weights as the kernels want them, on disk.

Sessions and processes map the weights and share one copy. A copy is found by a key of everything it depends on; which
weight files it was made of is told by their names, sizes and times of change, which are trusted. At each start the
graph is checked whole and the weights by their size and by blocks spread over them, which finds what was cut short or
overwritten and not a single changed byte; preparing again checks all of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from server.errors import PreparationError
from server.runtime.cgroups import read
from server.runtime.graph import Graph

try:
    import fcntl
except ImportError:  # not on Windows, where two processes that prepare the same model do the work twice
    fcntl = None  # type: ignore[assignment]

GRAPH, WEIGHTS, MANIFEST = "model.onnx", "weights", "manifest.json"
PARTIAL, LOCK = ".partial", ".lock"
GROWTH = 2.25
"""A copy's size is at most about this many times the weights': they are kept, and packed beside."""
SAMPLES, SAMPLE_BYTES = 256, 1 << 16
PROGRESS_SECONDS = 5

Tell = Callable[[str], None]
Check = Callable[[Graph], str]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a copy is: where it comes from, SHA-256 of its files, and what a check of it against the original said."""

    source: str
    precision: str
    bytes: int
    graph: str
    weights: str
    sampled: str
    checked: str


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that passed its check."""

    graph: Graph
    manifest: Manifest


def default_folder() -> Path:
    """Where copies are unless told otherwise: in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "lfm-serve" / "prepared"


def find(graph: Graph, root: Path, tell: Tell) -> Copy | None:
    """The copy of `graph` under `root`, None where there is none or (`tell` says so) it is damaged."""
    folder = root / key(graph)
    if not folder.exists():
        return None
    if (copy := _sound(folder, graph.name)) is None:
        tell(f"The prepared copy in {folder} is damaged and is not used.")
    return copy


def is_outdated(graph: Graph, precision: str, root: Path) -> bool:
    """Whether there is a copy of `graph` that is damaged, or only one of what it was before, or for something else:
    its file has changed since then, or onnxruntime, or the CPU."""
    folder = root / key(graph)
    if folder.exists():
        return _sound(folder, graph.name) is None
    return any(_was_made_of(path.parent, graph, precision) for path in root.glob(f"*/{MANIFEST}"))


def make(graph: Graph, precision: str, root: Path, tell: Tell, check: Check) -> Copy:
    """The copy of `graph` under `root`, made where there is none that is whole.

    `check` gets the new copy before anyone else does, and raises where it is not to be used; what it returns is kept in
    the manifest. Raises PreparationError, above all where there is no space for it.
    """
    folder = root / key(graph)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f"{folder.name}{LOCK}"):
            if (copy := _whole(folder, graph, tell)) is not None:
                return copy
            shutil.rmtree(folder, ignore_errors=True)
            _write(graph, precision, folder, tell, check)
            return _open(folder, graph.name)
    except OSError as error:
        raise PreparationError(f"The model cannot be prepared in {root}: {error}") from error


def prune(root: Path, current: Callable[[Manifest], Graph], tell: Tell) -> int:
    """Remove what is no use any more, and return its bytes: unfinished copies and those whose key has changed.

    `current` gives the graph that a copy's source has become; LfmServeError or OSError say that there is none.
    """
    freed = 0
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        with _locked(root / f"{folder.name.removesuffix(PARTIAL)}{LOCK}"):
            if not folder.name.endswith(PARTIAL) and _is_current(folder, current):
                continue
            size = sum(path.stat().st_size for path in folder.iterdir())
            shutil.rmtree(folder)
        freed += size
        tell(f"Removed {folder}, {gigabytes(size)}.")
    return freed


def key(graph: Graph) -> str:
    """Changes with the graph, its weight files, onnxruntime and the CPU's features."""
    stats = [(file.name, file.stat()) for file in graph.files]
    facts = {
        "graph": hashlib.sha256(graph.model).hexdigest(),
        "weights": [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats],
        "onnxruntime": ort.__version__,
        "cpu": _cpu_features(),
    }
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _cpu_features() -> list[str]:
    """What kernels are chosen by: the architecture and, on Linux, its features by name."""
    lines = read(Path("/proc/cpuinfo")).splitlines()
    features = next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "")
    return [platform.machine(), *sorted(features.split())]


def _sound(folder: Path, name: str) -> Copy | None:
    """The copy in `folder` if nothing of it is seen to be damaged."""
    try:
        copy = _open(folder, name)
        return copy if copy.manifest.sampled == _sampled(folder / WEIGHTS) else None
    except (OSError, ValueError, TypeError):
        return None


def _was_made_of(folder: Path, graph: Graph, precision: str) -> bool:
    """Whether the copy in `folder` has the source that `graph` has, as that may have been then."""
    try:
        manifest = _manifest(folder)
    except (OSError, ValueError, TypeError):
        return False
    return (manifest.source, manifest.precision) == (str(graph.source), precision)


def _manifest(folder: Path) -> Manifest:
    """Raises OSError, ValueError or TypeError where there is none that can be read."""
    return Manifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))


def _open(folder: Path, name: str) -> Copy:
    """Raises OSError, ValueError or TypeError where files are missing or not what the manifest says."""
    manifest = _manifest(folder)
    model = (folder / GRAPH).read_bytes()
    if hashlib.sha256(model).hexdigest() != manifest.graph:
        raise ValueError(f"{folder / GRAPH} is damaged")
    return Copy(Graph(name, model, folder, optimized=True, files=(folder / WEIGHTS,)), manifest)


def _whole(folder: Path, graph: Graph, tell: Tell) -> Copy | None:
    """An existing copy after a look at every byte of it."""
    copy = find(graph, folder.parent, tell)
    if copy is None:
        return None
    tell(f"There is a copy in {folder}, {gigabytes(copy.manifest.bytes)}; checking all of it ...")
    if copy.manifest.weights == _sha256(folder / WEIGHTS):
        return copy
    tell(f"The prepared copy in {folder} is damaged and is made again.")
    return None


def _write(graph: Graph, precision: str, folder: Path, tell: Tell, check: Check) -> None:
    partial = folder.with_name(f"{folder.name}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    _check_space(graph, folder, tell)
    partial.mkdir()
    try:
        _convert(graph, partial, tell)
        model = (partial / GRAPH).read_bytes()
        checked = check(Graph(graph.name, model, partial, optimized=True, files=(partial / WEIGHTS,)))
        tell("Hashing ...")
        manifest = Manifest(
            source=str(graph.source),
            precision=precision,
            bytes=sum(path.stat().st_size for path in partial.iterdir()),
            graph=hashlib.sha256(model).hexdigest(),
            weights=_sha256(partial / WEIGHTS),
            sampled=_sampled(partial / WEIGHTS),
            checked=checked,
        )
        (partial / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2), encoding="utf-8")
        for path in (*partial.iterdir(), partial):
            _sync(path)
        partial.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_space(graph: Graph, folder: Path, tell: Tell) -> None:
    expected, free = int(graph.weight_bytes * GROWTH), shutil.disk_usage(folder.parent).free
    tell(f"Writing up to {gigabytes(expected)} to {folder}, where {gigabytes(free)} are free.")
    if free < expected:
        raise PreparationError(
            f"There is no space: up to {gigabytes(expected)} are needed in {folder.parent} and {gigabytes(free)} are "
            "free. Remove old copies with `lfm-serve prepare --prune` or choose another place with --prepared-folder."
        )


def _convert(graph: Graph, target: Path, tell: Tell) -> None:
    """Let onnxruntime optimise and pack, telling now and then how far it is."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(target / GRAPH)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph.weights))
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS)
    options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
    errors: list[Exception] = []

    def work() -> None:
        try:
            ort.InferenceSession(graph.model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="prepare", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(PROGRESS_SECONDS)
        written = sum(path.stat().st_size for path in target.iterdir())
        tell(f"{gigabytes(written)} written" if written else "Packing ...")
    if errors:
        free = gigabytes(shutil.disk_usage(target).free)
        reason = " ".join(str(errors[0]).split())
        raise PreparationError(
            f"onnxruntime {ort.__version__} cannot prepare {graph.name} in {target.parent}, where {free} are free: "
            f"{reason}"
        )


def _is_current(folder: Path, current: Callable[[Manifest], Graph]) -> bool:
    try:
        return key(current(_open(folder, "").manifest)) == folder.name
    except (OSError, ValueError, TypeError):
        return False


def _sampled(path: Path) -> str:
    """A hash of the file's size and of blocks spread evenly from its first byte to its last."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    last = max(0, size - SAMPLE_BYTES)
    with path.open("rb") as file:
        for i in range(SAMPLES):
            file.seek(last * i // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(path: Path) -> Iterator[Any]:
    """Only one process at a time gets past here; the lock goes with the process that holds it."""
    with path.open("w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file
