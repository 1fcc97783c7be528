"""KV events of a server, as a subscriber over ZeroMQ reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from server.settings import Settings
from tests.kv_events.routers import Router
from tests.serving import Server, StartServer, serving


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context = zmq.Context[zmq.Socket[bytes]]()
    yield context
    context.destroy(linger=0)


def test_a_prompts_blocks_are_published_and_replayed(
    tiny_model: Path, start_server: StartServer, tmp_path: Path, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    live, past = f"ipc://{tmp_path}/live", f"ipc://{tmp_path}/past"
    options = {"kv_events_endpoint": live, "kv_events_replay_endpoint": past, "kv_events_topic": "kv@pod@tiny"}
    server: Server = start_server(model=str(tiny_model), threads=1, **options)
    subscriber, replay = context.socket(zmq.SUB), context.socket(zmq.DEALER)
    for opened in (subscriber, replay):
        opened.setsockopt(zmq.RCVTIMEO, 60_000)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"kv@")
    subscriber.connect(live)
    replay.connect(past)

    server.chat(messages=[{"role": "user", "content": "hello you " * 100}], max_tokens=4)
    stored = {}
    replay.send_multipart([b"", (0).to_bytes(8, "big")])
    while True:
        _, number, payload = replay.recv_multipart()
        if not payload:
            break
        stored[number] = payload
    assert number == b"\xff" * 8
    assert sorted(stored) == [n.to_bytes(8, "big") for n in range(len(stored))]
    batches = [msgspec.msgpack.decode(payload) for payload in stored.values()]
    events = [event for _, events, _ in batches for event in events]
    assert events[0] == ["AllBlocksCleared"]
    tag, hashes, parent, tokens, size, lora, medium = next(event for event in events if event != events[0])
    assert (tag, parent, size, lora, medium) == ("BlockStored", None, 64, None, "GPU")
    assert len(tokens) == 64 * len(hashes) > 0

    server.chat(messages=[{"role": "user", "content": "you hello " * 100}], max_tokens=4)
    tags: set[str] = set()
    while "BlockStored" not in tags:
        topic, number, payload = subscriber.recv_multipart()
        assert topic == b"kv@pod@tiny"
        tags.update(event[0] for event in msgspec.msgpack.decode(payload)[1])


def test_a_new_subscriber_gets_all_blocks_in_memory_and_on_disk(
    tiny_model: Path, tmp_path: Path, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    endpoint = f"ipc://{tmp_path}/live"
    settings = Settings(model=str(tiny_model), threads=1, kv_events_endpoint=endpoint, cache_folder=tmp_path / "cache")

    def follow(complete: Callable[[Router], bool]) -> Router:
        """Subscribe, and read events from the first AllBlocksCleared on until the router knows enough."""
        router, subscriber, begun = Router(), context.socket(zmq.SUB), False
        subscriber.setsockopt(zmq.RCVTIMEO, 60_000)
        subscriber.setsockopt(zmq.SUBSCRIBE, b"kv@")
        subscriber.connect(endpoint)
        while not complete(router):
            payload = subscriber.recv_multipart()[2]
            if begun := begun or b"AllBlocksCleared" in payload:
                router.read(payload)
        subscriber.close(linger=0)
        return router

    with serving(settings) as server:
        server.chat(messages=[{"role": "user", "content": "hello you " * 100}], max_tokens=4)
        first = follow(lambda router: router.blocks["STORAGE"] == router.blocks["GPU"] != set())
    with serving(settings):
        second = follow(lambda router: router.blocks["STORAGE"] == first.blocks["STORAGE"])
        assert second.blocks["GPU"] == set()
