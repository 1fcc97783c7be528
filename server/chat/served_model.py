"""Describes the loaded model to clients."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from server.chat.service import ChatService
from server.errors import ModelNotFoundError


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that is ready to answer.

    names: the ids that requests may use. The first is the default.
    fingerprint: a text that changes with the model's files, the server's version and its settings.
    sampling: default values of the sampling parameters.
    created: load time in seconds since 1970.
    """

    service: ChatService
    names: tuple[str, ...]
    fingerprint: str
    sampling: Mapping[str, float]
    built_in: bool = False
    created: int = field(default_factory=lambda: int(time.time()))

    def name_for(self, requested: str | None) -> str:
        """Return the name of the requested model, or the default for None.

        Raises ModelNotFoundError for an unknown name.
        """
        if requested is not None and requested not in self.names:
            raise ModelNotFoundError(requested, self.names)
        return requested or self.names[0]
