"""Is the server alive, does it take requests, and which version is it."""

from __future__ import annotations

from fastapi import APIRouter

from server import __version__
from server.api.state import Server

router = APIRouter(tags=["health"])


@router.get("/health")
async def health() -> dict[str, str]:
    """Alive: the process answers."""
    return {"status": "ok"}


@router.get("/ready")
async def ready(server: Server) -> dict[str, str]:
    """Ready: the model is loaded and the server is not stopping; else 503."""
    server.ready_model()
    return {"status": "ready"}


@router.get("/version")
async def version() -> dict[str, str]:
    """This server's version."""
    return {"version": __version__}
