"""The application that Ray Serve runs."""

from __future__ import annotations

from typing import Any

from ray import serve

from server.ray.ingress import Ingress
from server.ray.options import variables
from server.ray.replica import Replica

ONE_LOOP = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0"}
"""Variables for the ingress. Without them, each token would pass from one thread to another."""

REPLICA: dict[str, Any] = {
    "name": "engine",
    "user_config": {},
    "ray_actor_options": {"num_cpus": 1},
    "max_ongoing_requests": 80,  # the default --max-seqs and --max-waiting: the engine's own queue is the fair one
    "max_queued_requests": 256,
    "graceful_shutdown_timeout_s": 600,
    "autoscaling_config": {"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 8},
    "request_router_config": {
        "request_router_class": "server.ray.router:PrefixRouter",
        "request_routing_stats_period_s": 2,
    },
}
INGRESS: dict[str, Any] = {
    "name": "ingress",
    "user_config": {},
    "ray_actor_options": {"num_cpus": 0.5, "runtime_env": {"env_vars": ONE_LOOP}},
    "max_ongoing_requests": 2000,
    "graceful_shutdown_timeout_s": 600,
}
"""The options of the ingress deployment; REPLICA has those of the replicas.

A configuration file for `serve deploy` can override each option.
"""


def _with_variables(options: dict[str, Any]) -> dict[str, Any]:
    """Return deployment options that also set this process's `LFM_*` variables.

    Variables that `options` already sets take precedence.
    """
    actor = dict(options["ray_actor_options"])
    environment = dict(actor.get("runtime_env") or {})
    environment["env_vars"] = {**variables(), **environment.get("env_vars", {})}
    return {**options, "ray_actor_options": {**actor, "runtime_env": environment}}


_replicas = serve.deployment(Replica, **_with_variables(REPLICA))
_ingress = serve.deployment(Ingress, **_with_variables(INGRESS))

app = _ingress.bind(_replicas.bind())
"""The application, for `serve run` or the `import_path` of a configuration file."""
