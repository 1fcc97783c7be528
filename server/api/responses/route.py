"""POST /v1/responses: answers as one body, as a stream or in the background."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import APIRouter
from fastapi.responses import Response

from server.api.exchange import Exchange, OpenExchange
from server.api.generation.warnings import warn_of_dropped_tools, warn_of_unenforced
from server.api.http.json_response import json_response
from server.api.http.openapi import GENERATING, answers, request_body, streamed
from server.api.responses import stored_routes
from server.api.responses.background import BackgroundRun
from server.api.responses.conversation import history, resolved
from server.api.responses.examples import RESPONSE_REQUESTS, RESPONSE_STREAM
from server.api.responses.fields import ResponseRequest
from server.api.responses.output.events import EVENTS
from server.api.responses.output.response import new_response, new_response_id
from server.api.responses.output.wire import InputTokenCount, ResponseBody
from server.api.responses.responses import KeptResponses, Owner, Responses
from server.api.responses.run import ResponseRun
from server.api.responses.to_chat_request import to_chat_request
from server.api.server_state import Model
from server.chat.types import ChatRequest
from server.engine.types import SamplingParams
from server.errors import InvalidRequestError

logger = logging.getLogger(__name__)
router = APIRouter(tags=["responses"])
router.include_router(stored_routes.router)
T = TypeVar("T")


@router.post(
    "/v1/responses",
    responses=streamed(answers(ResponseBody, *GENERATING), *EVENTS, example=RESPONSE_STREAM, named=True),
    openapi_extra=request_body(ResponseRequest, examples=RESPONSE_REQUESTS),
)
async def create_response(model: Model, exchange: OpenExchange, responses: KeptResponses, owner: Owner) -> Response:
    """Answer an input, or continue a stored response.

    The answer is one JSON body, or with `stream` a stream of named events.

    OpenAI's built-in tools, such as web search, are left out. The header `x-lfm-dropped-tools` lists them.
    """
    body, chat = await _read(exchange, responses, owner, model.service.defaults)
    name = model.name_for(body.model)
    starting = _about_input(model.service.chat(chat, exchange.context(body)))
    completion = await exchange.start(starting, name, body.input)
    new = new_response(new_response_id(), body, name, chat.sampling)
    keep = responses.store.put if body.store is not False else None
    run = ResponseRun(body, new, completion, owner, keep, exchange.describe)
    if body.background:
        response = await _in_background(run, exchange, responses, owner, stream=bool(body.stream))
    elif body.stream:
        response = await exchange.stream(run.events())
    else:
        response = await exchange.respond(_whole(run))
    warn_of_unenforced(response, completion.unenforced)
    warn_of_dropped_tools(response, [tool.type for tool in body.tools or () if tool.built_in])
    return response


@router.post(
    "/v1/responses/input_tokens",
    responses=answers(InputTokenCount, 400, 401, 404, 408, 413, 415, 429, 500, 503, 504),
    openapi_extra=request_body(ResponseRequest, examples={"Question": RESPONSE_REQUESTS["Question"]}),
)
async def count_input_tokens(model: Model, exchange: OpenExchange, responses: KeptResponses, owner: Owner) -> Response:
    """Count the tokens of a prompt without answering it."""
    body, chat = await _read(exchange, responses, owner, model.service.defaults)
    model.name_for(body.model)
    tokens = await exchange.wait_for(_about_input(model.service.tokenize(chat, exchange.context(body).tenant)))
    count: InputTokenCount = {"object": "response.input_tokens", "input_tokens": len(tokens)}
    return await json_response(lambda: count)


@router.post("/v1/responses/compact", responses=answers(ResponseBody, 400, 401, 500))
async def compact_response() -> Response:
    """Reject the request: this server cannot compact conversations."""
    message = "This server cannot compact conversations: send truncation: auto, or a shorter input."
    raise InvalidRequestError(message, code="unsupported_operation")


async def _read(
    exchange: Exchange, responses: Responses, owner: str, defaults: SamplingParams
) -> tuple[ResponseRequest, ChatRequest]:
    """Return the request's body, and the chat request made from it.

    In the body, stored items replace item references.
    """
    body = await exchange.read(ResponseRequest.model_validate)
    body = await exchange.wait_for(resolved(body, responses, owner))
    return body, to_chat_request(body, await exchange.wait_for(history(body, responses, owner)), defaults)


async def _about_input(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`.

    Errors about the chat layer's field `messages` name the request's field `input` instead.
    """
    try:
        return await work
    except InvalidRequestError as error:
        error.param = "input" if error.param == "messages" else error.param
        raise


async def _whole(run: ResponseRun) -> Response:
    body = await run.whole()
    return await json_response(lambda: body)


async def _in_background(
    run: ResponseRun, exchange: Exchange, responses: Responses, owner: str, *, stream: bool
) -> Response:
    """Start generating in the background, and return at once.

    stream: whether to return the events instead of the body with status `queued`.
    """
    run.response["status"] = "queued"
    await run.store()
    background = responses.running[run.response["id"]] = BackgroundRun(run, owner)

    async def work() -> None:
        try:
            await background.generate()
        except Exception as error:
            logger.error("The response %s could not be stored.", run.response["id"], exc_info=error)
        finally:
            del responses.running[run.response["id"]]

    queued = run.response
    exchange.run_in_background(work())
    return await exchange.stream(background.follow()) if stream else await json_response(lambda: queued)
