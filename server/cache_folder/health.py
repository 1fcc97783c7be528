"""Pauses the use of a cache folder after errors."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from server.cache_folder.statistics import Statistics

log = logging.getLogger(__name__)

RETRY_SECONDS = 30.0
"""The pause after an error."""


class Health:
    """The state of a cache folder for one kind of access: reading or writing.

    After an error, `usable` is False for RETRY_SECONDS. Only the first of several errors in a row is logged.
    """

    def __init__(self, path: Path, access: str, statistics: Statistics) -> None:
        """Create the state of a folder that has had no errors.

        access: "read" or "written", for the log.
        """
        self._path = path
        self._access = access
        self._statistics = statistics
        self._lock = threading.Lock()
        self._failing = False
        self._retry_at = 0.0

    @property
    def usable(self) -> bool:
        """Whether the folder may be accessed now."""
        return not self._failing or time.monotonic() >= self._retry_at

    def failed(self, error: OSError) -> None:
        """Record an error."""
        self._statistics.add(errors=1)
        with self._lock:
            first, self._failing = not self._failing, True
            self._retry_at = time.monotonic() + RETRY_SECONDS
        if first:
            log.warning(
                "The cache folder %s cannot be %s (%s). The server goes on without it, and tries again now and then.",
                self._path, self._access, error.strerror or error,
            )  # fmt: skip

    def succeeded(self) -> None:
        """Record a success."""
        if self._failing:
            with self._lock:
                self._failing = False
            log.info("The cache folder %s can be %s again.", self._path, self._access)
