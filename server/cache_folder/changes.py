"""Reports which blocks the cache folder gained and lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from server.cache_folder.state_block import BlockKey


@dataclass(frozen=True, slots=True)
class Written:
    """This server has written a block."""

    key: BlockKey


@dataclass(frozen=True, slots=True)
class Deleted:
    """This server has evicted blocks, or removed damaged ones.

    The blocks may belong to other models than this server's.

    `names`: names of the blocks.
    """

    names: tuple[str, ...]


Changed = Callable[[Written | Deleted], None]
"""A function that is called with each change, on a thread of the cache folder. It must not block."""
