"""`lfm-serve prepare`: makes the prepared copy of a model and checks it against the original, or removes old copies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from server.chat.tokenizer import Tokenizer
from server.errors import LfmServeError, PreparationError
from server.runtime import prepared, preparing
from server.runtime.graph import Graph, Precision, load, load_original
from server.runtime.memory import memory_left
from server.runtime.model_folder import ModelFolder
from server.runtime.pool import HEADROOM, SMALL
from server.runtime.prepared import Manifest, gigabytes
from server.runtime.preparing import most_bytes
from server.runtime.verify import compare, require

TEXT = Path(__file__).parent / "demo" / "text.txt"
TEXT_TOKENS = 384
"""How many tokens of the text both graphs read."""
OUTDATED = "The prepared copy of this model is damaged or out of date and is made again"
FIRST = "Preparing this model for the native kernels, once"

Tell = Callable[[str], None]


def prepare(
    folder: ModelFolder, precision: Precision, threads: int, root: Path, tell: Tell, native: bool = False
) -> None:
    """Make sure that there is a sound copy under `root`. Raises PreparationError and StartupError.

    native: it is for the native kernels.
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

    copy = preparing.make(graph, precision, root, tell, check)
    tell(f"Ready: {copy.graph.weights}, {gigabytes(copy.manifest.bytes)}; {copy.manifest.checked}.")


def renew(
    folder: ModelFolder, graph: Graph, precision: Precision, threads: int, root: Path, tell: Tell, create: bool = True
) -> None:
    """Make a copy of the folder's `graph` that is damaged or out of date, or that `create` allows where there is none.

    Only large graphs for the native kernels get a first copy: it takes less time than onnxruntime takes to load them.
    If a copy cannot be made, there is none.
    """
    outdated = prepared.is_outdated(graph, precision, root)
    is_first = create and graph.native and graph.weight_bytes >= SMALL and not prepared.exists(graph, root)
    if not (outdated or is_first):
        return
    tell(f"{OUTDATED if outdated else FIRST} ...")
    try:
        if graph.native:
            _require_memory(graph)
            preparing.make(graph, precision, root, tell, lambda _: "sampled rows were those of the original")
        else:
            prepare(folder, precision, threads, root, tell)
    except LfmServeError as error:
        tell(str(error))


def _require_memory(graph: Graph) -> None:
    if most_bytes(graph) + HEADROOM > (left := memory_left()):
        raise PreparationError(
            f"A prepared copy has up to {gigabytes(most_bytes(graph))} and only {gigabytes(left)} of memory are left: "
            "it would not be used. `lfm-serve serve` works without it."
        )


def prune(root: Path, tell: Tell) -> None:
    """Remove unfinished copies and those whose model, onnxruntime or CPU is no longer the one they were made for."""

    def current(manifest: Manifest) -> Graph:
        try:
            return load(Path(manifest.source), Precision(manifest.precision), manifest.native)
        except LfmServeError as error:
            raise OSError(str(error)) from error

    freed = preparing.prune(root, current, tell)
    tell(f"{gigabytes(freed)} freed." if freed else "There is nothing to remove.")
