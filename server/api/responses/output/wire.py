"""JSON types of responses and their items, named as in OpenAI's Python client."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from server.api.generation.wire import ModelName, OutputTokenLogprob, PromptTokenIds, TokenIds

ItemId = Annotated[str, Field(description="ID of the item; an `item_reference` may name it.", examples=["msg_5f2c_0"])]
ItemStatus = Annotated[
    Literal["in_progress", "completed", "incomplete"],
    Field(description="`incomplete`: the answer was cut within this item."),
]
CallId = Annotated[
    str, Field(description="ID of the call; send it as `call_id` with the result.", examples=["call_5f2c"])
]
Status = Annotated[
    Literal["completed", "failed", "in_progress", "cancelled", "queued", "incomplete"],
    Field(description="`incomplete`: the answer was cut. The others are the stages of a response."),
]


class ResponseOutputText(TypedDict):
    """Text of a message."""

    type: Literal["output_text"]
    text: Annotated[str, Field(description="The text.", examples=["Hello!"])]
    annotations: Annotated[list[Any], Field(description="Always empty.")]
    logprobs: Annotated[list[OutputTokenLogprob], Field(description="Empty unless `include` asks for them.")]


class ResponseReasoningText(TypedDict):
    """Reasoning text."""

    type: Literal["reasoning_text"]
    text: Annotated[str, Field(description="The thoughts.")]


class ResponseOutputMessage(TypedDict):
    """The assistant's message."""

    id: ItemId
    type: Literal["message"]
    role: Literal["assistant"]
    status: ItemStatus
    content: Annotated[list[ResponseOutputText], Field(description="One text.")]


class ResponseReasoningItem(TypedDict):
    """Thoughts of a model that thinks."""

    id: ItemId
    type: Literal["reasoning"]
    status: ItemStatus
    summary: Annotated[list[Any], Field(description="Always empty: the content is whole.")]
    content: Annotated[list[ResponseReasoningText], Field(description="One text.")]
    encrypted_content: NotRequired[
        Annotated[str, Field(description="The thoughts again, to be sent back. Only if `include` asks for it.")]
    ]


class ResponseFunctionToolCall(TypedDict):
    """A function call."""

    id: ItemId
    type: Literal["function_call"]
    status: ItemStatus
    call_id: CallId
    name: Annotated[str, Field(description="Name of the called function.", examples=["get_weather"])]
    namespace: NotRequired[Annotated[str, Field(description="Namespace of the tool, if it has one.", examples=["crm"])]]
    arguments: Annotated[
        str,
        Field(
            description="Arguments as the text of a JSON object; incomplete if the answer was cut off.",
            examples=['{"city": "Bern"}'],
        ),
    ]


class ResponseCustomToolCall(TypedDict):
    """A custom tool call."""

    id: ItemId
    type: Literal["custom_tool_call"]
    status: ItemStatus
    call_id: CallId
    name: Annotated[str, Field(description="Name of the called tool.", examples=["shell"])]
    namespace: NotRequired[Annotated[str, Field(description="Namespace of the tool, if it has one.", examples=["crm"])]]
    input: Annotated[str, Field(description="Input text for the tool.", examples=["ls"])]


OutputItem = ResponseReasoningItem | ResponseOutputMessage | ResponseFunctionToolCall | ResponseCustomToolCall


class InputTokensDetails(TypedDict):
    """Breakdown of the prompt's tokens."""

    cached_tokens: Annotated[int, Field(ge=0, description="Prompt tokens taken from the prefix cache.", examples=[0])]
    cache_write_tokens: Annotated[int, Field(ge=0, description="Always 0: writing to the cache costs nothing.")]


class OutputTokensDetails(TypedDict):
    """Breakdown of the generated tokens."""

    reasoning_tokens: Annotated[int, Field(ge=0, description="Tokens of thoughts.", examples=[0])]


