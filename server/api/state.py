"""What the routes work with: the served model once it is loaded, and whether the server is stopping."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from server.chat.service import ChatService
from server.errors import ModelNotFoundError, ModelNotReadyError


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
    """`model` is None while it loads."""

    api_key: str | None = None
    model: ServedModel | None = None
    stopping: bool = False

    def ready_model(self) -> ServedModel:
        """The model, or ModelNotReadyError."""
        if self.stopping:
            raise ModelNotReadyError("The server is stopping.", code="draining", retry_after=5)
        if self.model is None:
            raise ModelNotReadyError("The model is still loading.", code="model_loading", retry_after=5)
        return self.model

    def is_ready(self) -> bool:
        """Whether requests are taken."""
        try:
            self.ready_model()
        except ModelNotReadyError:
            return False
        return True


def server_state(request: Request) -> ServerState:
    state: ServerState = request.app.state.server
    return state


def _ready_model(request: Request) -> ServedModel:
    return server_state(request).ready_model()


Server = Annotated[ServerState, Depends(server_state)]
Model = Annotated[ServedModel, Depends(_ready_model)]
