"""GET /health, /ready and /version."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field
from typing_extensions import TypedDict

from server import __version__
from server.api.http.api_error import describe
from server.api.http.openapi import answers
from server.api.server_state import Server
from server.errors import ModelNotReadyError, engine_failed

router = APIRouter(tags=["health"])


class HealthStatus(TypedDict):
    """The server's state."""

    status: Literal["ok", "ready"]


class ServerVersion(TypedDict):
    """The server's version."""

    version: Annotated[str, Field(examples=["0.1.0"])]


@router.get("/health", responses=answers(HealthStatus, 503), response_model=None)
async def health(request: Request, server: Server) -> Response:
    """Check liveness. A 503 means that the engine has failed: restart the server."""
    return _refusal(request, engine_failed()) if server.has_failed else _status("ok")


@router.get("/ready", responses=answers(HealthStatus, 503), response_model=None)
async def ready(request: Request, server: Server) -> Response:
    """Check readiness. A 503 says why the check fails, such as `model_loading`."""
    try:
        server.check_ready()
    except ModelNotReadyError as error:
        return _refusal(request, error)
    return _status("ready")


def _status(status: Literal["ok", "ready"]) -> Response:
    body: HealthStatus = {"status": status}
    return JSONResponse(body)


def _refusal(request: Request, error: ModelNotReadyError) -> Response:
    api_error = describe(error, request.state.request_id)
    body = {**api_error.body, "status": error.code, "detail": str(error)}
    return JSONResponse(body, api_error.status, api_error.headers)


@router.get("/version", responses=answers(ServerVersion), response_model=None)
async def version() -> ServerVersion:
    """Return the server's version."""
    return {"version": __version__}
