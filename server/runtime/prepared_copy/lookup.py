"""Prepared copies: a graph and its weights as the kernels want them, on disk.

For the native kernels a copy is the rewritten graph and all weights packed, the same for every CPU and onnxruntime;
else it is what onnxruntime wrote when it optimised the graph for this CPU.

Sessions and processes map the weights and share one copy. A copy is found by a key of everything it depends on; which
weight files it was made of is told by their names, sizes and times of change, which are trusted at a start. Then the
graph is checked whole and the copy's weights by their size and by blocks spread over them, which finds what was cut
short or overwritten and not a single changed byte. Preparing again reads all of the copy and of what it was made of.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from server.runtime.graph import Graph
from server.runtime.machine.cpu import cpu_flags
from server.runtime.native.library import VERSION as PACKING

GRAPH, WEIGHTS, MANIFEST = "model.onnx", "weights", "manifest.json"
SAMPLES, SAMPLE_BYTES = 256, 1 << 16
KEY_DIGITS = 24

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a copy is: where it comes from, SHA-256 of its files and of those weight files that it was made of
    (`originals`), what a check of it against the original said, and whether it is for the native kernels."""

    source: str
    precision: str
    bytes: int
    graph: str
    weights: str
    sampled: str
    originals: list[str]
    checked: str
    native: bool = False


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that passed its check."""

    graph: Graph
    manifest: Manifest


def default_folder() -> Path:
    """Where copies are unless told otherwise: in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME")
    home = os.path.expanduser("~")
    if not os.path.isabs(home):  # no HOME, and no such user in the system's list
        home = "/nonexistent"
    return (Path(cache) if cache else Path(home) / ".cache") / "lfm-serve" / "prepared"


def find(graph: Graph, root: Path, tell: Tell) -> Copy | None:
    """The copy of `graph` under `root`, None where there is none or (`tell` says so) it is damaged."""
    folder = root / key(graph)
    if not folder.exists():
        return None
    if (copy := _sound(folder, graph.name)) is None:
        tell(f"The prepared copy in {folder} is damaged and is not used.")
    return copy


def exists(graph: Graph, root: Path) -> bool:
    """Whether there is a copy of `graph` under `root`, sound or not."""
    return (root / key(graph)).exists()


def is_outdated(graph: Graph, precision: str, root: Path) -> bool:
    """Whether there is a copy of `graph` that is damaged, or only one of what it was before, or for something else:
    its file has changed since then, or onnxruntime, or the CPU."""
    folder = root / key(graph)
    if folder.exists():
        return _sound(folder, graph.name) is None
    return any(_was_made_of(path.parent, graph, precision) for path in root.glob(f"*/{MANIFEST}"))


def key(graph: Graph) -> str:
    """Changes with the graph, its weight files, and the packing; or with onnxruntime and the CPU's features."""
    stats = [(file.name, file.stat()) for file in graph.files]
    facts = {
        "graph": hashlib.sha256(graph.model).hexdigest(),
        "weights": [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats],
        **({"packing": PACKING} if graph.native else {"onnxruntime": ort.__version__, "cpu": _cpu()}),
    }
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:KEY_DIGITS]


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _cpu() -> list[str]:
    """Return what onnxruntime chooses kernels by: the architecture and, on Linux, its features by name."""
    return [platform.machine(), *cpu_flags()]


def _sound(folder: Path, name: str) -> Copy | None:
    """The copy in `folder` if nothing of it is seen to be damaged."""
    try:
        copy = open_copy(folder, name)
        return copy if copy.manifest.sampled == sampled(folder / WEIGHTS) else None
    except (OSError, ValueError, TypeError):
        return None


def _was_made_of(folder: Path, graph: Graph, precision: str) -> bool:
    """Whether the copy in `folder` has the source that `graph` has, as that may have been then."""
    try:
        manifest = _manifest(folder)
    except (OSError, ValueError, TypeError):
        return False
    expected = (str(graph.source), precision, graph.native)
    return (manifest.source, manifest.precision, manifest.native) == expected


def _manifest(folder: Path) -> Manifest:
    """Raises OSError, ValueError or TypeError where there is none that can be read."""
    return Manifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))


def open_copy(folder: Path, name: str) -> Copy:
    """The copy in `folder`, its graph checked and its weights not.

    Raises OSError, ValueError or TypeError where files are missing or not what the manifest says.
    """
    manifest = _manifest(folder)
    model = (folder / GRAPH).read_bytes()
    if hashlib.sha256(model).hexdigest() != manifest.graph:
        raise ValueError(f"{folder / GRAPH} is damaged")
    return Copy(copy_graph(name, model, folder, manifest.native), manifest)


def copy_graph(name: str, model: bytes, folder: Path, native: bool) -> Graph:
    """The graph of a copy in `folder`."""
    return Graph(name, model, folder, prepared=True, native=native, files=(folder / WEIGHTS,))


def sampled(path: Path) -> str:
    """A hash of the file's size and of blocks spread evenly from its first byte to its last."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    last = max(0, size - SAMPLE_BYTES)
    with path.open("rb") as file:
        for i in range(SAMPLES):
            file.seek(last * i // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()
