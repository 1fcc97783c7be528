"""JSON types of a streamed response's events, named as in OpenAI's Python client."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field
from typing_extensions import TypedDict

from server.api.generation.wire import OutputTokenLogprob
from server.api.responses.output.wire import OutputItem, ResponseBody, ResponseOutputText, ResponseReasoningText

StateKind = Literal[
    "response.created",
    "response.queued",
    "response.in_progress",
    "response.completed",
    "response.incomplete",
    "response.failed",
]


class _Event(TypedDict):
    sequence_number: Annotated[int, Field(ge=0, description="Number of the event in its stream, from 0.")]


class _ItemEvent(_Event):
    item_id: Annotated[str, Field(description="ID of the item.", examples=["msg_5f2c_0"])]
    output_index: Annotated[int, Field(ge=0, description="Index of the item in the output.", examples=[0])]


class _PartEvent(_ItemEvent):
    content_index: Annotated[int, Field(ge=0, description="Index of the part in the item; always 0.", examples=[0])]


class ResponseStateEvent(_Event):
    """The response was created, or its status has changed.

    Only background responses send `response.queued`.
    """

    type: StateKind
    response: ResponseBody


class ResponseOutputItemEvent(_Event):
    """An output item begins or is complete."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: Annotated[int, Field(ge=0, description="Index of the item in the output.", examples=[0])]
    item: OutputItem


class ResponseContentPartEvent(_PartEvent):
    """A part of a message or of thoughts begins or is complete."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    part: ResponseOutputText | ResponseReasoningText


class ResponseTextDeltaEvent(_PartEvent):
    """Text to append to a message."""

    type: Literal["response.output_text.delta"]
    delta: Annotated[str, Field(description="Text to append.")]
    logprobs: list[OutputTokenLogprob]


class ResponseTextDoneEvent(_PartEvent):
    """The whole text of a message."""

    type: Literal["response.output_text.done"]
    text: Annotated[str, Field(description="The text.")]
    logprobs: list[OutputTokenLogprob]


class ResponseReasoningTextDeltaEvent(_PartEvent):
    """Text to append to thoughts."""

    type: Literal["response.reasoning_text.delta"]
    delta: Annotated[str, Field(description="Text to append.")]


class ResponseReasoningTextDoneEvent(_PartEvent):
    """The whole text of thoughts."""

    type: Literal["response.reasoning_text.done"]
    text: Annotated[str, Field(description="The thoughts.")]


class ResponseCallDeltaEvent(_ItemEvent):
    """Text to append to a call's arguments or custom input."""

    type: Literal["response.function_call_arguments.delta", "response.custom_tool_call_input.delta"]
    delta: Annotated[str, Field(description="Text to append.")]


class ResponseFunctionCallArgumentsDoneEvent(_ItemEvent):
    """The whole arguments of a function call."""

    type: Literal["response.function_call_arguments.done"]
    name: Annotated[str, Field(description="Name of the called function.", examples=["get_weather"])]
    arguments: Annotated[str, Field(description="The arguments.")]


class ResponseCustomToolCallInputDoneEvent(_ItemEvent):
    """The whole input of a custom tool call."""

    type: Literal["response.custom_tool_call_input.done"]
    input: Annotated[str, Field(description="The input.")]


class ResponseErrorEvent(_Event):
    """The response has failed. The event `response.failed` follows."""

    type: Literal["error"]
    code: Annotated[str | None, Field(description="Machine-readable error code.", examples=["internal_error"])]
    message: Annotated[str, Field(description="Description of the error.")]
    param: Annotated[str | None, Field(description="The field that caused the error.")]


Event = (
    ResponseStateEvent
    | ResponseOutputItemEvent
    | ResponseContentPartEvent
    | ResponseTextDeltaEvent
    | ResponseTextDoneEvent
    | ResponseReasoningTextDeltaEvent
    | ResponseReasoningTextDoneEvent
    | ResponseCallDeltaEvent
    | ResponseFunctionCallArgumentsDoneEvent
    | ResponseCustomToolCallInputDoneEvent
    | ResponseErrorEvent
)
EVENTS: tuple[type[Any], ...] = get_args(Event)
