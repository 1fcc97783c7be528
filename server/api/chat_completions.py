"""POST /v1/chat/completions: a chat answered as one body or as a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from server.api.body import read_json
from server.api.disconnects import unless_disconnected
from server.api.responses import ChoiceBody, Chunks, Envelope, body
from server.api.schemas import ChatCompletionRequest, ChatMessage
from server.api.sse import event_stream
from server.api.state import Model
from server.chat.service import Completion
from server.chat.types import ChatRequest, Message, Role, Tool, ToolCall
from server.engine.types import SamplingParams

router = APIRouter(tags=["chat"])
SCHEMA = ChatCompletionRequest.model_json_schema(ref_template="#/components/schemas/{model}")
ROLES: dict[str, Role] = {"developer": "system", "function": "tool"}


@router.post(
    "/v1/chat/completions",
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": SCHEMA}}}},
)
async def create_chat_completion(request: Request, model: Model) -> Response:
    """Answer a chat."""
    asked = ChatCompletionRequest.model_validate(await read_json(request))
    envelope = Envelope(model.name_for(asked.model), model.fingerprint)
    chat = chat_request(asked, model.service.model.defaults)
    completion = await unless_disconnected(request, model.service.start(chat))
    try:
        if not asked.stream:
            return JSONResponse(await unless_disconnected(request, _whole(envelope, completion, chat.n)))
        events = _chunks(envelope, completion, asked)
        return await unless_disconnected(request, event_stream(events, request.state.request_id))
    except BaseException:
        completion.cancel()  # also where nothing has listened to it yet
        raise


def chat_request(asked: ChatCompletionRequest, defaults: SamplingParams) -> ChatRequest:
    """The request in the chat layer's terms, with the model's sampling where it sets none."""
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty")
    given = {name: value for name in names if (value := getattr(asked, name)) is not None}
    sampling = replace(
        defaults,
        **given,
        seed=asked.seed,
        logit_bias={int(token): bias for token, bias in (asked.logit_bias or {}).items()},
        top_logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
    )
    offered = () if asked.tool_choice == "none" else asked.tools or ()
    functions = (tool.function for tool in offered)
    return ChatRequest(
        messages=tuple(map(_message, asked.messages)),
        sampling=sampling,
        tools=tuple(Tool(f.name, f.description, f.parameters or {}) for f in functions),
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        stop=tuple(asked.stop or ()),
        n=asked.n or 1,
    )


def _message(message: ChatMessage) -> Message:
    calls = (ToolCall(c.id, c.function.name, c.function.arguments) for c in message.tool_calls or ())
    return Message(
        role=ROLES.get(message.role, message.role),  # type: ignore[arg-type]
        content=message.content if message.content is not None else message.refusal or "",
        tool_calls=tuple(calls),
        tool_call_id=message.tool_call_id,
        name=message.name,
    )


async def _whole(envelope: Envelope, completion: Completion, n: int) -> dict[str, Any]:
    choices = [ChoiceBody() for _ in range(n)]
    async with aclosing(completion.deltas()) as deltas:
        async for choice, delta in deltas:
            choices[choice].add(delta)
    return body(envelope, completion, choices)


async def _chunks(
    envelope: Envelope, completion: Completion, asked: ChatCompletionRequest
) -> AsyncGenerator[dict[str, Any]]:
    options = asked.stream_options
    usage_in_each = bool(options and options.continuous_usage_stats)
    usage_at_end = bool(options and options.include_usage)
    chunks = Chunks(envelope, completion, usage_in_each, usage_at_end)
    async with aclosing(completion.deltas()) as deltas:
        first = await anext(deltas)  # a failure before it is told with a status of its own
        for choice in range(asked.n or 1):
            yield chunks.opening(choice)
        yield chunks.delta(*first)
        async for choice, delta in deltas:
            yield chunks.delta(choice, delta)
    if usage_at_end:
        yield chunks.usage()
