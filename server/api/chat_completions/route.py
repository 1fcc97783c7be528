"""POST /v1/chat/completions: a chat answered as one body or as a stream."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.api.access.admission import Admitted
from server.api.chat_completions.examples import CHATS, CHUNKS
from server.api.chat_completions.fields import ChatCompletionRequest
from server.api.chat_completions.response import ChoiceBody, Chunks, body
from server.api.chat_completions.to_chat_request import chat_request
from server.api.chat_completions.tool_call_response import CallForms
from server.api.generation.envelope import Envelope
from server.api.http.disconnect import unless_disconnected
from server.api.http.json_response import json_response
from server.api.http.openapi import GENERATING, answers, request_body, streamed
from server.api.http.request_body import read_json
from server.api.http.request_log import exchange_of
from server.api.http.sse import event_stream
from server.api.response_schemas import ChatCompletion, ChatCompletionChunk
from server.api.server_state import Model
from server.chat.service import Completion
from server.chat.types import ChatRequest
from server.engine.types import SamplingParams

router = APIRouter(tags=["chat"])
UNENFORCED = "x-lfm-unenforced"
"""The header that says what of the tools' schemas a free answer was not held to."""

MAX_HEADER = 1000  # characters

logger = logging.getLogger(__name__)


@router.post(
    "/v1/chat/completions",
    responses=streamed(answers(ChatCompletion, *GENERATING), ChatCompletionChunk, CHUNKS),
    openapi_extra=request_body(ChatCompletionRequest, examples=CHATS),
)
async def create_chat_completion(request: Request, model: Model, ticket: Admitted) -> Response:
    """Answer a chat.

    The model's answer comes as one body, or with `stream` as events while it is written. Calls and structured output
    are held to their schemas; under `tool_choice` auto, what of a schema cannot be enforced is told in the header
    `x-lfm-unenforced`.
    """
    asked, chat = await read_json(request, lambda value: _read(value, model.service.model.defaults))
    envelope = Envelope(model.name_for(asked.model), model.fingerprint)
    chat = ticket.admit(chat)
    completion = await unless_disconnected(request, model.service.start(chat))
    exchange_of(request).begin(envelope.model, asked.messages, completion)
    ticket.watch(completion)
    try:
        answer = await unless_disconnected(request, _answer(request, envelope, completion, asked))
    except BaseException:
        completion.cancel()  # also where nothing has listened to it yet
        raise
    ticket.charge()  # a plain answer's headers tell what it has left
    if completion.loosened:
        logger.warning("Request %s: not enforced: %s", request.state.request_id, "; ".join(completion.loosened))
        told = "; ".join(completion.loosened)[:MAX_HEADER]
        answer.headers[UNENFORCED] = told.encode("ascii", "backslashreplace").decode()
    return answer


def _read(value: Any, defaults: SamplingParams) -> tuple[ChatCompletionRequest, ChatRequest]:
    asked = ChatCompletionRequest.model_validate(value)
    return asked, chat_request(asked, defaults)


async def _answer(
    request: Request, envelope: Envelope, completion: Completion, asked: ChatCompletionRequest
) -> Response:
    if asked.stream:
        return await event_stream(_chunks(envelope, completion, asked), request)
    return await _whole(envelope, completion, asked)


async def _whole(envelope: Envelope, completion: Completion, asked: ChatCompletionRequest) -> Response:
    choices = [ChoiceBody(CallForms.of(asked)) for _ in range(asked.n or 1)]
    async with aclosing(completion.deltas()) as deltas:
        async for choice, delta in deltas:
            choices[choice].add(delta)
    return await json_response(lambda: body(envelope, completion, choices, token_ids=bool(asked.return_token_ids)))


async def _chunks(
    envelope: Envelope, completion: Completion, asked: ChatCompletionRequest
) -> AsyncGenerator[dict[str, Any]]:
    chunks = Chunks(envelope, completion, asked)
    async with aclosing(completion.deltas()) as deltas:
        first = await anext(deltas)  # a failure before it is told with a status of its own
        for choice in range(asked.n or 1):
            yield chunks.opening(choice)
        if (chunk := chunks.delta(*first)) is not None:
            yield chunk
        async for choice, delta in deltas:
            if (chunk := chunks.delta(choice, delta)) is not None:
                yield chunk
    if chunks.usage_at_end:
        yield chunks.usage()
