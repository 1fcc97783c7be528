"""The loaded model as clients know it: its names, its fingerprint and the service that answers for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from server.chat.service import ChatService
from server.errors import ModelNotFoundError


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that is ready to answer.

    names: the ids that requests may use; the first is the default.
    fingerprint: changes with the model's files, the server's version and its settings.
    sampling: the sampling parameters in force if a request sets none.
    created: when the model was loaded (Unix time, seconds).
    """

    service: ChatService
    names: tuple[str, ...]
    fingerprint: str
    sampling: Mapping[str, float]
    created: int = field(default_factory=lambda: int(time.time()))

    def name_for(self, requested: str | None) -> str:
        """Return the served name for a request's `model`. Raises ModelNotFoundError."""
        if requested is not None and requested not in self.names:
            raise ModelNotFoundError(requested, self.names)
        return requested or self.names[0]
