"""State that all routes share: the model, the limits, the shutdown."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from server.api.access.api_keys import Key, Keyring
from server.api.access.rate_limit import RateLimit
from server.api.http.request_records import RequestLog
from server.chat.served_model import ServedModel
from server.concurrency.fair_thread_pool import FairThreadPool
from server.errors import ModelNotReadyError, engine_failed

RETRY_SECONDS = 5.0
LEAST_CLOSING_SECONDS = 2.0
"""Minimum time for closing the model, even if the drain used up its timeout."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The server's limits: body sizes in bytes, times in seconds."""

    max_body: int = 2 * 2**20
    max_connections: int = 4096
    max_queue_time: float = 300
    request_timeout: float = 1800
    read_timeout: float = 60
    step_timeout: float = 120
    sse_ping: float = 15


@dataclass(slots=True)
class ServerState:
    """The state of the server, from loading the model to stopping.

    model: the served model; None while it is loading.
    loading: progress of loading, for error messages.
    draining: whether /ready returns 503 because the server will stop soon. Until then, it admits requests.
    stopping: whether the server refuses new requests.
    stopped_at: when `stop` was called (monotonic clock, in seconds); 0 before that.
    parsing: parses large request bodies one at a time, to keep the event loop free.
    """

    limits: Limits = field(default_factory=Limits)
    keys: Keyring = field(default_factory=lambda: Keyring(()))
    model: ServedModel | None = None
    loading: str = "starting"
    draining: bool = False
    stopping: bool = False
    stopped_at: float = 0.0
    request_log: RequestLog = field(default_factory=RequestLog)
    parsing: FairThreadPool = field(default_factory=lambda: FairThreadPool(1, "parsing"))
    _rate_limits: dict[str, RateLimit] = field(default_factory=dict)

    def ready_model(self) -> ServedModel:
        """Return the served model.

        Raises ModelNotReadyError if the server cannot answer requests.
        """
        if self.stopping:
            raise _stopping()
        if self.model is None:
            raise ModelNotReadyError(f"The model is still loading: {self.loading}.", "model_loading", RETRY_SECONDS)
        if self.has_failed:
            raise engine_failed()
        if (seconds := self.hanging_seconds()) is not None:
            message = f"The engine hangs: a step has been running for {seconds:.0f} seconds."
            raise ModelNotReadyError(message, "stalled", RETRY_SECONDS)
        return self.model

    def check_ready(self) -> None:
        """Raise ModelNotReadyError if the server is draining or cannot answer requests."""
        self.ready_model()
        if self.draining:
            raise _stopping()

    @property
    def has_failed(self) -> bool:
        """Whether the engine has failed and needs a restart of the process."""
        return self.model is not None and self.model.service.engine.failed

    def hanging_seconds(self) -> float | None:
        """Return how long a hanging step has run, in seconds; None if no step hangs.

        A step hangs if it runs longer than `step_timeout`.
        """
        since = self.model.service.engine.stats().oldest_step_since if self.model is not None else None
        seconds = 0 if since is None else time.monotonic() - since
        return seconds if seconds > self.limits.step_timeout else None

    def is_ready(self) -> bool:
        """Return whether the server is ready for new requests."""
        try:
            self.check_ready()
        except ModelNotReadyError:
            return False
        return True

    def retry_after(self) -> float:
        """Return the seconds until an overloaded server is likely to admit requests."""
        return RETRY_SECONDS if self.model is None else self.model.service.engine.retry_after()

    def rate_limit(self, key: Key) -> RateLimit:
        """Return the rate limit of a key.

        Later calls for a key update its limits and keep the counts so far.
        """
        rate_limit = self._rate_limits.setdefault(key.name, RateLimit(key))
        rate_limit.key = key
        return rate_limit

    def drain(self) -> None:
        """Make /ready return 503 before the server stops."""
        self.draining = True

    def stop(self) -> None:
        """Refuse new requests, and end requests that are waiting for a slot."""
        self.draining = self.stopping = True
        self.stopped_at = time.monotonic()
        for completion in self.request_log.completions():
            if completion.started is None:
                completion.fail(_stopping())

    def drained_at(self, timeout: float) -> float:
        """Return the deadline for closing the model (monotonic clock, in seconds).

        timeout: maximum duration of the drain.
        """
        return max(self.stopped_at + timeout, time.monotonic() + LEAST_CLOSING_SECONDS)

    def abandon(self) -> None:
        """End all remaining requests."""
        for completion in self.request_log.completions():
            completion.fail(_stopping())


def _stopping() -> ModelNotReadyError:
    return ModelNotReadyError("The server is stopping.", code="draining", retry_after=RETRY_SECONDS)


def server_state(request: Request) -> ServerState:
    """Return the state of the server that answers `request`."""
    state: ServerState = request.app.state.server
    return state


def _ready_model(request: Request) -> ServedModel:
    server = server_state(request)
    if getattr(request.state, "crowded", False):
        limit = server.limits.max_connections
        message = f"The server is overloaded: it serves at most {limit:,} connections (--max-connections)."
        raise ModelNotReadyError(message, "overloaded", RETRY_SECONDS)
    return server.ready_model()


Server = Annotated[ServerState, Depends(server_state)]
Model = Annotated[ServedModel, Depends(_ready_model)]
