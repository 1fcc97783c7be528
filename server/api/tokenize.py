"""POST /tokenize and /detokenize, in vLLM's shape: how many tokens a text or a chat has, which ones, and back."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from server.api.chat_completions.fields import ChatCompletionRequest
from server.api.chat_completions.to_chat_request import to_chat_request
from server.api.http.base_model import ApiModel
from server.api.http.json_response import json_response
from server.api.http.openapi import answers, request_body
from server.api.http.request_body import read_json
from server.api.response_schemas import Text, Tokens
from server.api.server_state import Model
from server.chat.served_model import ServedModel
from server.errors import InvalidRequestError

router = APIRouter(tags=["tokens"])

TO_TOKENIZE: dict[str, Any] = {
    "A text": {"prompt": "Hello", "return_token_strs": True},
    "A chat": {"messages": [{"role": "user", "content": "Hello!"}]},
}
TO_DETOKENIZE: dict[str, Any] = {"A text's tokens": {"tokens": [1, 306, 512]}}


class TokenizeText(ApiModel):
    """A text, tokenized as /v1/completions does."""

    model: str | None = Field(None, description="A served model's id; the only one if absent.", examples=["lfm2-demo"])
    prompt: str = Field(description="The text; special tokens in it are read as such.", examples=["Hello"])
    add_special_tokens: bool | None = Field(
        None, description="The model's BOS in front, if absent or true.", examples=[True]
    )
    return_token_strs: bool | None = Field(None, description="The tokens as text, too.", examples=[True])


class TokenizeChat(ChatCompletionRequest):
    """A chat, rendered and tokenized as /v1/chat/completions does; of its fields those about the prompt matter."""

    return_token_strs: bool | None = Field(None, description="The tokens as text, too.", examples=[True])


class DetokenizeRequest(ApiModel):
    """The body of POST /detokenize."""

    model: str | None = Field(None, description="A served model's id; the only one if absent.", examples=["lfm2-demo"])
    tokens: list[int] = Field(description="Their ids.", examples=[[1, 306, 512]])


@router.post(
    "/tokenize",
    responses=answers(Tokens, 400, 401, 404, 408, 413, 500, 503),
    response_model=None,
    openapi_extra=request_body(TokenizeText, TokenizeChat, examples=TO_TOKENIZE),
)
async def tokenize(request: Request, model: Model) -> Response:
    """The tokens of a `prompt`, or of what the model's template makes of `messages` and `tools`."""
    body = await read_json(request, _parse)
    model.name_for(body.model)
    return await json_response(lambda: _answer(body, model))


@router.post(
    "/detokenize",
    responses=answers(Text, 400, 401, 404, 408, 413, 500, 503),
    response_model=None,
    openapi_extra=request_body(DetokenizeRequest, examples=TO_DETOKENIZE),
)
async def detokenize(request: Request, model: Model) -> Response:
    """The text of `tokens`, special ones written out."""
    body = await read_json(request, DetokenizeRequest.model_validate)
    model.name_for(body.model)
    return await json_response(lambda: {"prompt": model.service.detokenize(body.tokens)})


def _parse(value: Any) -> TokenizeText | TokenizeChat:
    given = {field for field in ("prompt", "messages") if isinstance(value, dict) and value.get(field) is not None}
    if isinstance(value, dict) and len(given) != 1:
        raise InvalidRequestError(f"Send either a prompt or messages; got {'both' if given else 'neither'}.", "prompt")
    return TokenizeChat.model_validate(value) if "messages" in given else TokenizeText.model_validate(value)


def _answer(body: TokenizeText | TokenizeChat, model: ServedModel) -> dict[str, Any]:
    if isinstance(body, TokenizeChat):
        tokens = model.service.tokenize_chat(to_chat_request(body, model.service.defaults))
    else:
        tokens = model.service.tokenize(body.prompt, add_special_tokens=body.add_special_tokens is not False)
    answer = {"count": len(tokens), "max_model_len": model.service.max_model_len, "tokens": tokens}
    if body.return_token_strs:
        answer["token_strs"] = [model.service.token_text(token) for token in tokens]
    return answer
