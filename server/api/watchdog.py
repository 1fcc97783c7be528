"""Logs that an engine step is hanging, and that it has ended after all."""

from __future__ import annotations

import asyncio
import logging

from server.api.server_state import ServerState

CHECK_SECONDS = 5.0

logger = logging.getLogger(__name__)


async def watch(server: ServerState) -> None:
    """Log when a step hangs and when it ends after all, until cancelled."""
    hangs = False
    while True:
        await asyncio.sleep(min(CHECK_SECONDS, server.limits.step_timeout))
        seconds = server.hanging_seconds()
        if seconds is not None and not hangs:
            logger.error("A step has been running for %.0f seconds; the server is not ready until it ends.", seconds)
        elif seconds is None and hangs:
            logger.info("The hanging step has ended; the server is ready again.")
        hangs = seconds is not None
