"""POST /v1/completions: continues a text."""

from __future__ import annotations

from contextlib import aclosing

from fastapi import APIRouter
from fastapi.responses import Response

from server.api.completions.examples import COMPLETION_REQUESTS, COMPLETION_STREAM
from server.api.completions.fields import CompletionRequest
from server.api.completions.response import TextBody, TextChunks, text_body
from server.api.completions.to_text_request import to_text_request
from server.api.completions.wire import TextCompletion
from server.api.exchange import OpenExchange
from server.api.generation.envelope import Envelope, new_id
from server.api.http.json_response import json_response
from server.api.http.openapi import GENERATING, answers, request_body, streamed
from server.api.http.sse import DONE, Events, data_event
from server.api.server_state import Model
from server.chat.completion import Completion
from server.chat.output.text_choice import TextChoiceDelta

router = APIRouter(tags=["completions"])


@router.post(
    "/v1/completions",
    responses=streamed(answers(TextCompletion, *GENERATING), TextCompletion, example=COMPLETION_STREAM),
    openapi_extra=request_body(CompletionRequest, examples=COMPLETION_REQUESTS),
)
async def create_completion(model: Model, exchange: OpenExchange) -> Response:
    """Continue a text. The model's chat template is not applied."""
    body = await exchange.read(CompletionRequest.model_validate)
    envelope = Envelope(model.name_for(body.model), model.fingerprint, new_id("cmpl"))
    starting = model.service.complete(to_text_request(body, model.service.defaults), exchange.context(body))
    completion = await exchange.start(starting, envelope.model, body.prompt)
    if body.stream:
        return await exchange.stream(_events(envelope, completion, body))
    return await exchange.respond(_whole(envelope, completion, body))


async def _whole(envelope: Envelope, completion: Completion[TextChoiceDelta], body: CompletionRequest) -> Response:
    choices = [TextBody() for _ in range(completion.n * len(completion.prompts))]
    async with aclosing(completion.deltas()) as deltas:
        async for choice, delta in deltas:
            choices[choice].add(delta)
    return await json_response(lambda: text_body(envelope, completion, choices, token_ids=bool(body.return_token_ids)))


async def _events(envelope: Envelope, completion: Completion[TextChoiceDelta], body: CompletionRequest) -> Events:
    chunks = TextChunks(envelope, completion, body)
    async with aclosing(completion.deltas()) as deltas:
        async for choice, delta in deltas:
            yield data_event(chunks.delta(choice, delta))
    if chunks.usage_at_end:
        yield data_event(chunks.usage())
    yield DONE
