"""Generates and stores one response."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing

from server.api.http.api_error import ApiError
from server.api.http.json_response import encode
from server.api.http.sse import Events, named_event
from server.api.responses.fields import ENCRYPTED, ResponseRequest
from server.api.responses.listed_items import described
from server.api.responses.output.assembly import Output
from server.api.responses.output.events import Event, ResponseErrorEvent, ResponseStateEvent, StateKind
from server.api.responses.output.response import ended, response_error, usage
from server.api.responses.output.wire import ResponseBody, Status
from server.api.responses.store.stored import StoredResponse, packed
from server.chat.completion import Completion
from server.chat.types import ChoiceEnd, Delta

RUNNING: tuple[Status, ...] = ("queued", "in_progress")
Keep = Callable[[StoredResponse], Awaitable[None]]


class ResponseRun:
    """A response being generated.

    response: body of the response; its output stays empty until the response ends.
    recorded: encoded events so far; empty if the response is not stored.
    """

    def __init__(
        self,
        body: ResponseRequest,
        response: ResponseBody,
        completion: Completion[Delta],
        owner: str,
        keep: Keep | None,
        describe: Callable[[Exception], ApiError],
    ) -> None:
        """Create the run of `response`.

        owner: name of the API key whose request created the response; empty if there are no keys.
        keep: stores the response; None if the request has `store: false`.
        describe: logs an error and returns its description for the client.
        """
        self.response = response
        self.recorded: list[bytes] = []
        self._body = body
        self._completion = completion
        self._owner = owner
        self._keep = keep
        self._describe = describe
        self._numbers = itertools.count()
        self._output = Output(response["id"], self._number, body.own_tools, with_sealed=body.includes(ENCRYPTED))
        self._token_ids: list[int] = []

    async def events(self) -> Events:
        """Generate the response and yield its encoded events.

        Stores the response before the last event. An error before the first event is raised. A later error becomes
        the events `error` and `response.failed`.
        """
        begun = bool(self._body.background)
        if begun:
            yield self._encoded(self._state("response.created"))
            yield self._encoded(self._state("response.queued"))
        first = True
        try:
            async with aclosing(self._completion.deltas()) as deltas:
                async for _, delta in deltas:
                    if first:
                        for event in self._started(created=begun):
                            yield self._encoded(event)
                        first, begun = False, True
                    for data in self._add(delta):
                        yield self._record(data)
            last = [self._finished()]
        except Exception as error:
            if not begun:
                raise
            last = self._failed(self._describe(error))
        encoded = [self._encoded(event) for event in last]
        await self.store()
        for data in encoded:
            yield data

    async def whole(self) -> ResponseBody:
        """Generate the response, store it and return it."""
        async with aclosing(self._completion.deltas()) as deltas:
            async for _, delta in deltas:
                self._add(delta)
        self._finish()
        await self.store()
        return self.response

    def snapshot(self) -> ResponseBody:
        """Return the response with its output so far."""
        if self.response["status"] not in RUNNING:
            return self.response
        return {**self.response, "output": self._output.items()}

    def cancel(self) -> None:
        """Stop generating."""
        self._completion.cancel()

    async def store(self) -> None:
        """Store the response in its current state, unless the request has `store: false`."""
        if self._keep is not None:
            await self._keep(await asyncio.to_thread(self._stored))

    def _stored(self) -> StoredResponse:
        items = described(self._body.input or (), self.response["id"])
        return StoredResponse(
            id=self.response["id"],
            owner=self._owner,
            created=time.time(),
            running=self.response["status"] in RUNNING,
            response=encode(self.response),
            input_items=encode(items),
            events=packed(self.recorded) if self.recorded else None,
        )

    def _add(self, delta: Delta) -> list[bytes]:
        if self._body.return_token_ids:
            self._token_ids += delta.token_ids
        return self._output.add(delta)

    def _started(self, *, created: bool) -> Iterator[Event]:
        self.response = {**self.response, "status": "in_progress"}
        if not created:
            yield self._state("response.created")
        yield self._state("response.in_progress")

    def _finished(self) -> Event:
        """End the response and return its last event."""
        self._finish()
        completed = self.response["status"] == "completed"
        return self._state("response.completed" if completed else "response.incomplete")

    def _finish(self) -> None:
        used = usage(self._completion)
        end = self._output.end
        self._output.stop()
        status: Status = "cancelled" if end is None else "incomplete" if end is ChoiceEnd.LENGTH else "completed"
        self.response = ended(self.response, status, self._output.items(), used)
        if self._body.return_token_ids:
            self.response["token_ids"] = self._token_ids
            self.response["prompt_token_ids"] = self._completion.prompts[0]

    def _failed(self, error: ApiError) -> list[Event]:
        """End the response because of `error` and return its last events."""
        self._output.stop()
        used = usage(self._completion)
        self.response = ended(self.response, "failed", self._output.items(), used)
        self.response["error"] = response_error(error)
        event: ResponseErrorEvent = {
            "type": "error",
            "sequence_number": self._number(),
            "code": error.code,
            "message": error.message,
            "param": error.param,
        }
        return [event, self._state("response.failed")]

    def _state(self, kind: StateKind) -> ResponseStateEvent:
        return {"type": kind, "sequence_number": self._number(), "response": self.response}

    def _encoded(self, event: Event) -> bytes:
        return self._record(named_event(event))

    def _record(self, data: bytes) -> bytes:
        if self._keep is not None:
            self.recorded.append(data)
        return data

    def _number(self) -> int:
        return next(self._numbers)
