"""Converts Ray's errors to the server's own, which every protocol can report."""

from __future__ import annotations

from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, WorkerCrashedError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from server.errors import ModelNotReadyError, QueueFullError
from server.ray.response_stream import BrokenResponseError

RETRY_SECONDS = 5.0

LOST_REPLICA = (
    RayActorError,
    NodeDiedError,
    ObjectLostError,
    WorkerCrashedError,
    ReplicaUnavailableError,
    BrokenResponseError,
)
"""The errors for a replica that has died or cannot be reached."""


def translated(error: Exception) -> Exception:
    """Return the server's own error for a Ray error.

    Returns the error unchanged unless it means overload, a lost replica or no replica.
    """
    if isinstance(error, BackPressureError):
        return QueueFullError(f"{error.args[1]} requests", error.retry_after_s or RETRY_SECONDS)
    if isinstance(error, LOST_REPLICA):
        message = "The replica that was answering this request has died. Please send the request again."
        return ModelNotReadyError(message, "replica_died", RETRY_SECONDS)
    if isinstance(error, DeploymentUnavailableError):
        message = "No replica could be started. Ray Serve's status and logs show the cause."
        return ModelNotReadyError(message, "unavailable", RETRY_SECONDS)
    return error
