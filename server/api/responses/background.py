"""A response being generated in the background, and streams of its events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from server.api.responses.run import ResponseRun


class BackgroundRun:
    """A response being generated in the background.

    owner: name of the API key whose request created it; empty if there are no keys.
    ended: set when the response is stored, or storing it has failed.
    """

    def __init__(self, run: ResponseRun, owner: str) -> None:
        self.run = run
        self.owner = owner
        self.ended = asyncio.Event()
        self._changed = asyncio.Event()

    async def generate(self) -> None:
        """Generate and store the response, and pass its events to `follow`."""
        try:
            async for _ in self.run.events():
                self._wake()
        finally:
            self.ended.set()
            self._wake()

    async def follow(self, first: int = 0) -> AsyncGenerator[bytes]:
        """Yield the encoded events until the response ends.

        first: number of the first event to yield, from 0.
        """
        while True:
            changed = self._changed
            while first < len(self.run.recorded):
                yield self.run.recorded[first]
                first += 1
            if self.ended.is_set():
                return
            await changed.wait()

    async def cancel(self) -> None:
        """Stop generating, and wait until the response has ended."""
        self.run.cancel()
        await self.ended.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
