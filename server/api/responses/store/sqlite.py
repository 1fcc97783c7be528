"""Keeps responses in an SQLite file, so that they survive restarts."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from server.api.responses.store.stored import StoredResponse
from server.errors import StartupError

T = TypeVar("T")

logger = logging.getLogger(__name__)

_TABLE = """
CREATE TABLE IF NOT EXISTS responses (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, created REAL NOT NULL, running INTEGER NOT NULL,
    response BLOB NOT NULL, input_items BLOB NOT NULL, events BLOB
)
"""
COLUMNS = [field.name for field in fields(StoredResponse)]


class SqliteStore:
    """A store in one SQLite file, locked against other processes.

    A separate thread accesses the file, so that the event loop never waits for the disk.
    """

    def __init__(self, path: Path, ttl: float) -> None:
        """Open the file at `path`, creating it if it does not exist.

        ttl: seconds after which a response expires.

        Raises StartupError if the file cannot be used.
        """
        self._ttl = ttl
        self._thread = ThreadPoolExecutor(1, "responses")
        try:
            self._database = self._thread.submit(self._open, path).result()
        except sqlite3.Error as error:
            self._thread.shutdown()
            raise StartupError(f"--responses-file: {path} cannot be used: {error}.") from None

    async def put(self, stored: StoredResponse) -> None:
        """Write a response to the file, replacing one with the same ID.

        Logs an error if the file cannot be written.
        """
        row = [getattr(stored, column) for column in COLUMNS]
        placeholders = ", ".join("?" * len(row))

        def put() -> None:
            with self._database:
                self._database.execute("DELETE FROM responses WHERE created < ?", (time.time() - self._ttl,))
                self._database.execute(f"INSERT OR REPLACE INTO responses VALUES ({placeholders})", row)

        try:
            await self._run(put)
        except sqlite3.Error as error:
            logger.error("The response %s could not be stored: %s.", stored.id, error)

    async def get(self, response_id: str, owner: str) -> StoredResponse | None:
        """Return a response, or None if `owner` has none with this ID."""
        query = "SELECT * FROM responses WHERE id = ? AND owner = ? AND created >= ?"
        arguments = (response_id, owner, time.time() - self._ttl)
        row = await self._run(lambda: self._database.execute(query, arguments).fetchone())
        return None if row is None else StoredResponse(*row)

    async def delete(self, response_id: str, owner: str) -> bool:
        """Delete a response, and return whether `owner` had one with this ID."""

        def delete() -> int:
            with self._database:
                query = "DELETE FROM responses WHERE id = ? AND owner = ? AND created >= ?"
                return self._database.execute(query, (response_id, owner, time.time() - self._ttl)).rowcount

        return await self._run(delete) > 0

    async def close(self) -> None:
        """Close the file."""
        await self._run(self._database.close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _open(self, path: Path) -> sqlite3.Connection:
        database = sqlite3.connect(path)
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")  # survives a crash of the process, but not a power failure
        with database:
            database.execute(_TABLE)
            database.execute("CREATE INDEX IF NOT EXISTS responses_created ON responses (created)")
        return database
