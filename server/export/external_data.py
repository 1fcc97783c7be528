"""Writes the large weights of a graph to external data files."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from numpy.typing import NDArray
from onnx import TensorProto

SHARD_BYTES = 2_000_000_000
ALIGNMENT = 4096
"""The alignment of weights in a file, in bytes.

It is the size of a page, so that runtimes can map the weights.
"""


class ExternalData:
    """A writer that appends arrays to external data files.

    The files are `<graph>_data`, `<graph>_data_1`, and so on. Each has at most `shard_bytes`, unless it holds a
    single array that is larger.
    """

    def __init__(self, graph: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self._graph, self._shard_bytes = graph, shard_bytes
        self._shards = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> ExternalData:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, tensor: TensorProto, array: NDArray[Any]) -> None:
        """Write the bytes of `array` in C order and make `tensor` refer to them."""
        file = self._file_for(array.nbytes)
        offset = file.tell()
        file.write(array.data if array.flags.c_contiguous else array.tobytes())
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": Path(file.name).name, "offset": str(offset), "length": str(array.nbytes)}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)

    def _file_for(self, size: int) -> BinaryIO:
        if self._file is not None:
            offset = -(-self._file.tell() // ALIGNMENT) * ALIGNMENT
            if offset + size <= self._shard_bytes:
                self._file.seek(offset)
                return self._file
            self._file.close()
        suffix = f"_{self._shards}" if self._shards else ""
        self._shards += 1
        self._file = self._graph.with_name(f"{self._graph.name}_data{suffix}").open("wb")
        return self._file
