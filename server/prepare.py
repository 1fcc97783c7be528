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
from server.runtime.pool import HEADROOM
from server.runtime.prepared import Manifest, gigabytes
from server.runtime.preparing import GROWTH
from server.runtime.verify import compare, require

TEXT = Path(__file__).parent / "demo" / "text.txt"
TEXT_TOKENS = 384
"""How many tokens of the text both graphs read."""

Tell = Callable[[str], None]


def prepare(folder: ModelFolder, precision: Precision, threads: int, root: Path, tell: Tell) -> None:
    """Make sure that there is a sound copy under `root`. Raises PreparationError and StartupError."""
    graph = load(folder.graph, precision)
    if int(graph.weight_bytes * GROWTH) + HEADROOM > (left := memory_left()):
        raise PreparationError(
            f"A prepared copy has up to {gigabytes(int(graph.weight_bytes * GROWTH))} and only {gigabytes(left)} of "
            "memory are left: it would not be used. `lfm-serve serve` works without it."
        )
    tokens = Tokenizer.load(folder.path).encode(TEXT.read_text(encoding="utf-8"))[:TEXT_TOKENS]

    def check(made: Graph) -> str:
        tell(f"Checking against the original over {len(tokens)} tokens of text ...")
        agreement = compare(load_original(folder.graph), made, tokens, threads, folder.head_dim)
        require(agreement, precision)
        tell(f"{agreement}.")
        return str(agreement)

    copy = preparing.make(graph, precision, root, tell, check)
    tell(f"Ready: {copy.graph.weights}, {gigabytes(copy.manifest.bytes)}; {copy.manifest.checked}.")


def renew(folder: ModelFolder, graph: Graph, precision: Precision, threads: int, root: Path, tell: Tell) -> None:
    """Make a copy of the folder's `graph` again that is damaged or out of date.

    Where there was none, or it cannot be made, there is none.
    """
    if not prepared.is_outdated(graph, precision, root):
        return
    tell("The prepared copy of this model is damaged or out of date and is made again ...")
    try:
        prepare(folder, precision, threads, root, tell)
    except LfmServeError as error:
        tell(str(error))


def prune(root: Path, tell: Tell) -> None:
    """Remove unfinished copies and those whose model, onnxruntime or CPU is no longer the one they were made for."""

    def current(manifest: Manifest) -> Graph:
        try:
            return load(Path(manifest.source), Precision(manifest.precision))
        except LfmServeError as error:
            raise OSError(str(error)) from error

    freed = preparing.prune(root, current, tell)
    tell(f"{gigabytes(freed)} freed." if freed else "There is nothing to remove.")
