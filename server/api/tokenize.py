"""POST /tokenize and /detokenize, compatible with vLLM."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from fastapi import APIRouter, Request, Response
from pydantic import Field
from typing_extensions import TypedDict

from server.api.chat_completions.fields import ChatCompletionRequest
from server.api.chat_completions.to_chat_request import to_chat_request
from server.api.http.base_model import ApiModel
from server.api.http.json_response import json_response
from server.api.http.openapi import answers, request_body
from server.api.http.request_body import read_json
from server.api.server_state import Model
from server.chat.served_model import ServedModel
from server.errors import InvalidRequestError

router = APIRouter(tags=["tokens"])

TOKENIZE_EXAMPLES: dict[str, Any] = {
    "A text": {"prompt": "Hello", "return_token_strs": True},
    "A chat": {"messages": [{"role": "user", "content": "Hello!"}]},
}
DETOKENIZE_EXAMPLES: dict[str, Any] = {"Tokens of a text": {"tokens": [1, 306, 512]}}


class TokenizeText(ApiModel):
    """A text, tokenized as by /v1/completions."""

    model: str | None = Field(None, description="ID of a served model; defaults to the first.", examples=["lfm2-demo"])
    prompt: str = Field(description="Text to tokenize. Special tokens in it are recognized.", examples=["Hello"])
    add_special_tokens: bool | None = Field(
        None, description="Start with the model's BOS token; true by default.", examples=[True]
    )
    return_token_strs: bool | None = Field(None, description="Return the tokens' texts as well.", examples=[True])


class TokenizeChat(ChatCompletionRequest):
    """A chat, rendered and tokenized as by /v1/chat/completions. Fields that do not affect the prompt are ignored."""

    return_token_strs: bool | None = Field(None, description="Return the tokens' texts as well.", examples=[True])


class DetokenizeRequest(ApiModel):
    """The body of POST /detokenize."""

    model: str | None = Field(None, description="ID of a served model; defaults to the first.", examples=["lfm2-demo"])
    tokens: list[int] = Field(description="Token IDs.", examples=[[1, 306, 512]])


class TokenizeResponse(TypedDict):
    """The tokens of a prompt."""

    count: Annotated[int, Field(ge=0, description="Number of tokens.", examples=[3])]
    max_model_len: Annotated[
        int, Field(gt=0, description="Maximum tokens of prompt and answer together.", examples=[4096])
    ]
    tokens: Annotated[list[int], Field(description="Token IDs.", examples=[[1, 306, 512]])]
    token_strs: NotRequired[
        Annotated[list[str], Field(description="Texts of the tokens. Only with `return_token_strs`.")]
    ]


class DetokenizeResponse(TypedDict):
    """The text of tokens."""

    prompt: Annotated[str, Field(description="Text, including special tokens.", examples=["<|startoftext|>Hello"])]


@router.post(
    "/tokenize",
    responses=answers(TokenizeResponse, 400, 401, 404, 408, 413, 500, 503),
    response_model=None,
    openapi_extra=request_body(TokenizeText, TokenizeChat, examples=TOKENIZE_EXAMPLES),
)
async def tokenize(request: Request, model: Model) -> Response:
    """Tokenize a `prompt`, or `messages` and `tools` rendered with the model's chat template."""
    body = await read_json(request, _parse)
    model.name_for(body.model)
    return await json_response(lambda: _answer(body, model))


@router.post(
    "/detokenize",
    responses=answers(DetokenizeResponse, 400, 401, 404, 408, 413, 500, 503),
    response_model=None,
    openapi_extra=request_body(DetokenizeRequest, examples=DETOKENIZE_EXAMPLES),
)
async def detokenize(request: Request, model: Model) -> Response:
    """Return the text of `tokens`, including special tokens."""
    body = await read_json(request, DetokenizeRequest.model_validate)
    model.name_for(body.model)
    return await json_response(lambda: _text(body, model))


def _parse(value: Any) -> TokenizeText | TokenizeChat:
    given = {field for field in ("prompt", "messages") if isinstance(value, dict) and value.get(field) is not None}
    if isinstance(value, dict) and len(given) != 1:
        raise InvalidRequestError(f"Send either prompt or messages; got {'both' if given else 'neither'}.", "prompt")
    return TokenizeChat.model_validate(value) if "messages" in given else TokenizeText.model_validate(value)


def _answer(body: TokenizeText | TokenizeChat, model: ServedModel) -> TokenizeResponse:
    if isinstance(body, TokenizeChat):
        tokens = model.service.tokenize_chat(to_chat_request(body, model.service.defaults))
    else:
        tokens = model.service.tokenize(body.prompt, add_special_tokens=body.add_special_tokens is not False)
    answer: TokenizeResponse = {"count": len(tokens), "max_model_len": model.service.max_model_len, "tokens": tokens}
    if body.return_token_strs:
        answer["token_strs"] = [model.service.token_text(token) for token in tokens]
    return answer


def _text(body: DetokenizeRequest, model: ServedModel) -> DetokenizeResponse:
    return {"prompt": model.service.detokenize(body.tokens)}
