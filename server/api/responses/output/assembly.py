"""Assembles the output items of a response, and encodes their events."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from server.api.http.sse import named_event
from server.api.responses.output.events import Event
from server.api.responses.output.open_items import (
    OpenCall,
    OpenCustomCall,
    OpenItem,
    OpenMessage,
    OpenReasoning,
    Status,
)
from server.api.responses.output.wire import OutputItem
from server.api.responses.tools import ClientTool
from server.chat.types import ChoiceEnd, Delta, ToolCallDelta


class Output:
    """The output items of one response.

    end: why the answer ended; None if it has not ended.
    """

    def __init__(self, response_id: str, number: Callable[[], int], tools: Iterable[ClientTool], *, with_sealed: bool):
        """Create an output without items.

        number: returns the number of the next event.
        tools: the tools that may be called.
        with_sealed: whether reasoning items have `encrypted_content`.
        """
        self.end: ChoiceEnd | None = None
        self._suffix = response_id.removeprefix("resp_")
        self._number = number
        self._tools = {tool.full_name: tool for tool in tools}
        self._with_sealed = with_sealed
        self._items: list[OutputItem] = []
        self._open: OpenItem | None = None

    def items(self) -> list[OutputItem]:
        """Return the items as generated so far."""
        return [*self._items, *([self._open.item("in_progress")] if self._open else ())]

    def add(self, delta: Delta) -> list[bytes]:
        """Add `delta` to the items, and return its encoded events."""
        events: list[bytes] = []
        if delta.reasoning:
            if not isinstance(self._open, OpenReasoning):
                self._begin(OpenReasoning(*self._place("rs"), self._with_sealed), events)
            assert isinstance(self._open, OpenReasoning)
            events.append(self._open.add(delta.reasoning))
        if delta.content or (delta.logprobs and isinstance(self._open, OpenMessage)):
            message = self._message(events)
            events.append(message.add(delta.content, delta.logprobs))
        if delta.tool_call is not None:
            self._add_call(delta.tool_call, events)
        if delta.end is not None:
            self.end = delta.end
            self._finish(delta.end, events)
        return events

    def stop(self) -> None:
        """Mark the item being generated as incomplete. Sends no events."""
        if self._open is not None:
            self._items.append(self._open.item("incomplete"))
            self._open = None

    def _finish(self, end: ChoiceEnd, events: list[bytes]) -> None:
        cut = end is ChoiceEnd.LENGTH
        if not cut and ((not self._items and self._open is None) or isinstance(self._open, OpenReasoning)):
            self._message(events)  # an empty answer is an empty message
        self._close("incomplete" if cut else "completed", events)

    def _message(self, events: list[bytes]) -> OpenMessage:
        """Return the message being generated.

        If there is none, begin one and append its first events to `events`.
        """
        if not isinstance(self._open, OpenMessage):
            self._begin(OpenMessage(*self._place("msg")), events)
        assert isinstance(self._open, OpenMessage)
        return self._open

    def _add_call(self, delta: ToolCallDelta, events: list[bytes]) -> None:
        if delta.id is not None and delta.name is not None:
            tool = self._tools[delta.name]
            kind, prefix = (OpenCustomCall, "ctc") if tool.is_custom else (OpenCall, "fc")
            self._begin(kind(*self._place(prefix), delta.id, tool.name, tool.namespace), events)
        if delta.arguments:
            assert isinstance(self._open, OpenCall)
            if (event := self._open.add(delta.arguments)) is not None:
                events.append(event)

    def _begin(self, item: OpenItem, events: list[bytes]) -> None:
        """End the current item, begin `item`, and append their events to `events`."""
        self._close("completed", events)
        self._open = item
        events += _encoded(item.opened())

    def _close(self, status: Status, events: list[bytes]) -> None:
        if self._open is not None:
            item, self._open = self._open, None
            events += _encoded(item.closed(status))
            self._items.append(item.item(status))

    def _place(self, prefix: str) -> tuple[str, int, Callable[[], int]]:
        """Return `id`, `index` and `number` of the next OpenItem.

        Example of an ID: `msg_5f2c_0` is the first item of response `resp_5f2c`.
        """
        index = len(self._items) + (self._open is not None)
        return f"{prefix}_{self._suffix}_{index}", index, self._number


def _encoded(events: Iterable[Event]) -> list[bytes]:
    return [named_event(event) for event in events]
