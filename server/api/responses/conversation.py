"""Finds the stored responses and items to which a request refers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from server.api.responses.fields import ResponseRequest
from server.api.responses.items import InputItem
from server.api.responses.responses import Responses
from server.api.responses.store.stored import StoredResponse
from server.errors import InvalidRequestError, NotStoredError, shown


async def history(body: ResponseRequest, responses: Responses, owner: str) -> list[InputItem]:
    """Return the items of the responses that `body` continues, oldest first.

    Raises NotStoredError if one of these responses is not stored.
    Raises InvalidRequestError if one of them is still running.
    """
    chain: list[StoredResponse] = []
    previous = body.previous_response_id
    while previous is not None:
        stored = await responses.get(previous, owner)
        if stored is None:
            raise NotStoredError(
                f"Previous response with id '{shown(previous)}' not found.",
                "previous_response_id",
                "previous_response_not_found",
            )
        if stored.running:
            message = f"The response '{shown(previous)}' is still being generated: wait until it ends."
            raise InvalidRequestError(message, "previous_response_id")
        chain.append(stored)
        previous = stored.body["previous_response_id"]
    return await asyncio.to_thread(_items, chain[::-1]) if chain else []


async def resolved(body: ResponseRequest, responses: Responses, owner: str) -> ResponseRequest:
    """Return `body` with the stored item in place of each `item_reference`.

    Raises NotStoredError if an item is not stored.
    """
    if body.input is None or all(item.type != "item_reference" for item in body.input):
        return body
    items = [
        await _referenced(item.id or "", f"input[{i}].id", responses, owner) if item.type == "item_reference" else item
        for i, item in enumerate(body.input)
    ]
    return body.model_copy(update={"input": items})


async def _referenced(item_id: str, path: str, responses: Responses, owner: str) -> InputItem:
    """Return the stored item `item_id`.

    The ID names the response: item `msg_5f2c_0` belongs to `resp_5f2c`.

    path: path of the ID in the request, for errors.
    """
    _, _, rest = item_id.partition("_")
    stored = await responses.get(f"resp_{rest.partition('_')[0]}", owner)
    items = [] if stored is None else [*stored.items, *stored.body["output"]]
    found = next((item for item in items if item["id"] == item_id), None)
    if found is None:
        raise NotStoredError(f"Item with id '{shown(item_id)}' not found.", path, "item_not_found")
    return InputItem.model_validate(found)


def _items(chain: Sequence[StoredResponse]) -> list[InputItem]:
    return [InputItem.model_validate(item) for one in chain for item in (*one.items, *one.body["output"])]
