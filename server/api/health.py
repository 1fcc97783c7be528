"""Is the server alive, does it take requests, and which version is it."""

from __future__ import annotations

from fastapi import APIRouter

from server import __version__
from server.api.openapi import answers
from server.api.response_schemas import Status, Version
from server.api.state import Server

router = APIRouter(tags=["health"])


@router.get("/health", responses=answers(Status), response_model=None)
async def health() -> dict[str, str]:
    """Alive: the process answers."""
    return {"status": "ok"}


@router.get("/ready", responses=answers(Status, 503), response_model=None)
async def ready(server: Server) -> dict[str, str]:
    """Ready: the model is loaded and the server is not stopping; else 503."""
    server.ready_model()
    return {"status": "ready"}


@router.get("/version", responses=answers(Version), response_model=None)
async def version() -> dict[str, str]:
    """This server's version."""
    return {"version": __version__}
