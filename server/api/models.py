"""GET /v1/models: what is served, under which names."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from server.api.http.openapi import answers
from server.api.response_schemas import ModelDetails, ModelList
from server.api.server_state import Model
from server.chat.served_model import ServedModel

router = APIRouter(tags=["models"])


@router.get("/v1/models", responses=answers(ModelList, 401, 500, 503), response_model=None)
async def list_models(model: Model) -> dict[str, Any]:
    """Every name the model is served under."""
    return {"object": "list", "data": [_entry(model, name) for name in model.names]}


@router.get("/v1/models/{name:path}", responses=answers(ModelDetails, 401, 404, 500, 503), response_model=None)
async def get_model(
    name: Annotated[str, Path(description="A served model's id.", examples=["lfm2-demo"])], model: Model
) -> dict[str, Any]:
    """One of them, with the sampling that is in force where a request says nothing."""
    return _entry(model, model.name_for(name)) | {"sampling_defaults": dict(model.sampling)}


def _entry(model: ServedModel, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": "lfm-serve",
        "max_model_len": model.service.max_model_len,
    }
