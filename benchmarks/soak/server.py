"""A server for the soak, in its own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests import fleet
from tests.fleet import Service


@asynccontextmanager
async def running(folder: Path, *options: str) -> AsyncIterator[Service]:
    """Run a server during the block. Its log goes to `folder`, which must be new."""
    folder.mkdir()
    server = fleet.replica(folder, folder.name, *options)
    try:
        await asyncio.to_thread(server.wait_until_ready)
        yield server
    finally:
        server.stop()
