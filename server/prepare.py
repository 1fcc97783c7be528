"""Implements `lfm-serve prepare`: writes, checks and removes prepared copies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from server.chat.tokenizer import Tokenizer
from server.errors import LfmServeError, PreparationError
from server.runtime.graph import Graph, Precision, load, load_original
from server.runtime.machine.memory import HEADROOM, memory_left
from server.runtime.model_folder import ModelFolder
from server.runtime.prepared_copy import lookup, writer
from server.runtime.prepared_copy.agreement import compare, require
from server.runtime.prepared_copy.lookup import Manifest, gigabytes
from server.runtime.prepared_copy.placement import SHARED_MEMORY
from server.runtime.prepared_copy.shared_weights import remove_unused
from server.runtime.prepared_copy.writer import most_bytes
from server.runtime.session_pool import SMALL

TEXT = Path(__file__).parent / "demo" / "text.txt"
TEXT_TOKENS = 384
"""Number of tokens on which a copy is compared with the original."""
OUTDATED = "The prepared copy of this model is damaged or out of date and is made again"
FIRST = "Preparing this model for the native kernels; later starts reuse the prepared copy"

Tell = Callable[[str], None]


def prepare(
    folder: ModelFolder, precision: Precision, threads: int, root: Path, tell: Tell, native: bool = False
) -> None:
    """Write a prepared copy of the model under `root` unless a valid one exists.

    native: whether the copy is for the native kernels.

    Raises PreparationError if the copy cannot be written or differs too much from the original.
    Raises StartupError if the model cannot be loaded.
    """
    graph = load(folder.graph, precision, native)
    _require_memory(graph)
    tokens = Tokenizer.load(folder.path).encode(TEXT.read_text(encoding="utf-8"))[:TEXT_TOKENS]

    def check(made: Graph) -> str:
        tell(f"Checking against the original over {len(tokens)} tokens of text ...")
        agreement = compare(load_original(folder.graph), made, tokens, threads, folder.head_dim)
        require(agreement, precision)
        tell(f"{agreement}.")
        return str(agreement)

    copy = writer.make(graph, precision, root, tell, check)
    tell(f"Ready: {copy.graph.weights}, {gigabytes(copy.manifest.bytes)}; {copy.manifest.checked}.")


def renew(
    folder: ModelFolder, graph: Graph, precision: Precision, threads: int, root: Path, tell: Tell, create: bool = True
) -> None:
    """Replace the prepared copy of `graph` if the copy is damaged or out of date.

    create: whether to also write the first copy if `graph` is large and runs on the native kernels.
    tell: called with lines of progress, and with the reason if writing fails.
    """
    outdated = lookup.is_outdated(graph, precision, root)
    is_first = create and graph.native and graph.weight_bytes >= SMALL and not lookup.exists(graph, root)
    if not (outdated or is_first):
        return
    tell(f"{OUTDATED if outdated else FIRST} ...")
    try:
        if graph.native:
            _require_memory(graph)
            writer.make(graph, precision, root, tell, lambda _: "sampled rows were those of the original")
        else:
            prepare(folder, precision, threads, root, tell)
    except LfmServeError as error:
        tell(str(error))


def _require_memory(graph: Graph) -> None:
    needed, left = most_bytes(graph) + HEADROOM, memory_left()
    if needed > left:
        raise PreparationError(
            f"There is too little memory for a prepared copy: {gigabytes(needed)} may be needed, "
            f"and only {gigabytes(left)} are free. `lfm-serve serve` works without a copy."
        )


def prune(root: Path, tell: Tell) -> None:
    """Remove unfinished and outdated prepared copies.

    A copy is outdated if its model, the kernels or the CPU that it was made for has changed. Weights in shared memory
    that no server uses are removed, too.
    """

    def current(manifest: Manifest) -> Graph:
        try:
            return load(Path(manifest.source), Precision(manifest.precision), manifest.native)
        except LfmServeError as error:
            raise OSError(str(error)) from error

    remove_unused(SHARED_MEMORY)
    freed = writer.prune(root, current, tell)
    tell(f"{gigabytes(freed)} freed." if freed else "There is nothing to remove.")
