"""Assembles the output items of a response from deltas, and yields their events."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
from server.chat.types import ChoiceEnd, Delta, ToolCallDelta


class Output:
    """The output items of one response.

    end: the reason why the answer ended; None while it is generated.
    """

    def __init__(self, response_id: str, number: Callable[[], int], custom: frozenset[str], *, with_sealed: bool):
        """Create an output without items.

        number: function that returns the number of the next event.
        custom: names of the custom tools.
        with_sealed: whether reasoning items have the field `encrypted_content`.
        """
        self.end: ChoiceEnd | None = None
        self._suffix = response_id.removeprefix("resp_")
        self._number = number
        self._custom = custom
        self._with_sealed = with_sealed
        self._items: list[OutputItem] = []
        self._open: OpenItem | None = None

    def items(self) -> list[OutputItem]:
        """Return the items as generated so far."""
        return [*self._items, *([self._open.item("in_progress")] if self._open else ())]

    def add(self, delta: Delta) -> Iterator[Event]:
        """Add `delta` to the items, and yield the events that report the change."""
        if delta.reasoning:
            if not isinstance(self._open, OpenReasoning):
                yield from self._close("completed")
                yield from self._begin(OpenReasoning(*self._place("rs"), self._with_sealed))
            assert isinstance(self._open, OpenReasoning)
            yield self._open.add(delta.reasoning)
        if delta.content or (delta.logprobs and isinstance(self._open, OpenMessage)):
            yield from self._begin_message()
            assert isinstance(self._open, OpenMessage)
            yield self._open.add(delta.content, delta.logprobs)
        if delta.tool_call is not None:
            yield from self._add_call(delta.tool_call)
        if delta.end is not None:
            self.end = delta.end
            yield from self._finish(delta.end)

    def stop(self) -> None:
        """Mark the item being generated, if any, as incomplete. Yields no events."""
        if self._open is not None:
            self._items.append(self._open.item("incomplete"))
            self._open = None

    def _finish(self, end: ChoiceEnd) -> Iterator[Event]:
        cut = end is ChoiceEnd.LENGTH
        if not cut and ((not self._items and self._open is None) or isinstance(self._open, OpenReasoning)):
            yield from self._begin_message()  # an empty answer is an empty message
        yield from self._close("incomplete" if cut else "completed")

    def _begin_message(self) -> Iterator[Event]:
        if not isinstance(self._open, OpenMessage):
            yield from self._close("completed")
            yield from self._begin(OpenMessage(*self._place("msg")))

    def _add_call(self, delta: ToolCallDelta) -> Iterator[Event]:
        if delta.id is not None and delta.name is not None:
            kind, prefix = (OpenCustomCall, "ctc") if delta.name in self._custom else (OpenCall, "fc")
            yield from self._close("completed")
            yield from self._begin(kind(*self._place(prefix), delta.id, delta.name))
        if delta.arguments:
            assert isinstance(self._open, OpenCall)
            yield from self._open.add(delta.arguments)

    def _begin(self, item: OpenItem) -> Iterator[Event]:
        self._open = item
        yield from item.opened()

    def _close(self, status: Status) -> Iterator[Event]:
        if self._open is not None:
            item, self._open = self._open, None
            yield from item.closed(status)
            self._items.append(item.item(status))

    def _place(self, prefix: str) -> tuple[str, int, Callable[[], int]]:
        """Return the arguments `id`, `index` and `number` for the next OpenItem.

        Example of an ID: `msg_5f2c_0`, if a message is the first item of the response `resp_5f2c`.
        """
        index = len(self._items)
        return f"{prefix}_{self._suffix}_{index}", index, self._number
