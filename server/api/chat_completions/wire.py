"""JSON types of chat answers and chunks, named as in OpenAI's Python client."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from server.api.generation.wire import (
    ChoiceIndex,
    CompletionId,
    CompletionUsage,
    Created,
    Fingerprint,
    ModelName,
    OutputTokenLogprob,
    PromptTokenIds,
    TokenIds,
)

ChatFinishReason = Annotated[
    Literal["stop", "length", "tool_calls", "function_call"],
    Field(
        description="`stop`: the model ended the answer or wrote a stop string. `length`: the answer reached "
        "`max_completion_tokens` or the end of the context. `tool_calls`, `function_call`: the model called tools."
    ),
]


class ChoiceLogprobs(TypedDict):
    """Log-probabilities of an answer's tokens."""

    content: Annotated[list[OutputTokenLogprob], Field(description="One entry per token.")]
    refusal: None


class CalledFunction(TypedDict):
    """A function call."""

    name: Annotated[str, Field(description="Name of the called function.", examples=["get_weather"])]
    arguments: Annotated[
        str,
        Field(
            description="Arguments as the text of a JSON object; incomplete if the answer was cut off.",
            examples=['{"city": "Bern"}'],
        ),
    ]


class CalledCustomTool(TypedDict):
    """A custom tool call."""

    name: Annotated[str, Field(description="Name of the called tool.", examples=["shell"])]
    input: Annotated[str, Field(description="Input text for the tool.", examples=["ls"])]


class ChatCompletionMessageToolCall(TypedDict):
    """A tool call. `type` names the field that holds the call."""

    id: Annotated[
        str, Field(description="ID of the call; send it as `tool_call_id` with the result.", examples=["call_5f2c"])
    ]
    type: Literal["function", "custom"]
    function: NotRequired[CalledFunction]
    custom: NotRequired[CalledCustomTool]


class ChatCompletionMessage(TypedDict):
    """The assistant's message."""

    role: Literal["assistant"]
    content: Annotated[
        str | None, Field(description="Text; null if the message consists of calls only.", examples=["Hello!"])
    ]
    refusal: None
    reasoning_content: NotRequired[
        Annotated[str, Field(description="Thoughts of a reasoning model; absent if there are none.")]
    ]
    tool_calls: NotRequired[
        Annotated[list[ChatCompletionMessageToolCall], Field(description="Tool calls; absent if there are none.")]
    ]
    function_call: NotRequired[
        Annotated[CalledFunction, Field(description="Deprecated form of a call, used if the request has `functions`.")]
    ]


class ChatCompletionChoice(TypedDict):
    """One of the `n` answers."""

    index: ChoiceIndex
    message: ChatCompletionMessage
    logprobs: Annotated[ChoiceLogprobs | None, Field(description="Null unless the request sets `logprobs`.")]
    finish_reason: ChatFinishReason
    token_ids: NotRequired[TokenIds]


class Timings(TypedDict):
    """Token counts and durations, in llama.cpp's format."""

    cache_n: Annotated[int, Field(ge=0, description="Prompt tokens taken from the prefix cache.", examples=[0])]
    prompt_n: Annotated[int, Field(ge=0, description="Prompt tokens computed.", examples=[14])]
    prompt_ms: Annotated[
        float, Field(ge=0, description="Milliseconds from the start of prefill to the first token.", examples=[3.2])
    ]
    prompt_per_token_ms: Annotated[
        float | None, Field(description="Milliseconds per computed prompt token.", examples=[0.229])
    ]
    prompt_per_second: Annotated[
        float | None, Field(description="Prompt tokens computed per second.", examples=[4375.0])
    ]
    predicted_n: Annotated[int, Field(ge=0, description="Generated tokens.", examples=[9])]
    predicted_ms: Annotated[
        float, Field(ge=0, description="Milliseconds from the first token to the last.", examples=[11.6])
    ]
    predicted_per_token_ms: Annotated[
        float | None, Field(description="Milliseconds per generated token after the first.", examples=[1.45])
    ]
    predicted_per_second: Annotated[
        float | None, Field(description="Tokens generated per second after the first.", examples=[689.7])
    ]


