"""GET /v1/models: the served model under each of its names.

The header `anthropic-version` selects Anthropic's form.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from pydantic import Field
from typing_extensions import TypedDict

from server.api.generation.wire import Created, ModelName
from server.api.http.openapi import answers, either
from server.api.messages.dialect import VERSION, AnthropicErrorBody, rfc3339
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
    """A list with one entry per name of the served model."""

    object: Literal["list"]
    data: list[ModelEntry]


class AnthropicModel(TypedDict):
    """A served model in Anthropic's form."""

    id: ModelName
    type: Literal["model"]
    display_name: Annotated[str, Field(description="The same as `id`.", examples=["lfm2-demo"])]
    created_at: Annotated[str, Field(description="Creation time.", examples=["2026-01-01T00:00:00Z"])]
    lifecycle: Literal["active"]
    max_input_tokens: Annotated[int, Field(gt=0, description="Maximum tokens of a prompt.", examples=[4095])]
    max_tokens: Annotated[int, Field(gt=0, description="Maximum tokens of an answer.", examples=[4095])]


class AnthropicModelList(TypedDict):
    """A list with one entry per name of the served model."""

    data: list[AnthropicModel]
    has_more: Literal[False]
    first_id: ModelName
    last_id: ModelName


@router.get(
    "/v1/models",
    responses=either(
        answers(ModelList, 401, 500, 503), answers(AnthropicModelList, 401, 500, 503, error=AnthropicErrorBody)
    ),
    response_model=None,
)
async def list_models(request: Request, model: Model) -> ModelList | AnthropicModelList:
    """List the names of the served model.

    The header `anthropic-version` selects Anthropic's form.
    """
    if VERSION not in request.headers:
        return {"object": "list", "data": [_entry(model, name) for name in model.names]}
    entries = [_anthropic(model, name) for name in model.names]
    return {"data": entries, "has_more": False, "first_id": entries[0]["id"], "last_id": entries[-1]["id"]}


@router.get(
    "/v1/models/{name:path}",
    responses=either(
        answers(ModelDetails, 401, 404, 500, 503), answers(AnthropicModel, 401, 404, 500, 503, error=AnthropicErrorBody)
    ),
    response_model=None,
)
async def get_model(
    name: Annotated[str, Path(description="ID of a served model.", examples=["lfm2-demo"])],
    request: Request,
    model: Model,
) -> ModelDetails | AnthropicModel:
    """Return one model and its sampling defaults.

    The header `anthropic-version` selects Anthropic's form, which has no sampling defaults.
    """
    name = model.name_for(name)
    if VERSION in request.headers:
        return _anthropic(model, name)
    return {**_entry(model, name), "built_in": model.built_in, "sampling_defaults": dict(model.sampling)}


def _entry(model: ServedModel, name: str) -> ModelEntry:
    return {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": "lfm-serve",
        "max_model_len": model.service.max_model_len,
    }


def _anthropic(model: ServedModel, name: str) -> AnthropicModel:
    most = model.service.max_model_len - 1
    return {
        "id": name,
        "type": "model",
        "display_name": name,
        "created_at": rfc3339(datetime.fromtimestamp(model.created, UTC)),
        "lifecycle": "active",
        "max_input_tokens": most,
        "max_tokens": most,
    }