class ResponseUsage(TypedDict):
    """Token counts of a response."""

    input_tokens: Annotated[
        int, Field(ge=0, description="Tokens in the prompt, including those of the chat template.", examples=[14])
    ]
    input_tokens_details: InputTokensDetails
    output_tokens: Annotated[int, Field(ge=0, description="Generated tokens.", examples=[9])]
    output_tokens_details: OutputTokensDetails
    total_tokens: Annotated[int, Field(ge=0, description="`input_tokens` plus `output_tokens`.", examples=[23])]


class ResponseError(TypedDict):
    """The reason why a response failed."""

    code: Annotated[str, Field(description="Machine-readable error code.", examples=["server_error"])]
    message: Annotated[str, Field(description="Description of the error.")]


class IncompleteDetails(TypedDict):
    """The reason why a response is incomplete."""

    reason: Literal["max_output_tokens"]


class ResponseBody(TypedDict):
    """A response, which repeats most settings of its request."""

    id: Annotated[str, Field(description="ID of the response.", examples=["resp_5f2c"])]
    object: Literal["response"]
    created_at: Annotated[int, Field(description="Creation time, in seconds since 1970.", examples=[1767225600])]
    completed_at: Annotated[int | None, Field(description="Time of completion, in seconds since 1970.")]
    status: Status
    background: Annotated[bool, Field(description="Whether it was generated in the background.")]
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    instructions: Annotated[str | None, Field(description="As in the request.")]
    max_output_tokens: Annotated[int | None, Field(description="As in the request.")]
    max_tool_calls: Annotated[int | None, Field(description="As in the request.")]
    metadata: Annotated[dict[str, str], Field(description="As in the request.")]
    model: ModelName
    output: Annotated[list[OutputItem], Field(description="The output items, in the order generated.")]
    parallel_tool_calls: Annotated[bool, Field(description="As in the request.")]
    previous_response_id: Annotated[str | None, Field(description="As in the request.")]
    prompt_cache_key: Annotated[str | None, Field(description="As in the request.")]
    reasoning: Annotated[dict[str, Any], Field(description="As in the request.")]
    safety_identifier: Annotated[str | None, Field(description="As in the request.")]
    service_tier: Literal["default"]
    store: Annotated[bool, Field(description="As in the request.")]
    temperature: Annotated[float, Field(description="The sampling temperature used.", examples=[0.3])]
    text: Annotated[dict[str, Any], Field(description="As in the request.")]
    tool_choice: Annotated[str | dict[str, Any], Field(description="As in the request.", examples=["auto"])]
    tools: Annotated[list[dict[str, Any]], Field(description="As in the request, without built-in tools.")]
    top_logprobs: Annotated[int, Field(description="As in the request.")]
    top_p: Annotated[float, Field(description="The value used.", examples=[0.9])]
    truncation: Annotated[Literal["auto", "disabled"], Field(description="As in the request.")]
    usage: Annotated[ResponseUsage | None, Field(description="Null until the response has ended.")]
    user: Annotated[str | None, Field(description="As in the request.")]
    token_ids: NotRequired[TokenIds]
    prompt_token_ids: NotRequired[PromptTokenIds]


class DeletedResponse(TypedDict):
    """Confirmation that a response was deleted."""

    id: Annotated[str, Field(description="ID of the response.", examples=["resp_5f2c"])]
    object: Literal["response"]
    deleted: Literal[True]


class ResponseItemList(TypedDict):
    """A page of the input items of a response."""

    object: Literal["list"]
    data: Annotated[list[dict[str, Any]], Field(description="The items of this page.")]
    first_id: Annotated[str, Field(description="ID of the first item; empty if there is none.")]
    last_id: Annotated[str, Field(description="ID of the last item; send it as `after` for the next page.")]
    has_more: Annotated[bool, Field(description="Whether there are more items after this page.")]


class InputTokenCount(TypedDict):
    """The number of tokens in an input."""

    object: Literal["response.input_tokens"]
    input_tokens: Annotated[int, Field(ge=0, description="Tokens in the prompt.", examples=[14])]
