"""Finds prepared copies of models.

A prepared copy is a graph with its weights in the format of the kernels. Sessions and processes share the weights by
mapping them. A copy for the native kernels fits every machine. Any other copy fits only one version of onnxruntime and
one CPU.

At start, the server checks the graph and samples of the weights. This detects truncated files, but not a single changed
byte. `lfm-serve prepare` checks everything.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from server.runtime.graph import Graph
from server.runtime.machine.cpu import cpu_flags
from server.runtime.machine.mapped_file import advise_huge_pages
from server.runtime.native.library import VERSION as PACKING

GRAPH, WEIGHTS, MANIFEST = "model.onnx", "weights", "manifest.json"
SAMPLES, SAMPLE_BYTES = 256, 1 << 16
KEY_DIGITS = 24

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The description of a prepared copy.

    source: path of the original graph file.
    bytes: size of the copy in bytes.
    graph, weights: SHA-256 of the copy's files GRAPH and WEIGHTS.
    sampled: hash of sampled blocks of the weights.
    originals: SHA-256 of each original weight file.
    checked: result of checking the copy against the original, as text for messages.
    native: whether the copy is for the native kernels.
    """

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
    """A prepared copy whose graph matches the SHA-256 in the manifest."""

    graph: Graph
    manifest: Manifest


def default_folder() -> Path:
    """Return the default folder of prepared copies, in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME")
    home = os.path.expanduser("~")
    if not os.path.isabs(home):  # HOME is not set, and the system does not know the user
        home = "/nonexistent"
    return (Path(cache) if cache else Path(home) / ".cache") / "lfm-serve" / "prepared"


def find(graph: Graph, root: Path, tell: Tell) -> Copy | None:
    """Return the prepared copy of `graph` under `root`.

    Returns None if there is no copy. If the copy is damaged, returns None and calls `tell` with a message.
    """
    folder = root / key(graph)
    if not folder.exists():
        return None
    if (copy := _sound(folder, graph.name)) is None:
        tell(f"The prepared copy in {folder} is damaged and is not used.")
    return copy


def exists(graph: Graph, root: Path) -> bool:
    """Return whether there is a prepared copy of `graph`, damaged or not."""
    return (root / key(graph)).exists()


def is_outdated(graph: Graph, precision: str, root: Path) -> bool:
    """Return whether there is a copy of `graph` that must be made again.

    A copy must be made again if it is damaged, or if its model, the kernels or the CPU that it was made for has
    changed.
    """
    folder = root / key(graph)
    if folder.exists():
        return _sound(folder, graph.name) is None
    return any(_was_made_of(path.parent, graph, precision) for path in root.glob(f"*/{MANIFEST}"))


def key(graph: Graph) -> str:
    """Return the key of a graph's prepared copy, which is the name of its folder.

    The key is a hash of everything the copy depends on. Weight files count by name, size and modification time, because
    reading them takes long.
    """
    stats = [(file.name, file.stat()) for file in graph.files]
    facts = {
        "graph": hashlib.sha256(graph.model).hexdigest(),
        "weights": [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats],
        **({"packing": PACKING} if graph.native else {"onnxruntime": ort.__version__, "cpu": _cpu()}),
    }
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:KEY_DIGITS]


def weight_digests(graph: Graph, original: Graph) -> list[str]:
    """Return the SHA-256 of each original weight file of a model.

    graph: the graph that is served. If it is a prepared copy, its manifest has the hashes.
    """
    return _manifest(graph.weights).originals if graph.prepared else [sha256(file) for file in original.files]


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _cpu() -> list[str]:
    """Return the properties of the CPU by which onnxruntime chooses kernels."""
    return [platform.machine(), *cpu_flags()]


def _sound(folder: Path, name: str) -> Copy | None:
    """Return the copy in `folder`, or None if its graph or a sample is damaged."""
    try:
        copy = open_copy(folder, name)
        return copy if copy.manifest.sampled == sampled(folder / WEIGHTS) else None
    except (OSError, ValueError, TypeError):
        return None


def _was_made_of(folder: Path, graph: Graph, precision: str) -> bool:
    """Return whether a copy was made from the file of `graph` in this precision.

    The copy must also be for the same kernels as `graph`. The content of the file may have changed since.
    """
    try:
        manifest = _manifest(folder)
    except (OSError, ValueError, TypeError):
        return False
    expected = (str(graph.source), precision, graph.native)
    return (manifest.source, manifest.precision, manifest.native) == expected


def _manifest(folder: Path) -> Manifest:
    """Read the manifest of a copy.

    Raises OSError, ValueError or TypeError if there is no valid manifest.
    """
    return Manifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))


def open_copy(folder: Path, name: str) -> Copy:
    """Open the copy in `folder` and check its graph, but not its weights.

    Raises OSError, ValueError or TypeError if a file is missing or the graph does not match the manifest.
    """
    manifest = _manifest(folder)
    model = (folder / GRAPH).read_bytes()
    if hashlib.sha256(model).hexdigest() != manifest.graph:
        raise ValueError(f"{folder / GRAPH} is damaged")
    return Copy(copy_graph(name, model, folder, manifest.native), manifest)


def copy_graph(name: str, model: bytes, folder: Path, native: bool) -> Graph:
    """Return the graph of a copy in `folder`."""
    return Graph(name, model, folder, prepared=True, native=native, files=(folder / WEIGHTS,))


def sampled(path: Path) -> str:
    """Return a hash of a file's size and of blocks spread evenly over the file."""
    # Mapped, because reading a file that is not in memory would bring it there in small pages.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        advise_huge_pages(mapped)
        last = max(0, len(mapped) - SAMPLE_BYTES)
        digest = hashlib.sha256(str(len(mapped)).encode())
        with memoryview(mapped) as data:
            for i in range(SAMPLES):
                start = last * i // (SAMPLES - 1)
                digest.update(data[start : start + SAMPLE_BYTES])
    return digest.hexdigest()
