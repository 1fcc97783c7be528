"""Encodes KV events as vLLM does: as msgpack arrays that start with a type name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from server.kv_events.blocks import BLOCK_TOKENS, Block
from server.kv_events.changes import Change, Stored

MAX_BLOCKS = 512
"""The maximum number of blocks in one event."""


class BlockStored(msgspec.Struct, array_like=True, omit_defaults=True, tag=True, gc=False):
    """Consecutive blocks that a cache now holds.

    parent_block_hash: hash of the block before the first one; None at the start of a sequence.
    token_ids: tokens of all blocks.
    medium: storage, such as "GPU".
    """

    block_hashes: list[int]
    parent_block_hash: int | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None
    medium: str | None


class BlockRemoved(msgspec.Struct, array_like=True, omit_defaults=True, tag=True, gc=False):
    """Blocks that a cache no longer holds."""

    block_hashes: list[int]
    medium: str | None


class AllBlocksCleared(msgspec.Struct, array_like=True, omit_defaults=True, tag=True, gc=False):
    """The removal of all blocks from all caches of the server."""


Event = BlockStored | BlockRemoved | AllBlocksCleared


class EventBatch(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    """The events of one message.

    ts: time in seconds since 1970.
    data_parallel_rank: always 0, because a server has one engine.
    """

    ts: float
    events: Sequence[Event]
    data_parallel_rank: int | None = None


def block_hash(name: bytes) -> int:
    """Return a block's number in events: the last 64 bits of its name."""
    return int.from_bytes(name[-8:], "big")


def events_of(changes: Iterable[Change], medium: str) -> Iterator[Event]:
    """Yield the events for the changes of one cache, in order.

    Consecutive changes of one type share an event of up to MAX_BLOCKS blocks. A stored block begins a new event if its
    parent is not the block before it.
    """
    event: BlockStored | BlockRemoved | None = None
    last: bytes | None = None
    for change in changes:
        if isinstance(change, Stored):
            block = change.block
            if not (isinstance(event, BlockStored) and block.parent == last and _has_room(event)):
                if event is not None:
                    yield event
                event = _stored(block, medium)
            _append(event, block)
            last = block.name
        else:
            if not (isinstance(event, BlockRemoved) and _has_room(event)):
                if event is not None:
                    yield event
                event = BlockRemoved([], medium)
            event.block_hashes.append(block_hash(change.name))
    if event is not None:
        yield event


def _stored(block: Block, medium: str) -> BlockStored:
    """Return an empty event whose first block will be `block`."""
    parent = None if block.parent is None else block_hash(block.parent)
    return BlockStored([], parent, [], BLOCK_TOKENS, None, medium)


def _append(event: BlockStored, block: Block) -> None:
    event.block_hashes.append(block_hash(block.name))
    event.token_ids += block.tokens.tolist()


def _has_room(event: BlockStored | BlockRemoved) -> bool:
    return len(event.block_hashes) < MAX_BLOCKS
