"""The responses that clients can retrieve: stored ones and running ones."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from server.api.responses.background import BackgroundRun
from server.api.responses.store.memory import MemoryStore
from server.api.responses.store.sqlite import SqliteStore
from server.api.responses.store.stored import ResponseStore, StoredResponse

_LOST = "The server stopped before the response was complete, or could not store it."


@dataclass(slots=True)
class Responses:
    """The responses that clients can retrieve by ID.

    running: responses being generated in the background, by ID.
    """

    store: ResponseStore
    running: dict[str, BackgroundRun] = field(default_factory=dict)

    async def get(self, response_id: str, owner: str) -> StoredResponse | None:
        """Return a stored response, or None if `owner` has none with this ID.

        A response that was interrupted, for example because the server was killed, is returned as failed.
        """
        running = response_id in self.running  # before the wait, because the response may end during the wait
        stored = await self.store.get(response_id, owner)
        return stored.failed(_LOST) if stored is not None and stored.running and not running else stored

    async def close(self) -> None:
        """Wait for background responses to end, then close the store."""
        if tasks := [run.ended.wait() for run in self.running.values()]:
            await asyncio.gather(*tasks)
        await self.store.close()


def open_responses(file: Path | None, memory: int, ttl: float) -> Responses:
    """Open the store of responses, in memory or in a file.

    file: SQLite file, or None for memory.
    memory: maximum size of the memory store, in MiB.
    ttl: seconds for which a response is kept.

    Raises StartupError if the file cannot be used.
    """
    return Responses(MemoryStore(memory * 2**20, ttl) if file is None else SqliteStore(file, ttl))


def _responses(request: Request) -> Responses:
    responses: Responses = request.app.state.responses
    return responses


def _owner(request: Request) -> str:
    return request.state.key_name or ""


KeptResponses = Annotated[Responses, Depends(_responses)]
Owner = Annotated[str, Depends(_owner)]
"""Name of the request's API key, the owner of its responses; empty if there are no keys."""
