"""Routes of stored responses: GET, DELETE, cancel and input_items."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from server.api.http.errors import last_event
from server.api.http.json_response import encode, json_response
from server.api.http.openapi import answers, streamed
from server.api.http.sse import PING_COMMENT, Events, event_stream
from server.api.responses.background import BackgroundRun
from server.api.responses.examples import RESPONSE_STREAM
from server.api.responses.output.events import EVENTS
from server.api.responses.output.wire import DeletedResponse, ResponseBody, ResponseItemList
from server.api.responses.responses import KeptResponses, Owner, Responses
from server.api.responses.store.stored import StoredResponse, unpacked
from server.api.server_state import Server
from server.errors import InvalidRequestError, NotStoredError, shown

router = APIRouter(tags=["responses"])


@router.get(
    "/v1/responses/{response_id}",
    responses=streamed(answers(ResponseBody, 400, 401, 404, 500), *EVENTS, example=RESPONSE_STREAM, named=True),
    response_model=None,
)
async def get_response(
    request: Request,
    response_id: str,
    server: Server,
    responses: KeptResponses,
    owner: Owner,
    stream: Annotated[bool, Query(description="Send the events of a streamed response, also those to come.")] = False,
    starting_after: Annotated[
        int | None, Query(ge=0, description="Number of the last event that the client already has.")
    ] = None,
) -> Response:
    """Return a stored response, or its events if `stream` is set."""
    if not stream:
        return await _answer(response_id, responses, owner)
    first = 0 if starting_after is None else starting_after + 1
    if (running := _running(response_id, responses, owner)) is not None:
        events: Events = running.follow(first)
    else:
        events = _recorded(await _stored(response_id, responses, owner), first)
    return await event_stream(
        events,
        ping_seconds=server.limits.sse_ping,
        ping=PING_COMMENT,
        last_event=lambda error: last_event(error, request),
    )


@router.delete("/v1/responses/{response_id}", responses=answers(DeletedResponse, 401, 404, 500), response_model=None)
async def delete_response(response_id: str, responses: KeptResponses, owner: Owner) -> Response:
    """Delete a stored response. Generation stops if it is still running."""
    if (running := _running(response_id, responses, owner)) is not None:
        await running.cancel()
    if not await responses.store.delete(response_id, owner):
        raise _not_found(response_id)
    deleted: DeletedResponse = {"id": response_id, "object": "response", "deleted": True}
    return await json_response(lambda: deleted)


@router.post(
    "/v1/responses/{response_id}/cancel", responses=answers(ResponseBody, 400, 401, 404, 500), response_model=None
)
async def cancel_response(response_id: str, responses: KeptResponses, owner: Owner) -> Response:
    """Cancel a response being generated in the background, and return it.

    A response that has ended is returned unchanged.
    """
    if (running := _running(response_id, responses, owner)) is not None:
        await running.cancel()
    elif not (await _stored(response_id, responses, owner)).body["background"]:
        raise InvalidRequestError("Only responses with background: true can be cancelled.", "response_id")
    return await _answer(response_id, responses, owner)


@router.get(
    "/v1/responses/{response_id}/input_items",
    responses=answers(ResponseItemList, 400, 401, 404, 500),
    response_model=None,
)
async def list_input_items(
    response_id: str,
    responses: KeptResponses,
    owner: Owner,
    limit: Annotated[int, Query(ge=1, le=100, description="Maximum items in the page.")] = 20,
    order: Annotated[Literal["asc", "desc"], Query(description="`desc`: the newest item first.")] = "desc",
    after: Annotated[str | None, Query(description="ID of the last item of the page before.")] = None,
) -> Response:
    """List the input items of a response, without those of earlier responses."""
    items = (await _stored(response_id, responses, owner)).items
    ordered = items if order == "asc" else items[::-1]
    begin = 0
    if after is not None:
        ids = [item["id"] for item in ordered]
        if after not in ids:
            raise InvalidRequestError(f"after: the response has no input item '{shown(after)}'.", "after")
        begin = ids.index(after) + 1
    page = ordered[begin : begin + limit]
    answer: ResponseItemList = {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else "",
        "last_id": page[-1]["id"] if page else "",
        "has_more": begin + limit < len(ordered),
    }
    return await json_response(lambda: answer)


async def _answer(response_id: str, responses: Responses, owner: str) -> Response:
    running = _running(response_id, responses, owner)
    if running is not None:
        snapshot = running.run.snapshot()
        return Response(encode(snapshot), media_type="application/json")
    stored = await _stored(response_id, responses, owner)
    return Response(stored.response, media_type="application/json")


def _running(response_id: str, responses: Responses, owner: str) -> BackgroundRun | None:
    running = responses.running.get(response_id)
    return running if running is not None and running.owner == owner else None


async def _stored(response_id: str, responses: Responses, owner: str) -> StoredResponse:
    """Return a stored response.

    Raises NotStoredError if `owner` has none with this ID.
    """
    stored = await responses.get(response_id, owner)
    if stored is None:
        raise _not_found(response_id)
    return stored


async def _recorded(stored: StoredResponse, first: int) -> Events:
    """Yield the stored events of a response that has ended.

    first: number of the first event to yield, counted from 0.

    Raises InvalidRequestError if the response has no events.
    """
    if stored.events is None:
        raise InvalidRequestError(
            "The response was created with neither stream: true nor background: true, so it has no events.", "stream"
        )
    for event in unpacked(stored.events)[first:]:
        yield event


def _not_found(response_id: str) -> NotStoredError:
    return NotStoredError(f"Response with id '{shown(response_id)}' not found.", None, "response_not_found")
