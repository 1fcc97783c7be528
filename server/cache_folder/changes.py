"""Defines the changes that the cache folder reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from server.cache_folder.state_block import BlockKey


@dataclass(frozen=True, slots=True)
class Written:
    """A block that this server has written."""

    key: BlockKey


@dataclass(frozen=True, slots=True)
class Deleted:
    """The names of blocks that this server has deleted.

    The blocks were evicted or damaged. They may belong to other models.
    """

    names: tuple[str, ...]


Changed = Callable[[Written | Deleted], None]
"""A function that receives each change, on a thread of the cache folder. It must not block."""
