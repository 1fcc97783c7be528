"""POST /v1/completions: texts continued, as one body or as a stream; and how likely they are."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from server.api.access.admission import Admitted
from server.api.completions.examples import TEXT_CHUNKS, TEXTS
from server.api.completions.fields import DEFAULT_MAX_TOKENS, CompletionRequest
from server.api.completions.response import TextBody, TextChunks, text_body
from server.api.generation.envelope import Envelope, new_id
from server.api.generation.sampling import sampling_params
from server.api.http.disconnect import unless_disconnected
from server.api.http.json_response import json_response
from server.api.http.openapi import GENERATING, answers, request_body, streamed
from server.api.http.request_body import read_json
from server.api.http.request_log import exchange_of
from server.api.http.sse import event_stream
from server.api.response_schemas import TextCompletion as TextCompletionBody
from server.api.server_state import Model
from server.chat.text_service import TextCompletion, TextRequest, TextService
from server.engine.types import SamplingParams

router = APIRouter(tags=["completions"])


@router.post(
    "/v1/completions",
    responses=streamed(answers(TextCompletionBody, *GENERATING), TextCompletionBody, TEXT_CHUNKS),
    openapi_extra=request_body(CompletionRequest, examples=TEXTS),
)
async def create_completion(request: Request, model: Model, ticket: Admitted) -> Response:
    """Continue a text, without the model's chat template."""
    asked = await read_json(request, CompletionRequest.model_validate)
    envelope = Envelope(model.name_for(asked.model), model.fingerprint, new_id("cmpl"))
    served = model.service.model
    service = TextService(model.service.engine, served.tokenizer, served.stop_token_ids)
    text = ticket.admit(_text_request(asked, served.defaults))
    completion = await unless_disconnected(request, service.start(text))
    exchange_of(request).begin(envelope.model, asked.prompt, completion)
    ticket.watch(completion)
    try:
        answer = await unless_disconnected(request, _answer(request, envelope, completion, asked))
    except BaseException:
        completion.cancel()  # also where nothing has listened to it yet
        raise
    ticket.charge()  # a plain answer's headers tell what it has left
    return answer


def _text_request(asked: CompletionRequest, defaults: SamplingParams) -> TextRequest:
    return TextRequest(
        prompts=asked.prompt,
        sampling=sampling_params(asked, defaults, asked.logprobs),
        max_tokens=DEFAULT_MAX_TOKENS if asked.max_tokens is None else asked.max_tokens,
        min_tokens=asked.min_tokens or 0,
        stop=tuple(asked.stop or ()),
        stop_token_ids=frozenset(asked.stop_token_ids or ()),
        ignore_eos=bool(asked.ignore_eos),
        n=asked.n or 1,
        echo=bool(asked.echo),
        add_special_tokens=asked.add_special_tokens is not False,
        show_special_tokens=asked.skip_special_tokens is False,
        priority=asked.priority or 0,
        cache_salt=asked.cache_salt or "",
    )


async def _answer(
    request: Request, envelope: Envelope, completion: TextCompletion, asked: CompletionRequest
) -> Response:
    if asked.stream:
        return await event_stream(_chunks(envelope, completion, asked), request)
    choices = [TextBody() for _ in range(len(asked.prompt) * (asked.n or 1))]
    async with aclosing(completion.deltas()) as deltas:
        async for choice, delta in deltas:
            choices[choice].add(delta)
    return await json_response(lambda: text_body(envelope, completion, choices, asked))


async def _chunks(
    envelope: Envelope, completion: TextCompletion, asked: CompletionRequest
) -> AsyncGenerator[dict[str, Any]]:
    chunks = TextChunks(envelope, completion, asked)
    async with aclosing(completion.deltas()) as deltas:
        async for choice, delta in deltas:
            yield chunks.delta(choice, delta)
    if chunks.usage_at_end:
        yield chunks.usage()
