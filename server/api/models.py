"""GET /v1/models: the served model under each of its names."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import Field
from typing_extensions import TypedDict

from server.api.generation.wire import Created, ModelName
from server.api.http.openapi import answers
from server.api.server_state import Model
from server.chat.served_model import ServedModel

router = APIRouter(tags=["models"])


class ModelEntry(TypedDict):
    """A served model."""

    id: ModelName
    object: Literal["model"]
    created: Created
    owned_by: Annotated[str, Field(examples=["lfm-serve"])]
    max_model_len: Annotated[
        int, Field(gt=0, description="Maximum tokens of prompt and answer together.", examples=[4096])
    ]


class ModelDetails(ModelEntry):
    """A served model with its sampling defaults."""

    built_in: Annotated[
        bool, Field(description="Whether this is the built-in demo model, which knows next to nothing.")
    ]
    sampling_defaults: Annotated[
        dict[str, float],
        Field(
            description="Sampling parameters used if a request sets none.",
            examples=[{"temperature": 0.3, "min_p": 0.15}],
        ),
    ]


class ModelList(TypedDict):
    """A list with one entry for each name of the served model."""

    object: Literal["list"]
    data: list[ModelEntry]


@router.get("/v1/models", responses=answers(ModelList, 401, 500, 503), response_model=None)
async def list_models(model: Model) -> ModelList:
    """List the names of the served model."""
    return {"object": "list", "data": [_entry(model, name) for name in model.names]}


@router.get("/v1/models/{name:path}", responses=answers(ModelDetails, 401, 404, 500, 503), response_model=None)
async def get_model(
    name: Annotated[str, Path(description="ID of a served model.", examples=["lfm2-demo"])], model: Model
) -> ModelDetails:
    """Return one model with its sampling defaults."""
    entry = _entry(model, model.name_for(name))
    return {**entry, "built_in": model.built_in, "sampling_defaults": dict(model.sampling)}


def _entry(model: ServedModel, name: str) -> ModelEntry:
    return {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": "lfm-serve",
        "max_model_len": model.service.max_model_len,
    }
