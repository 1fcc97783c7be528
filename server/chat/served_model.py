"""Describes the loaded model as clients see it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from server.chat.service import ChatService
from server.errors import ModelNotFoundError


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that is ready to answer.

    service: starts the model's completions.
    names: the ids that requests may use; the first is the default.
    fingerprint: a string that changes with the model's files, the server's version and the server's settings.
    sampling: the sampling parameters that apply if a request sets none.
    built_in: whether this is the built-in model.
    created: when the model was loaded (Unix time, seconds).
    """

    service: ChatService
    names: tuple[str, ...]
    fingerprint: str
    sampling: Mapping[str, float]
    built_in: bool = False
    created: int = field(default_factory=lambda: int(time.time()))

    def name_for(self, requested: str | None) -> str:
        """Return the name of the requested model.

        None requests the default model. Raises ModelNotFoundError if `requested` is not one of `names`.
        """
        if requested is not None and requested not in self.names:
            raise ModelNotFoundError(requested, self.names)
        return requested or self.names[0]