class ChatCompletion(TypedDict):
    """The answer to a chat."""

    id: CompletionId
    object: Literal["chat.completion"]
    created: Created
    model: ModelName
    system_fingerprint: Fingerprint
    choices: list[ChatCompletionChoice]
    usage: CompletionUsage
    timings: Timings
    prompt_token_ids: NotRequired[PromptTokenIds]


class PrefillProgress(TypedDict):
    """Progress of the prefill, in llama.cpp's format."""

    total: Annotated[int, Field(ge=0, description="Tokens in the prompt.", examples=[2000])]
    cache: Annotated[int, Field(ge=0, description="Tokens taken from the prefix cache.", examples=[0])]
    processed: Annotated[int, Field(ge=0, description="Tokens processed so far, cached ones included.", examples=[512])]
    time_ms: Annotated[float, Field(ge=0, description="Milliseconds since the start of prefill.", examples=[180.5])]


class ChoiceDeltaFunction(TypedDict):
    """A new part of a function call."""

    name: NotRequired[Annotated[str, Field(description="Only in the call's first delta.")]]
    arguments: NotRequired[Annotated[str, Field(description="Text to append to the arguments.")]]


class ChoiceDeltaCustomTool(TypedDict):
    """A new part of a custom tool call."""

    name: NotRequired[Annotated[str, Field(description="Only in the call's first delta.")]]
    input: NotRequired[Annotated[str, Field(description="Text to append to the input.")]]


class ChoiceDeltaToolCall(TypedDict):
    """A new part of a tool call."""

    index: Annotated[int, Field(ge=0, description="Index of the call within its choice.")]
    id: NotRequired[Annotated[str, Field(description="Only in the call's first delta, like `type` and the name.")]]
    type: NotRequired[Literal["function", "custom"]]
    function: NotRequired[ChoiceDeltaFunction]
    custom: NotRequired[ChoiceDeltaCustomTool]


class ChoiceDelta(TypedDict):
    """New parts of a message."""

    role: NotRequired[Annotated[Literal["assistant"], Field(description="Only in the choice's first chunk.")]]
    content: NotRequired[Annotated[str, Field(description="Text to append to the content.")]]
    refusal: NotRequired[None]
    reasoning_content: NotRequired[Annotated[str, Field(description="Text to append to the thoughts.")]]
    tool_calls: NotRequired[list[ChoiceDeltaToolCall]]
    function_call: NotRequired[ChoiceDeltaFunction]


class ChatCompletionChunkChoice(TypedDict):
    """The part of a chunk that belongs to one choice."""

    index: ChoiceIndex
    delta: ChoiceDelta
    logprobs: ChoiceLogprobs | None
    finish_reason: Annotated[ChatFinishReason | None, Field(description="Null except in the choice's last chunk.")]
    token_ids: NotRequired[TokenIds]


class ChatCompletionChunk(TypedDict):
    """A stream event: `data: {...}`. The event `data: [DONE]` follows the last chunk."""

    id: CompletionId
    object: Literal["chat.completion.chunk"]
    created: Created
    model: ModelName
    system_fingerprint: Fingerprint
    choices: Annotated[
        list[ChatCompletionChunkChoice], Field(description="One choice; none in the final chunk with the usage.")
    ]
    usage: NotRequired[
        Annotated[
            CompletionUsage | None,
            Field(description="Token counts. `stream_options` selects the chunks that have them."),
        ]
    ]
    timings: NotRequired[Annotated[Timings, Field(description="Only in each choice's last chunk.")]]
    prompt_progress: NotRequired[
        Annotated[PrefillProgress, Field(description="Only with `return_progress`, before the first token.")]
    ]
    prompt_token_ids: NotRequired[PromptTokenIds]
