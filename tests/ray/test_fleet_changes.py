"""What clients notice when replicas come and go and a node dies. These tests change the cluster, so they run last."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count

import pytest

pytest.importorskip("ray", reason="needs the environment of requirements/ray.txt")

from benchmarks.ray_cluster import RayCluster, fixed
from server.bench.load import prompt
from tests.ray.streams import SECONDS, outcome
from tests.waiting import wait_until

SCALING = {
    "min_replicas": 1,
    "max_replicas": 3,
    "target_ongoing_requests": 2,
    "upscale_delay_s": 0.5,
    "downscale_delay_s": 2,
    "look_back_period_s": 2,
    "metrics_interval_s": 0.5,
}


@contextmanager
def talking(cluster: RayCluster, clients: int, ends: list[str]) -> Iterator[None]:
    """Let clients send chats during the block, and collect in `ends` how their streams end."""
    over = threading.Event()

    def talk(client: int) -> None:
        for turn in count():
            if over.is_set():
                return
            ends.append(outcome(cluster, f"Client {client}, turn {turn}.", 50))

    with ThreadPoolExecutor(clients) as pool:
        talks = [pool.submit(talk, client) for client in range(clients)]
        try:
            yield
        finally:
            over.set()
    for one in talks:
        one.result()


def test_no_request_fails_while_replicas_come_and_go(cluster: RayCluster) -> None:
    ends: list[str] = []
    cluster.deploy(autoscaling_config=SCALING)
    with talking(cluster, 1, ends):
        wait_until(lambda: cluster.running_replicas() == 1, SECONDS)
    with talking(cluster, 8, ends):
        wait_until(lambda: cluster.running_replicas() == 3, SECONDS)
    with talking(cluster, 1, ends):
        wait_until(lambda: cluster.running_replicas() == 1, SECONDS)
    assert {*ends} == {"length"}


def test_a_killed_node_ends_its_streams_and_costs_no_request_without_a_byte(cluster: RayCluster) -> None:
    cluster.deploy(autoscaling_config=fixed(3))
    wait_until(lambda: cluster.running_replicas() == 3, SECONDS)
    started = threading.Semaphore(0)
    with ThreadPoolExecutor(32) as pool:
        streams = [pool.submit(outcome, cluster, prompt(600, i), 400, f"session {i}", started) for i in range(32)]
        for _ in range(16):
            assert started.acquire(timeout=SECONDS)
        cluster.kill_worker()
        ends = [stream.result() for stream in streams]
    assert {*ends} == {"length", "replica_died"}, "an error is the end of a stream, never its first event"
