"""The publisher on its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zmq

from server.kv_events.blocks import Block
from server.kv_events.changes import Removed, Stored
from server.kv_events.held_blocks import HeldBlocks
from server.kv_events.publisher import END_OF_REPLAY, MAX_EVENTS, KvEventPublisher
from tests.kv_events.routers import IDENTITY
from tests.waiting import wait_until

MESSAGES = 3000
"""More than ZeroMQ queues for a slow reader by default, on both sides together."""


def replayed(socket: zmq.Socket[bytes], first: int = 0) -> list[bytes]:
    """Request a replay, and return the numbers of its messages."""
    socket.send_multipart([b"", first.to_bytes(8, "big")])
    numbers = []
    while (number := socket.recv_multipart()[1]) != END_OF_REPLAY:
        numbers.append(number)
    return numbers


def test_a_subscriber_that_reads_slowly_gets_a_whole_replay(tmp_path: Path) -> None:
    held = HeldBlocks(IDENTITY, max_changes=1 << 30)
    live, past = f"ipc://{tmp_path}/live", f"ipc://{tmp_path}/past"
    publisher = KvEventPublisher(live, past, "kv", [held])
    block = Block(bytes(16), None, np.zeros(64, np.int64))
    with zmq.Context() as context, context.socket(zmq.DEALER) as slow, context.socket(zmq.DEALER) as other:
        for opened in (slow, other):
            opened.setsockopt(zmq.RCVTIMEO, 60_000)
            opened.setsockopt(zmq.LINGER, 0)
            opened.connect(past)
        replayed(other)  # the publisher has begun
        held.changes.add([Stored(block), Removed(block.name)] * (MAX_EVENTS * MESSAGES // 2))
        wait_until(lambda: len(replayed(other, MESSAGES)) == 1)  # number 0 came before the changes
        slow.send_multipart([b"", bytes(8)])
        numbers = [slow.recv_multipart()[1]]
        assert replayed(other, MESSAGES + 1) == []  # answered after the replay that `slow` has not read
        while numbers[-1] != END_OF_REPLAY:
            numbers.append(slow.recv_multipart()[1])
    assert numbers[:-1] == [number.to_bytes(8, "big") for number in range(MESSAGES + 1)]
    publisher.close()
