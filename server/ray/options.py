"""The options of `lfm-serve serve` for replicas and the ingress."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import ray

from server.settings import ENV_PREFIX, Settings


def replica_settings(options: Mapping[str, Any]) -> Settings:
    """Return the settings of this process, which runs a replica or the ingress.

    An option that is not given comes from its `LFM_*` variable. By default, a process has one thread for each core
    that `ray_actor_options` gives it.

    options: the `user_config` of the deployment, which names fields of Settings.

    Raises pydantic's ValidationError if an option is unknown or invalid.
    """
    settings = Settings(**options)
    if settings.threads is not None:
        return settings
    cores = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
    return settings.model_copy(update={"threads": max(1, int(cores))})


def variables() -> dict[str, str]:
    """Return the `LFM_*` variables of this process, to be set in the replicas."""
    return {name: value for name, value in os.environ.items() if name.startswith(ENV_PREFIX)}
