"""Is the server alive, does it take requests, and which version is it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from server import __version__
from server.api.http.errors import describe
from server.api.http.openapi import answers
from server.api.response_schemas import Status, Version
from server.api.server_state import Server
from server.errors import ModelNotReadyError, engine_failed

router = APIRouter(tags=["health"])


@router.get("/health", responses=answers(Status, 503), response_model=None)
async def health(request: Request, server: Server) -> Response:
    """Alive: the process answers, and its engine has not failed; else 503, and it has to be started again."""
    return _refusal(request, engine_failed()) if server.has_failed else JSONResponse({"status": "ok"})


@router.get("/ready", responses=answers(Status, 503), response_model=None)
async def ready(request: Request, server: Server) -> Response:
    """Ready: the model is loaded and does not hang, and the server is not stopping; else 503, with the reason."""
    try:
        server.check_ready()
    except ModelNotReadyError as error:
        return _refusal(request, error)
    return JSONResponse({"status": "ready"})


def _refusal(request: Request, error: ModelNotReadyError) -> Response:
    told = describe(error, request.state.request_id)
    return JSONResponse(told.body | {"status": error.code, "detail": str(error)}, told.status, told.headers)


@router.get("/version", responses=answers(Version), response_model=None)
async def version() -> dict[str, str]:
    """This server's version."""
    return {"version": __version__}
