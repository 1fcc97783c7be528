"""POST /tokenize and /detokenize, compatible with vLLM."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from fastapi import APIRouter, Request, Response
from pydantic import Field
from typing_extensions import TypedDict

from server.api.chat_completions.fields import ChatCompletionRequest
from server.api.chat_completions.to_chat_request import to_chat_request
from server.api.exchange import OpenExchange
from server.api.http.base_model import ApiModel
from server.api.http.json_response import json_response
from server.api.http.openapi import answers, request_body
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
    """A text to tokenize in the same way as /v1/completions."""

    model: str | None = Field(None, description="ID of a served model; defaults to the first.", examples=["lfm2-demo"])
    prompt: str = Field(description="Text to tokenize. Special tokens in it are recognized.", examples=["Hello"])
    add_special_tokens: bool | None = Field(
        None, description="Start with the model's BOS token; true by default.", examples=[True]
    )
    return_token_strs: bool | None = Field(None, description="Return the tokens' texts as well.", examples=[True])


class TokenizeChat(ChatCompletionRequest):
    """A chat to tokenize in the same way as /v1/chat/completions.

    Fields that do not affect the prompt are ignored.
    """

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
    responses=answers(TokenizeResponse, 400, 401, 404, 408, 413, 429, 500, 503, 504),
    response_model=None,
    openapi_extra=request_body(TokenizeText, TokenizeChat, examples=TOKENIZE_EXAMPLES),
)
async def tokenize(request: Request, model: Model, exchange: OpenExchange) -> Response:
    """Tokenize a text or a chat, which the chat template renders first."""
    body = await exchange.read(_parse)
    model.name_for(body.model)
    return await exchange.wait_for(_tokenized(body, model, request.state.tenant))


@router.post(
    "/detokenize",
    responses=answers(DetokenizeResponse, 400, 401, 404, 408, 413, 429, 500, 503, 504),
    response_model=None,
    openapi_extra=request_body(DetokenizeRequest, examples=DETOKENIZE_EXAMPLES),
)
async def detokenize(request: Request, model: Model, exchange: OpenExchange) -> Response:
    """Return the text of `tokens`, including special tokens."""
    body = await exchange.read(DetokenizeRequest.model_validate)
    model.name_for(body.model)
    return await exchange.wait_for(_detokenized(body, model, request.state.tenant))


def _parse(value: Any) -> TokenizeText | TokenizeChat:
    given = {field for field in ("prompt", "messages") if isinstance(value, dict) and value.get(field) is not None}
    if isinstance(value, dict) and len(given) != 1:
        raise InvalidRequestError(f"Send either prompt or messages; got {'both' if given else 'neither'}.", "prompt")
    return TokenizeChat.model_validate(value) if "messages" in given else TokenizeText.model_validate(value)


async def _tokenized(body: TokenizeText | TokenizeChat, model: ServedModel, tenant: str) -> Response:
    service = model.service
    if isinstance(body, TokenizeChat):
        tokens = await service.tokenize(to_chat_request(body, service.defaults), tenant)
    else:
        with_bos = body.add_special_tokens is not False
        tokens = await service.tokenize(body.prompt, tenant, add_special_tokens=with_bos)

    def answer() -> TokenizeResponse:
        response: TokenizeResponse = {"count": len(tokens), "max_model_len": service.max_model_len, "tokens": tokens}
        if body.return_token_strs:
            response["token_strs"] = [service.token_text(token) for token in tokens]
        return response

    return await json_response(answer)


async def _detokenized(body: DetokenizeRequest, model: ServedModel, tenant: str) -> Response:
    text = await model.service.detokenize(body.tokens, tenant)
    answer: DetokenizeResponse = {"prompt": text}
    return await json_response(lambda: answer)
