"""POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.api.exchange import OpenExchange
from server.api.generation.warnings import warn_of_dropped_tools, warn_of_unenforced
from server.api.http.json_response import json_response
from server.api.http.openapi import GENERATING, Responses, answers, request_body, streamed
from server.api.http.sse import Events
from server.api.messages.dialect import OVERLOADED, AnthropicErrorBody
from server.api.messages.events import MessageEvents, encoded
from server.api.messages.examples import MESSAGES_REQUESTS, MESSAGES_STREAM
from server.api.messages.fields import CountTokensRequest, MessagesRequest
from server.api.messages.response import MessageBody
from server.api.messages.to_chat_request import to_chat_request, to_prompt
from server.api.messages.wire import EVENTS, AnthropicMessage, TokenCount
from server.api.server_state import Model
from server.chat.completion import Completion
from server.chat.types import ChatRequest, Delta
from server.engine.types import SamplingParams

router = APIRouter(tags=["messages"])


def _answers(model: type[Any], *errors: int) -> Responses:
    responses = answers(model, *errors, OVERLOADED, error=AnthropicErrorBody)
    responses[429] |= {"description": "The key has reached its rate limit."}
    return responses


@router.post(
    "/v1/messages",
    responses=streamed(
        _answers(AnthropicMessage, *GENERATING),
        *EVENTS,
        example=MESSAGES_STREAM,
        named=True,
        error=AnthropicErrorBody,
    ),
    openapi_extra=request_body(MessagesRequest, examples=MESSAGES_REQUESTS),
)
async def create_message(model: Model, exchange: OpenExchange) -> Response:
    """Answer a chat.

    The answer is one JSON body, or with `stream` a stream of named events.

    Tools that Anthropic defines, such as web search, are left out. The header `x-lfm-dropped-tools` lists them.
    """
    body, chat = await exchange.read(lambda value: _parse(value, model.service.defaults))
    name = model.name_for(body.model)
    completion = await exchange.start(model.service.chat(chat, exchange.context(body)), name, body.messages)
    events = MessageEvents(completion, name, with_token_ids=bool(body.return_token_ids))
    if body.stream:
        response = await exchange.stream(_stream(events, completion))
    else:
        response = await exchange.respond(_whole(events, completion))
    warn_of_unenforced(response, completion.unenforced)
    warn_of_dropped_tools(response, [tool.type or "" for tool in body.tools or () if tool.built_in])
    return response


@router.post(
    "/v1/messages/count_tokens",
    responses=_answers(TokenCount, *GENERATING),
    openapi_extra=request_body(CountTokensRequest, examples=MESSAGES_REQUESTS),
)
async def count_message_tokens(request: Request, model: Model, exchange: OpenExchange) -> Response:
    """Count the tokens of a prompt without answering it."""
    body = await exchange.read(CountTokensRequest.model_validate)
    model.name_for(body.model)
    tokens = await exchange.wait_for(model.service.tokenize(to_prompt(body), request.state.tenant))
    count: TokenCount = {"input_tokens": len(tokens)}
    return await json_response(lambda: count)


def _parse(value: Any, defaults: SamplingParams) -> tuple[MessagesRequest, ChatRequest]:
    body = MessagesRequest.model_validate(value)
    return body, to_chat_request(body, defaults)


async def _whole(events: MessageEvents, completion: Completion[Delta]) -> Response:
    message = MessageBody()
    message.add(events.start())
    async with aclosing(completion.deltas()) as deltas:
        async for _, delta in deltas:
            for event in events.add(delta):
                message.add(event)
    return await json_response(message.to_json)


async def _stream(events: MessageEvents, completion: Completion[Delta]) -> Events:
    async with aclosing(completion.deltas()) as deltas:
        _, first = await anext(deltas)  # an earlier failure still sets the HTTP status
        yield encoded(events.start())
        for event in events.add(first):
            yield encoded(event)
        async for _, delta in deltas:
            for event in events.add(delta):
                yield encoded(event)
