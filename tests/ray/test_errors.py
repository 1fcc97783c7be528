"""Ray's errors as clients see them. No cluster here."""

from __future__ import annotations

import pytest

pytest.importorskip("ray", reason="needs the environment of requirements/ray.txt")

from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from server.api.http.api_error import describe
from server.ray.errors import translated

ENGINE = DeploymentID("engine", "lfm-serve")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BackPressureError(256, 256), 429, "overloaded"),
        (ActorDiedError(), 503, "replica_died"),
        (ActorUnavailableError("The node is gone.", None), 503, "replica_died"),
        (ReplicaUnavailableError("engine#1"), 503, "replica_died"),
        (DeploymentUnavailableError(ENGINE), 503, "unavailable"),
        (ValueError("unexpected"), 500, "internal_error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_of_ray_has_the_servers_status_and_code(error: Exception, status: int, code: str) -> None:
    api_error = describe(translated(error), "req_1")
    assert (api_error.status, api_error.code) == (status, code)
    assert ("Retry-After" in api_error.headers) == (status in (429, 503))
