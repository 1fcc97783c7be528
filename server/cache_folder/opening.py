"""Creates the disk cache of a model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from server.cache_folder.block_names import MARK_DIGITS, model_identity
from server.cache_folder.disk_cache import DiskCache
from server.cache_folder.entry import EntryFormat
from server.cache_folder.folder import EntryFolder
from server.cache_folder.folder_blocks import FolderBlocks
from server.runtime.contract import StateTensor

log = logging.getLogger(__name__)


def open_cache(
    path: Path, gibibytes: int, half: bool, states: Sequence[StateTensor], facts: Sequence[object], tracked: bool
) -> DiskCache:
    """Return the disk cache of a model, without starting it.

    half: whether to store KV as float16.
    facts: values other than `half` and `states` that determine the model's state (see `model_identity`).
    tracked: whether to track which blocks are in the folder, for KV events.
    """
    identity = model_identity([*facts, half, [(state.past, state.shape, state.dtype.name) for state in states]])
    mark = identity.hex()[:MARK_DIGITS]
    log.info("Prefixes are kept in %s, up to %d GiB; this model's have the mark %s.", path, gibibytes, mark)
    held = FolderBlocks(EntryFolder(path), identity) if tracked else None
    return DiskCache(path, gibibytes << 30, EntryFormat(states, identity, half), held)
