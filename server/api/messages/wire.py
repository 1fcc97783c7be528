"""JSON types of answers and stream events, named as in Anthropic's client."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, get_args

from pydantic import Field
from typing_extensions import TypedDict

from server.api.generation.wire import ModelName, PromptTokenIds, TokenIds

StopReason = Annotated[
    Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"],
    Field(
        description="`end_turn`: the model ended the answer. `max_tokens`: it reached its limit or the end of the "
        "context. `stop_sequence`: it reached a stop sequence. `tool_use`: it has calls."
    ),
]


class TextBlock(TypedDict):
    """A block of text."""

    type: Literal["text"]
    text: Annotated[str, Field(description="The text.", examples=["Hello!"])]


class ThinkingBlock(TypedDict):
    """Thoughts of a reasoning model."""

    type: Literal["thinking"]
    thinking: Annotated[str, Field(description="The thoughts.")]
    signature: Annotated[str, Field(description="Send it back with the thoughts; any signature is accepted.")]


class ToolUseBlock(TypedDict):
    """A tool call."""

    type: Literal["tool_use"]
    id: Annotated[str, Field(description="ID of the call; send it as `tool_use_id` with the result.")]
    name: Annotated[str, Field(description="Name of the called tool.", examples=["get_weather"])]
    input: Annotated[dict[str, Any], Field(description="Arguments.", examples=[{"city": "Bern"}])]


ContentBlock = TextBlock | ThinkingBlock | ToolUseBlock


class MessageOutputTokensDetails(TypedDict):
    """Breakdown of the generated tokens."""

    thinking_tokens: Annotated[int, Field(ge=0, description="Tokens of the thoughts.", examples=[0])]


class MessageUsage(TypedDict):
    """Token counts of a request."""

    input_tokens: Annotated[int, Field(ge=0, description="Prompt tokens computed.", examples=[14])]
    cache_creation_input_tokens: Annotated[int, Field(ge=0, description="Always 0.", examples=[0])]
    cache_read_input_tokens: Annotated[int, Field(ge=0, description="Prompt tokens from the prefix cache.")]
    output_tokens: Annotated[int, Field(ge=0, description="Generated tokens.", examples=[9])]
    output_tokens_details: MessageOutputTokensDetails


class AnthropicMessage(TypedDict):
    """The answer to a chat."""

    id: Annotated[str, Field(description="ID of this answer.", examples=["msg_0f3a"])]
    type: Literal["message"]
    role: Literal["assistant"]
    model: ModelName
    content: list[ContentBlock]
    stop_reason: Annotated[StopReason | None, Field(description="Null only at the start of a stream.")]
    stop_sequence: Annotated[str | None, Field(description="The stop sequence that ended the answer.")]
    usage: MessageUsage
    prompt_token_ids: NotRequired[PromptTokenIds]
    token_ids: NotRequired[TokenIds]


class TokenCount(TypedDict):
    """The number of tokens in a prompt."""

    input_tokens: Annotated[int, Field(ge=0, description="Tokens of the prompt.", examples=[14])]


class MessageStart(TypedDict):
    """The first event of a stream."""

    type: Literal["message_start"]
    message: AnthropicMessage


class BlockStart(TypedDict):
    """The start of a content block."""

    type: Literal["content_block_start"]
    index: int
    content_block: ContentBlock


class TextDelta(TypedDict):
    """Text to append to a text block."""

    type: Literal["text_delta"]
    text: str


class ThinkingDelta(TypedDict):
    """Text to append to a thinking block."""

    type: Literal["thinking_delta"]
    thinking: str


class SignatureDelta(TypedDict):
    """The signature of a thinking block."""

    type: Literal["signature_delta"]
    signature: str


class InputJsonDelta(TypedDict):
    """JSON text to append to the input of a tool_use block."""

    type: Literal["input_json_delta"]
    partial_json: str


BlockDelta = TextDelta | ThinkingDelta | SignatureDelta | InputJsonDelta


class BlockDeltaEvent(TypedDict):
    """A new part of a content block."""

    type: Literal["content_block_delta"]
    index: int
    delta: BlockDelta


class BlockStop(TypedDict):
    """The end of a content block."""

    type: Literal["content_block_stop"]
    index: int


class EndOfMessage(TypedDict):
    """How the answer ended."""

    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(TypedDict):
    """The end of the answer, with the token counts."""

    type: Literal["message_delta"]
    delta: EndOfMessage
    usage: MessageUsage
    token_ids: NotRequired[TokenIds]


class MessageStop(TypedDict):
    """The last event of a stream."""

    type: Literal["message_stop"]


class Ping(TypedDict):
    """A keep-alive event."""

    type: Literal["ping"]


Event = MessageStart | BlockStart | BlockDeltaEvent | BlockStop | MessageDelta | MessageStop
EVENTS: tuple[type[Any], ...] = (*get_args(Event), Ping)
