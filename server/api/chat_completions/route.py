"""POST /v1/chat/completions: answers a chat as one body or as a stream."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from server.api.chat_completions.examples import CHAT_REQUESTS, CHAT_STREAM
from server.api.chat_completions.fields import ChatCompletionRequest
from server.api.chat_completions.response import ChoiceBody, Chunks, chat_body
from server.api.chat_completions.to_chat_request import to_chat_request
from server.api.chat_completions.wire import ChatCompletion, ChatCompletionChunk
from server.api.exchange import OpenExchange
from server.api.generation.envelope import Envelope
from server.api.generation.warnings import warn_of_unenforced
from server.api.http.json_response import json_response
from server.api.http.openapi import GENERATING, answers, request_body, streamed
from server.api.http.sse import DONE, Events, data_event
from server.api.server_state import Model
from server.chat.completion import Completion
from server.chat.types import ChatRequest, Delta
from server.engine.types import SamplingParams

router = APIRouter(tags=["chat"])


@router.post(
    "/v1/chat/completions",
    responses=streamed(answers(ChatCompletion, *GENERATING), ChatCompletionChunk, example=CHAT_STREAM),
    openapi_extra=request_body(ChatCompletionRequest, examples=CHAT_REQUESTS),
)
async def create_chat_completion(model: Model, exchange: OpenExchange) -> Response:
    """Answer a chat.

    The answer is one JSON body, or with `stream` a stream of events.

    Tool calls and structured output match their schemas. One exception: with `tool_choice: auto`, a tool schema may
    have parts that the server cannot enforce. The header `x-lfm-unenforced` lists them.
    """
    body, chat = await exchange.read(lambda value: _parse(value, model.service.defaults))
    envelope = Envelope(model.name_for(body.model), model.fingerprint)
    starting = model.service.chat(chat, exchange.context(body))
    completion = await exchange.start(starting, envelope.model, body.messages)
    if body.stream:
        response = await exchange.stream(_events(envelope, completion, body))
    else:
        response = await exchange.respond(_whole(envelope, completion, body))
    warn_of_unenforced(response, completion.unenforced)
    return response


def _parse(value: Any, defaults: SamplingParams) -> tuple[ChatCompletionRequest, ChatRequest]:
    body = ChatCompletionRequest.model_validate(value)
    return body, to_chat_request(body, defaults)


async def _whole(envelope: Envelope, completion: Completion[Delta], body: ChatCompletionRequest) -> Response:
    choices = [ChoiceBody.of(body) for _ in range(completion.n)]
    async with aclosing(completion.deltas()) as deltas:
        async for choice, delta in deltas:
            choices[choice].add(delta)
    return await json_response(lambda: chat_body(envelope, completion, choices, token_ids=bool(body.return_token_ids)))


async def _events(envelope: Envelope, completion: Completion[Delta], body: ChatCompletionRequest) -> Events:
    chunks = Chunks(envelope, completion, body)
    async with aclosing(completion.deltas()) as deltas:
        first = await anext(deltas)  # a failure before the opening chunks still sets the HTTP status
        for choice in range(completion.n):
            yield data_event(chunks.opening(choice))
        if (chunk := chunks.delta(*first)) is not None:
            yield data_event(chunk)
        async for choice, delta in deltas:
            if (chunk := chunks.delta(choice, delta)) is not None:
                yield data_event(chunk)
    if chunks.usage_at_end:
        yield data_event(chunks.usage())
    yield DONE
