"""Encodes blocks as files and decodes them.

An entry is a safetensors file with a block's tokens and KV, and usually its convolution windows. The checksum covers
everything except itself.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BufferedReader

import numpy as np

from server.cache_folder.state_block import BlockKey, StateBlock
from server.kv_events.blocks import BLOCK_TOKENS, next_link
from server.runtime.contract import StateKind, StateTensor
from server.runtime.snapshots import Array, Snapshot

FORMAT = "lfm-serve prefix block 1"
CHECKSUM_BYTES = 16
NO_CHECKSUM = "0" * (2 * CHECKSUM_BYTES)
LENGTH_BYTES = 8
"""The size of the first field of a safetensors file: the length of its header."""

MAX_HEADER = 1 << 20
ALIGNMENT = 8
DTYPES = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16", np.dtype(np.int64): "I64"}


class DamagedEntryError(Exception):
    """A file is damaged or holds a different block than its name says.

    The message names the damage.
    """


class UnstorableBlockError(Exception):
    """A KV value is too large for the stored dtype."""


@dataclass(frozen=True, slots=True)
class DecodedBlock:
    """The state of a block that was read from an entry.

    resumable: whether a prompt can continue after the block. This needs the convolution windows.
    """

    snapshot: Snapshot
    resumable: bool


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class EntryFormat:
    """The format of one model's entries.

    states: the model's state tensors.
    identity: hash of the model (see `block_names.model_identity`).
    entry_bytes: size of the tensors in an entry with convolution windows.
    """

    def __init__(self, states: Sequence[StateTensor], identity: bytes, half: bool) -> None:
        """Create the format.

        half: whether to store KV as float16 even if the model's dtype is float32.
        """
        self.states = tuple(states)
        self.identity = identity
        self._kv = [state for state in states if state.kind is StateKind.KV]
        self._convolutions = [state for state in states if state.kind is StateKind.CONV]
        tokens = _Tensor("tokens", (BLOCK_TOKENS,), np.dtype(np.int64))
        kv = [
            _Tensor(s.past, (s.shape[0], BLOCK_TOKENS, s.shape[1]), np.dtype(np.float16) if half else s.dtype)
            for s in self._kv
        ]
        windows = [_Tensor(s.past, s.shape, s.dtype) for s in self._convolutions]
        self._without_windows = [tokens, *kv]
        self._tensors = [tokens, *kv, *windows]
        self._half = half
        self.entry_bytes = sum(tensor.nbytes for tensor in self._tensors)

    def encode(self, block: StateBlock) -> list[memoryview | bytes]:
        """Return the bytes of a block's entry, in parts.

        Raises UnstorableBlockError if a KV value is too large for the stored dtype.
        """
        whole = bool(block.windows) or not self._convolutions
        arrays: list[Array] = [np.ascontiguousarray(block.key.tokens, np.int64)]
        arrays += [self._stored(block.kv(state.past)) for state in self._kv]
        if whole:
            arrays += [np.ascontiguousarray(block.windows[state.past]) for state in self._convolutions]
        data = [array.data.cast("B") for array in arrays]
        header = self._header(block.key, whole)
        place = _checksum_place(header)
        checksum = _checksum([header, *data]).encode()
        return [header[: place.start] + checksum + header[place.stop :], *data]

    def decode(self, file: BufferedReader, key: BlockKey) -> DecodedBlock:
        """Read a block's entry.

        Raises DamagedEntryError if the file is damaged or holds a block other than `key`.
        Raises OSError if the file cannot be read.
        """
        # The header is compared, not parsed. The safetensors package would parse it and copy all tensors.
        size = os.fstat(file.fileno()).st_size
        header = self._header(key, whole := True)
        if size != len(header) + sum(tensor.nbytes for tensor in self._tensors):
            header = self._header(key, whole := False)
            if size != len(header) + sum(tensor.nbytes for tensor in self._without_windows):
                raise DamagedEntryError(f"its size of {size:,} bytes is wrong")
        found = file.read(len(header))
        place = _checksum_place(header)
        if found[: place.start] + header[place] + found[place.stop :] != header:
            raise DamagedEntryError("its header is wrong")
        arrays = [np.empty(t.shape, t.dtype) for t in (self._tensors if whole else self._without_windows)]
        data = [array.data.cast("B") for array in arrays]
        if any(file.readinto(part) != len(part) for part in data):
            raise DamagedEntryError("it ends early")
        if _checksum([header, *data]).encode() != found[place]:
            raise DamagedEntryError("its checksum is wrong")
        if not np.array_equal(arrays[0], key.tokens):
            raise DamagedEntryError("it holds the tokens of another block")
        return DecodedBlock(self._snapshot(arrays[1:]), resumable=whole or not self._convolutions)

    def _snapshot(self, arrays: Sequence[Array]) -> Snapshot:
        """Return a snapshot with the contents of `arrays`.

        arrays: KV tensors, then the convolution windows if the entry has them.
        """
        snapshot = Snapshot(self.states, BLOCK_TOKENS)
        for state, array in zip((*self._kv, *self._convolutions), arrays, strict=False):
            place = snapshot.kv if state.kind is StateKind.KV else snapshot.windows
            place[state.past][:] = array
        return snapshot

    def _stored(self, kv: Array) -> Array:
        """Return `kv` in the stored dtype.

        Raises UnstorableBlockError if a value is too large for it.
        """
        if not self._half or kv.dtype == np.float16:
            return kv
        with np.errstate(over="ignore"):
            half = kv.astype(np.float16)
        if not np.isfinite(half).all():
            raise UnstorableBlockError
        return half

    def _header(self, key: BlockKey, whole: bool) -> bytes:
        """Return the header of an entry, including its length field and with NO_CHECKSUM as the checksum.

        whole: whether the entry has the convolution windows.
        """
        fields: dict[str, object] = {
            "__metadata__": {
                "format": FORMAT,
                "model": self.identity.hex(),
                "name": key.name,
                "parent": key.parent,
                "end": str(key.end),
                "checksum": NO_CHECKSUM,
            }
        }
        offset = 0
        for tensor in self._tensors if whole else self._without_windows:
            end = offset + tensor.nbytes
            fields[tensor.name] = {"dtype": DTYPES[tensor.dtype], "shape": tensor.shape, "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(fields, separators=(",", ":")).encode()
        text += b" " * (-len(text) % ALIGNMENT)
        return len(text).to_bytes(LENGTH_BYTES, "little") + text


def read_metadata(file: BufferedReader) -> dict[str, str]:
    """Read the metadata in an entry's header.

    Afterwards, the first tensor is next in `file`. Returns {} if the file is not an entry in the format FORMAT.
    Raises OSError if it cannot be read.
    """
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    try:
        metadata: dict[str, str] = json.loads(file.read(min(length, MAX_HEADER)))["__metadata__"]
        return metadata if metadata["format"] == FORMAT else {}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}


def read_key(file: BufferedReader, identity: bytes) -> BlockKey | None:
    """Read the key of an entry, but not its state.

    identity: hash of the model.

    Returns None if the file is not an entry of this model, or if its key is damaged. Raises OSError if the file cannot
    be read.
    """
    metadata = read_metadata(file)
    if metadata.get("model") != identity.hex():
        return None
    try:
        tokens = np.frombuffer(file.read(BLOCK_TOKENS * 8), np.int64)
        key = BlockKey(metadata["name"], metadata["parent"], int(metadata["end"]), tokens)
        return key if next_link(bytes.fromhex(key.parent), tokens).hex() == key.name else None
    except (ValueError, TypeError, KeyError):
        return None


def _checksum_place(header: bytes) -> slice:
    """Return where a header has the checksum."""
    begin = header.index(NO_CHECKSUM.encode(), header.index(b'"checksum"'))
    return slice(begin, begin + len(NO_CHECKSUM))


def _checksum(parts: Iterable[memoryview | bytes]) -> str:
    digest = hashlib.blake2b(digest_size=CHECKSUM_BYTES)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
