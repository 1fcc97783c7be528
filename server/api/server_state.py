"""What the routes work with: the served model once it is loaded, the limits, and whether the server is stopping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from server.api.access.api_keys import Key, Keyring
from server.api.access.rate_limit import Quota
from server.chat.completion import Answers
from server.chat.service import ChatService
from server.errors import ModelNotFoundError, ModelNotReadyError, engine_failed

RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much there may be, a body in bytes, an answer in tokens, and how long things may take, in seconds."""

    max_body: int = 2 * 2**20
    max_connections: int = 4096
    max_n: int = 8
    max_output_tokens: int | None = None
    max_queue_time: float = 300
    request_timeout: float = 1800
    read_timeout: float = 60
    step_timeout: float = 120
    sse_ping: float = 15


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded model under the names that requests may use; `fingerprint` changes with its files and settings."""

    service: ChatService
    names: tuple[str, ...]
    fingerprint: str
    sampling: Mapping[str, float]
    created: int = field(default_factory=lambda: int(time.time()))

    def name_for(self, asked: str | None) -> str:
        """The served name for a request's `model`; raises ModelNotFoundError."""
        if asked is not None and asked not in self.names:
            raise ModelNotFoundError(asked, self.names)
        return asked or self.names[0]


@dataclass(slots=True)
class ServerState:
    """`model` is None while it loads, `loading` then says how far that is; `running` are the answers under way.

    A server that drains is not ready any more, but still takes requests until it stops. `reading_large` is held while a
    large body is read.
    """

    limits: Limits = field(default_factory=Limits)
    keys: Keyring = field(default_factory=lambda: Keyring(()))
    model: ServedModel | None = None
    loading: str = "starting"
    draining: bool = False
    stopping: bool = False
    running: set[Answers] = field(default_factory=set)
    reading_large: asyncio.Lock = field(default_factory=asyncio.Lock)
    _quotas: dict[str, Quota] = field(default_factory=dict)

    def ready_model(self) -> ServedModel:
        """The model, or ModelNotReadyError where it would not answer."""
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
        """Raises ModelNotReadyError, which says why, where new requests had better go elsewhere."""
        self.ready_model()
        if self.draining:
            raise _stopping()

    @property
    def has_failed(self) -> bool:
        """Whether the engine can do no more, and the process has to be started again."""
        return self.model is not None and self.model.service.engine.failed

    def hanging_seconds(self) -> float | None:
        """For how long a step of the engine has been running, if that is longer than any should take."""
        since = self.model.service.engine.stats().oldest_step_since if self.model is not None else None
        seconds = 0 if since is None else time.monotonic() - since
        return seconds if seconds > self.limits.step_timeout else None

    def is_ready(self) -> bool:
        """Whether new requests are welcome."""
        try:
            self.check_ready()
        except ModelNotReadyError:
            return False
        return True

    def quota(self, key: Key) -> Quota:
        """What a key uses now; its limits are those of `key`."""
        quota = self._quotas.setdefault(key.name, Quota(key))
        quota.key = key
        return quota

    def drain(self) -> None:
        """Say that the server is about to stop."""
        self.draining = True

    def stop(self) -> None:
        """Take no more requests, and send away those that wait for their turn."""
        self.draining = self.stopping = True
        for answer in self.running:
            if answer.started is None:
                answer.fail(_stopping())

    def abandon(self) -> None:
        """End what still runs."""
        for answer in self.running:
            answer.fail(_stopping())


def _stopping() -> ModelNotReadyError:
    return ModelNotReadyError("The server is stopping.", code="draining", retry_after=RETRY_SECONDS)


def server_state(request: Request) -> ServerState:
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
