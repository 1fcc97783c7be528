"""A Ray cluster of several nodes on this machine, with the application on it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import ray
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from benchmarks.processes import free_port
from server.ray.application import INGRESS
from tests.waiting import wait_until

START_SECONDS = 600
OBJECT_STORE = 80 << 20  # bytes; the application passes only small objects
NAME = "lfm-serve"
ENVIRONMENT = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_worker_niceness": "0",
    "RAY_AUTH_MODE": "disabled",  # on loopback, without a token file in the home folder
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # kill no worker if others fill the machine's memory
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_agent_register_timeout_ms": "600000",  # a busy machine starts processes slowly
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "600",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "120",
}
"""Environment variables of Ray's processes."""


@dataclass(frozen=True, slots=True)
class RayCluster:
    """A cluster with the application.

    The head node runs Ray's proxy and the ingress. Each worker node runs one replica.

    cores: number of cores of each replica.
    """

    cluster: Any
    workers: list[Any]
    cores: float
    url: str

    def deploy(self, **engine: Any) -> None:
        """Deploy the application as `serve deploy` does, or change it.

        Returns when requests are answered.

        engine: options of the engine's deployment. A change to `autoscaling_config` restarts no replica.
        """
        actor = {"num_cpus": self.cores, "resources": {"engine": 1}}
        ingress = {**INGRESS["ray_actor_options"], "num_cpus": 0, "resources": {"head": 0.1}}
        deployments = [
            {"name": "engine", "ray_actor_options": actor, **engine},
            {"name": "ingress", "ray_actor_options": ingress},
        ]
        application = {"name": NAME, "import_path": "server.ray.application:app", "deployments": deployments}
        _get_global_client().deploy_apps(ServeDeploySchema.model_validate({"applications": [application]}))
        wait_until(lambda: is_ready(self.url), START_SECONDS)

    def running_replicas(self) -> int:
        """Return the number of running replicas."""
        application = serve.status().applications.get(NAME)
        engine = application.deployments.get("engine") if application else None
        return engine.replica_states.get("RUNNING", 0) if engine else 0

    def kill_worker(self) -> None:
        """Kill a worker node and its replica without warning."""
        self.cluster.remove_node(self.workers.pop(), allow_graceful=False)


@contextlib.contextmanager
def ray_cluster(workers: int, cores: float = 1, **engine: Any) -> Iterator[RayCluster]:
    """Run the application on a cluster during the block.

    The block starts when requests are answered.

    workers: number of worker nodes.
    cores: number of cores of each replica.
    engine: options of the engine's deployment.
    """
    os.environ.update(ENVIRONMENT, RAY_SERVE_HAPROXY_METRICS_PORT=str(free_port()))
    head = {"num_cpus": 1, "resources": {"head": 1}, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**head, **_node_options()})
    port = free_port()
    try:
        nodes = [cluster.add_node(num_cpus=cores, resources={"engine": 1}, **_node_options()) for _ in range(workers)]
        ray.init(address=cluster.address, log_to_driver=False)
        with contextlib.suppress(TimeoutError):  # the proxy has one minute, which is too little on a busy machine
            serve.start(http_options={"host": "127.0.0.1", "port": port, "location": "HeadOnly"})
        running = RayCluster(cluster, nodes, cores, f"http://127.0.0.1:{port}")
        running.deploy(**engine)
        yield running
        serve.shutdown()
    finally:
        ray.shutdown()
        cluster.shutdown()


def fixed(replicas: int) -> dict[str, int]:
    """Return the autoscaling configuration for a fixed number of replicas."""
    return {"min_replicas": replicas, "max_replicas": replicas}


def _node_options() -> dict[str, int]:
    """Return the options of a node.

    With given ports, Ray does not wait for its agents, which start slowly.
    """
    ports = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port", "dashboard_agent_listen_port")
    return {"object_store_memory": OBJECT_STORE, **{name: free_port() for name in ports}}


def is_ready(url: str) -> bool:
    """Return whether a replica answers and is ready."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/ready", timeout=10).status_code == 200
    return False
