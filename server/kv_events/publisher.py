"""Publishes KV events over ZeroMQ, in the frames that vLLM sends.

A message has three frames: the topic, a number (8 bytes, big-endian, counted from 0), and a batch of events.
ZeroMQ does not send earlier messages to a new subscriber, so the server publishes all blocks again for it.
A subscriber may send a number to the replay socket. It then gets the messages from this number on.
The number -1 ends the replay.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Protocol

import msgspec
import zmq

from server.errors import StartupError
from server.kv_events.blocks import Block
from server.kv_events.changes import Change, PendingChanges, Stored
from server.kv_events.messages import AllBlocksCleared, Event, EventBatch, events_of

MAX_EVENTS = 64
"""The maximum number of events in one message."""

REPLAY_MESSAGES, REPLAY_BYTES = 10_000, 32 << 20
"""The limits on the number and total size of the messages kept for replay."""

SEND_QUEUE = 10_000
"""The maximum number of messages waiting for a slow subscriber. The subscriber misses further messages."""

REPLAY_QUEUE = 2 * REPLAY_MESSAGES
"""The maximum number of replayed messages waiting for a slow subscriber.

A whole replay fits twice, since ZeroMQ counts up to half of the limit for messages that the subscriber has received.
"""

TAKE_SECONDS = 10
"""The maximum time between two calls to `take`. A cache may look for changes only when `take` is called."""

LINGER_MILLISECONDS = 500
"""The maximum time to send the remaining messages when the server stops."""

CLOSE_SECONDS = 5
"""The maximum time to wait for the publisher's thread when the server stops.

