"""Finds or downloads the model that the settings choose, and names it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from server.runtime.model_folder import ModelFolder, open_model_folder
from server.settings import ModelSettings, Settings

BUILT_IN = Path(__file__).parents[1] / "demo"
BUILT_IN_NAME = "lfm2-demo"


def model_names(settings: Settings) -> tuple[str, ...]:
    """Return the names of the served model, its main name first."""
    return settings.served_model_name or (_name(settings),)


def find_model(settings: ModelSettings, say: Callable[[str], None]) -> ModelFolder:
    """Return the folder of the chosen model, downloading it if needed.

    Raises StartupError if there is no such model or its folder is invalid.
    """
    if settings.model is None:
        return open_model_folder(BUILT_IN, settings.dtype)
    path = Path(os.path.expanduser(settings.model))  # unlike Path.expanduser, it works for a user without a home
    if not path.exists():
        from server.hub.repository import locate  # importing it takes 0.1 s, and model folders do not need it

        path = locate(settings.model, settings.revision, settings.dtype, say)
    return open_model_folder(path, settings.dtype)


def _name(settings: Settings) -> str:
    """Return the default name: BUILT_IN_NAME, or the folder's or repository's name."""
    if settings.model is None:
        return BUILT_IN_NAME
    return Path(settings.model).resolve().name if Path(settings.model).exists() else settings.model
