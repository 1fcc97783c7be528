"""Is the server alive, and does it take requests."""

from __future__ import annotations

from fastapi import APIRouter

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