A cache may be reading from a slow disk.
"""

SUBSCRIBE = b"\x01"
"""The first byte of a subscription, before the topic."""

END_OF_REPLAY = (-1).to_bytes(8, "big", signed=True)

logger = logging.getLogger(__name__)


class Cache(Protocol):
    """A cache whose blocks are published.

    Only the publisher's thread calls the methods.

    medium: the name that events use for the cache's storage.
    changes: the changes waiting to be published.
    """

    medium: str
    changes: PendingChanges

    def take(self) -> list[Change] | None:
        """Return the changes since the last call, in order; None if changes were dropped."""

    def take_all(self) -> list[Block]:
        """Return all blocks in the cache, each after its parent.

        Discards the changes so far.
        """


class KvEventPublisher:
    """A thread that publishes which blocks the caches add and remove.

    The first event is AllBlocksCleared, so that subscribers forget the blocks of an earlier process.
    """

    def __init__(self, endpoint: str, replay_endpoint: str | None, topic: str, caches: Sequence[Cache]) -> None:
        """Open the sockets and start the thread.

        endpoint: as in vLLM, `tcp://*:5557` listens and `tcp://router:5557` connects.
        replay_endpoint: endpoint for replay requests; None to support no replay.
        topic: first frame of each message, by which subscribers filter.

        Raises StartupError if an endpoint cannot be used.
        """
        self._topic = topic.encode()  # the first frame of each message
        self._encoder = msgspec.msgpack.Encoder()
        self._caches = caches
        self._context = zmq.Context()
        self._publisher = self._context.socket(zmq.XPUB)  # a PUB socket that reports subscriptions
        self._publisher.setsockopt(zmq.XPUB_VERBOSE, 1)  # also the second one for the same topic
        self._publisher.set_hwm(SEND_QUEUE)
        self._replay = None if replay_endpoint is None else self._context.socket(zmq.ROUTER)
        self._open("--kv-events-endpoint", self._publisher, endpoint, listens=_is_local(endpoint))
        if replay_endpoint is not None and self._replay is not None:
            self._replay.set_hwm(REPLAY_QUEUE)
            self._open("--kv-events-replay-endpoint", self._replay, replay_endpoint, listens=True)
        self._sent: deque[tuple[bytes, bytes]] = deque()
        self._sent_bytes = 0  # of the payloads in _sent
        self._next = 0
        self._closing = threading.Event()
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        for cache in caches:
            cache.changes.arrived = self._wake
        self._thread = threading.Thread(target=self._run, name="kv-events", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Publish the remaining changes and close the sockets."""
        self._closing.set()
        self._wake()
        self._thread.join(CLOSE_SECONDS)

    def _open(self, option: str, opened: zmq.Socket[bytes], endpoint: str, listens: bool) -> None:
        try:
            if listens:
                opened.bind(endpoint)
            else:
                opened.connect(endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            verb = "listen on" if listens else "connect to"
            raise StartupError(f"{option}: cannot {verb} {endpoint}: {error}.") from None

    def _wake(self) -> None:
        """Wake the thread. Any thread may call this."""
        with suppress(BlockingIOError):  # the thread has not received the earlier wake-ups yet
            self._wake_sender.send(b"\0")

    def _run(self) -> None:
        try:
            self._publish_all()
            self._serve()
        except Exception:
            logger.exception("KV events are no longer published, so routers see an outdated prefix cache.")
        finally:
            self._context.destroy(linger=LINGER_MILLISECONDS)

    def _serve(self) -> None:
        """Publish changes and answer subscribers until the publisher closes."""
        poller = zmq.Poller()
        poller.register(self._publisher, zmq.POLLIN)
        poller.register(self._wake_receiver, zmq.POLLIN)
        if self._replay is not None:
            poller.register(self._replay, zmq.POLLIN)
        while True:
            closing = self._closing.is_set()
            self._publish_changes()
            if closing:
                return
            ready = dict(poller.poll(TAKE_SECONDS * 1000))
            if self._publisher in ready and self._has_new_subscriber():
                self._publish_all()
            if self._replay is not None and self._replay in ready:
                self._answer_replay(self._replay)
            if self._wake_receiver.fileno() in ready:
                self._wake_receiver.recv(4096)

    def _has_new_subscriber(self) -> bool:
        """Return whether a waiting message is a subscription to the topic.

        Receives all waiting subscriptions and cancellations.
        """
        new = False
        with suppress(zmq.Again):
            while True:
                message = self._publisher.recv(zmq.NOBLOCK)
                new |= message[:1] == SUBSCRIBE and self._topic.startswith(message[1:])
        return new

    def _publish_changes(self) -> None:
        changes = [cache.take() for cache in self._caches]
        if None in changes:
            logger.warning("Too many changes of the prefix cache are waiting: all its blocks are published again.")
            self._publish_all()
            return
        for cache, changed in zip(self._caches, changes, strict=True):
            self._publish(changed or (), cache.medium)

    def _publish_all(self) -> None:
        """Tell subscribers to start over with the blocks that the caches hold now."""
        self._send([AllBlocksCleared()])
        for cache in self._caches:
            self._publish((Stored(block) for block in cache.take_all()), cache.medium)

    def _publish(self, changes: Iterable[Change], medium: str) -> None:
        events = events_of(changes, medium)
        while batch := list(islice(events, MAX_EVENTS)):
            self._send(batch)

    def _send(self, events: Sequence[Event]) -> None:
        """Publish a message and keep it for replay."""
        payload = self._encoder.encode(EventBatch(time.time(), events, 0))
        number = self._next.to_bytes(8, "big")
        self._next += 1
        self._publisher.send_multipart([self._topic, number, payload])
        if self._replay is None:
            return
        self._sent.append((number, payload))
        self._sent_bytes += len(payload)
        while len(self._sent) > REPLAY_MESSAGES or self._sent_bytes > REPLAY_BYTES:
            self._sent_bytes -= len(self._sent.popleft()[1])

    def _answer_replay(self, replay: zmq.Socket[bytes]) -> None:
        """Send the requested messages that are still kept, then the end of the replay."""
        frames = replay.recv_multipart()
        if len(frames) != 3 or len(frames[2]) != 8:
            logger.warning("Ignored an invalid replay request: it must be a message number of 8 bytes.")
            return
        client, _, first = frames
        for number, payload in self._sent:
            if number >= first:
                replay.send_multipart([client, b"", number, payload])
        replay.send_multipart([client, b"", END_OF_REPLAY, b""])


def _is_local(endpoint: str) -> bool:
    """Return whether the server listens on `endpoint` instead of connecting to it."""
    return "*" in endpoint or "::" in endpoint or endpoint.startswith(("ipc://", "inproc://"))
