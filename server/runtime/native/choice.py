"""Chooses whether a model runs on the native kernels, and explains the choice."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from server.errors import KernelsError, StartupError
from server.runtime.graph import Graph, Precision
from server.runtime.native.library import PORTABLE, load_library, native_name


class Kernels(StrEnum):
    """The kernels to use.

    AUTO: the native kernels if they are fast on this CPU, otherwise onnxruntime's.
    """

    AUTO = "auto"
    NATIVE = "native"
    ONNXRUNTIME = "onnxruntime"


@dataclass(frozen=True, slots=True)
class KernelChoice:
    """Whether to use the native kernels.

    reason: why the native kernels do not suit this machine; "" if they do or are not wanted.
    required: whether a model that cannot run on the native kernels is an error.
    """

    native: bool
    reason: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True)
class KernelsInUse:
    """The kernels that compute a model.

    name: such as "native avx2" or "onnxruntime".
    reason: why the native kernels are not used; "" if they are, or if that needs no explanation.
    """

    name: str
    reason: str


def choose_kernels(kernels: Kernels, precision: Precision) -> KernelChoice:
    """Choose the kernels for this machine.

    Raises StartupError if the native kernels are required but cannot be used.
    """
    if kernels is Kernels.ONNXRUNTIME:
        return KernelChoice(False)
    if precision is Precision.EXACT:
        if kernels is Kernels.NATIVE:
            raise StartupError(
                "--kernels native cannot be combined with --precision exact: the native kernels round activations to "
                "int8."
            )
        return KernelChoice(False)
    try:
        isa = load_library().isa
    except KernelsError as error:
        if kernels is Kernels.NATIVE:
            raise StartupError(f"The native kernels cannot be used: {error}.") from error
        return KernelChoice(False, str(error))
    if isa == PORTABLE and kernels is Kernels.AUTO:
        return KernelChoice(False, "they have no fast code for this CPU")
    return KernelChoice(True, required=kernels is Kernels.NATIVE)


def kernels_in_use(graph: Graph, original: Graph, choice: KernelChoice) -> KernelsInUse:
    """Return the kernels that compute `graph`.

    graph: the result of `session_pool.choose_graph`.
    original: the graph that was passed to `choose_graph`.

    Raises StartupError if the native kernels are required but not used.
    """
    if graph.native:
        return KernelsInUse(native_name(), "")
    if choice.required and original.native:
        raise StartupError(
            "--kernels native needs a prepared copy of this large model, and there is none that can be used: see the "
            "lines above, or run `lfm-serve prepare` with the same --model and --dtype."
        )
    if choice.required:
        raise StartupError("--kernels native needs a model with 4- or 8-bit layers, and this one has none.")
    reason = "this model is not prepared, see the log" if original.native else choice.reason
    return KernelsInUse("onnxruntime", reason)
