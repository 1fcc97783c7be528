"""Makes prepared copies of models, and removes unfinished and outdated ones.

A copy is written to a temporary folder, checked and renamed. Only one process at a time makes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from server.errors import PreparationError
from server.progress import show_progress
from server.runtime.graph import Graph
from server.runtime.machine.cpu import available_threads
from server.runtime.native.library import load_library
from server.runtime.native.packing import pack_into
from server.runtime.native.widening import added_bytes
from server.runtime.prepared_copy.lookup import (
    GRAPH,
    KEY_DIGITS,
    MANIFEST,
    WEIGHTS,
    Copy,
    Manifest,
    Tell,
    copy_graph,
    find,
    gigabytes,
    key,
    open_copy,
    sampled,
    sha256,
)

try:
    import fcntl
except ImportError:  # Windows has no fcntl. Without it, two processes may make the same copy at the same time.
    fcntl = None  # type: ignore[assignment]

PARTIAL, LOCK = ".partial", ".lock"
OURS = re.compile(rf"[0-9a-f]{{{KEY_DIGITS}}}({re.escape(PARTIAL)})?")
"""A pattern for the folder names of prepared copies, finished or not.

No other folders are removed.
"""
GROWTH, NATIVE_GROWTH = 2.25, 1.1
"""The largest expected size of a copy, relative to the original weights.

GROWTH is for copies for onnxruntime's kernels, which contain the weights both packed and unpacked. NATIVE_GROWTH is for
copies for the native kernels, except for float16 weights that become float32.
"""
POLL_SECONDS = 0.5

Check = Callable[[Graph], str]


def most_bytes(graph: Graph) -> int:
    """Return the largest expected size of a prepared copy of `graph`, in bytes."""
    if not graph.native:
        return int(graph.weight_bytes * GROWTH)
    return int(graph.weight_bytes * NATIVE_GROWTH) + added_bytes(onnx.load_from_string(graph.model).graph)


def make(graph: Graph, precision: str, root: Path, tell: Tell, check: Check) -> Copy:
    """Return the prepared copy of `graph` under `root`, making it if necessary.

    check: checks a new copy and returns the result for the manifest.

    Raises PreparationError if the copy cannot be written.
    """
    folder = root / key(graph)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f"{folder.name}{LOCK}"):
            if (copy := _whole(folder, graph, tell)) is not None:
                return copy
            shutil.rmtree(folder, ignore_errors=True)
            _write(graph, precision, folder, tell, check)
            return open_copy(folder, graph.name)
    except OSError as error:
        raise PreparationError(f"The model cannot be prepared in {root}: {error}") from error


def prune(root: Path, current: Callable[[Manifest], Graph], tell: Tell) -> int:
    """Remove unfinished and outdated copies, and return the number of bytes freed.

    current: loads the graph from a manifest's source file. Raises OSError if it cannot.
    """
    freed = 0
    for folder in sorted(path for path in root.glob("*") if path.is_dir() and OURS.fullmatch(path.name)):
        with _locked(root / f"{folder.name.removesuffix(PARTIAL)}{LOCK}"):
            if not folder.name.endswith(PARTIAL) and _is_current(folder, current):
                continue
            size = sum(path.stat().st_size for path in folder.iterdir())
            shutil.rmtree(folder)
        freed += size
        tell(f"Removed {folder}, {gigabytes(size)}.")
    return freed


def _whole(folder: Path, graph: Graph, tell: Tell) -> Copy | None:
    """Return the existing copy if all of its bytes are correct, otherwise None."""
    copy = find(graph, folder.parent, tell)
    if copy is None:
        return None
    tell(f"There is a copy in {folder}, {gigabytes(copy.manifest.bytes)}; checking all of it ...")
    if copy.manifest.weights != sha256(folder / WEIGHTS):
        tell(f"The prepared copy in {folder} is damaged and is made again.")
        return None
    if copy.manifest.originals != _originals(graph):
        tell(f"The prepared copy in {folder} is of other weights and is made again.")
        return None
    return copy


def _write(graph: Graph, precision: str, folder: Path, tell: Tell, check: Check) -> None:
    partial = folder.with_name(f"{folder.name}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    _check_space(graph, folder, tell)
    partial.mkdir()
    try:
        _convert(graph, partial, tell)
        model = (partial / GRAPH).read_bytes()
        checked = check(copy_graph(graph.name, model, partial, graph.native))
        tell("Hashing ...")
        manifest = Manifest(
            source=str(graph.source),
            precision=precision,
            bytes=sum(path.stat().st_size for path in partial.iterdir()),
            graph=hashlib.sha256(model).hexdigest(),
            weights=sha256(partial / WEIGHTS),
            sampled=sampled(partial / WEIGHTS),
            originals=_originals(graph),
            checked=checked,
            native=graph.native,
        )
        (partial / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2), encoding="utf-8")
        for path in (*partial.iterdir(), partial):
            _sync(path)
        partial.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_space(graph: Graph, folder: Path, tell: Tell) -> None:
    expected, free = most_bytes(graph), shutil.disk_usage(folder.parent).free
    tell(f"Writing up to {gigabytes(expected)} to {folder}, with {gigabytes(free)} free.")
    if free < expected:
        raise PreparationError(
            f"There is not enough space in {folder.parent}: up to {gigabytes(expected)} are needed, and "
            f"{gigabytes(free)} are free. Remove old copies with `lfm-serve prepare --prune`, or choose another folder "
            "with --prepared-folder."
        )


def _convert(graph: Graph, target: Path, tell: Tell) -> None:
    """Write a copy's graph and weights, packed for the kernels of `graph`."""
    if graph.native:
        _pack(graph, target, tell)
        return
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
    with show_progress(
        "Packing", most_bytes(graph), tell, lambda size: f"{gigabytes(size)} written" if size else "Packing ..."
    ) as advance:
        while thread.is_alive():
            thread.join(POLL_SECONDS)
            advance(sum(path.stat().st_size for path in target.iterdir()))
    if errors:
        free = gigabytes(shutil.disk_usage(target).free)
        reason = " ".join(str(errors[0]).split())
        raise PreparationError(
            f"onnxruntime {ort.__version__} cannot prepare {graph.name} in {target.parent}, with {free} free: {reason}"
        )


def _pack(graph: Graph, target: Path, tell: Tell) -> None:
    with show_progress("Packing", graph.weight_bytes, tell, lambda size: f"{gigabytes(size)} written") as advance:
        model = pack_into(graph, target, WEIGHTS, load_library(), available_threads(), advance)
    (target / GRAPH).write_bytes(model)


def _is_current(folder: Path, current: Callable[[Manifest], Graph]) -> bool:
    try:
        return key(current(open_copy(folder, "").manifest)) == folder.name  # as a copy made now would be named
    except (OSError, ValueError, TypeError):
        return False


def _originals(graph: Graph) -> list[str]:
    """Return the SHA-256 of each weight file of the original graph."""
    return [sha256(file) for file in graph.files]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(path: Path) -> Iterator[Any]:
    """Hold a lock that only one process at a time can have.

    The system releases it if the process ends.
    """
    with path.open("w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file
