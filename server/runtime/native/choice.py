"""Whether a model is to run on the native kernels, and what is said about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from server.errors import KernelsError, StartupError
from server.runtime.graph import Graph, Precision
from server.runtime.native.library import PORTABLE, load_library, native_name


class Kernels(StrEnum):
    """AUTO: native if the library loads and this CPU has an instruction set that it is fast on, else onnxruntime's."""

    AUTO = "auto"
    NATIVE = "native"
    ONNXRUNTIME = "onnxruntime"


@dataclass(frozen=True, slots=True)
class KernelChoice:
    """native: whether to use the native kernels. reason: why not, for people; "" if nobody need wonder."""

    native: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class KernelsInUse:
    """name: "native avx2" or "onnxruntime". reason: why not the native ones, for people; "" if nobody need wonder."""

    name: str
    reason: str


def choose_kernels(kernels: Kernels, precision: Precision) -> KernelChoice:
    """Choose for this machine. Raises StartupError if the native kernels are required and cannot be used."""
    if kernels is Kernels.ONNXRUNTIME:
        return KernelChoice(False)
    if precision is Precision.EXACT:
        if kernels is Kernels.NATIVE:
            raise StartupError("--kernels native computes with int8 activations, which --precision exact rules out.")
        return KernelChoice(False)
    try:
        isa = load_library().isa
    except KernelsError as error:
        if kernels is Kernels.NATIVE:
            raise StartupError(f"The native kernels cannot be used: {error}.") from error
        return KernelChoice(False, str(error))
    if isa == PORTABLE and kernels is Kernels.AUTO:
        return KernelChoice(False, "they have nothing faster than plain C for this CPU")
    return KernelChoice(True)


def kernels_in_use(graph: Graph, original: Graph, choice: KernelChoice) -> KernelsInUse:
    """Name what computes the `graph` that was chosen for `original`."""
    if graph.native:
        return KernelsInUse(native_name(), "")
    reason = "this model is not prepared, see the log" if original.native else choice.reason
    return KernelsInUse("onnxruntime", reason)
