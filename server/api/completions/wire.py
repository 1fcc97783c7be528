"""JSON types of text completions, named as in OpenAI's Python client."""

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
    Logprob,
    ModelName,
    PromptTokenIds,
    TokenIds,
)

CompletionFinishReason = Literal["stop", "length"]


class CompletionLogprobs(TypedDict):
    """Log-probabilities of a text: lists with one entry per token."""

    tokens: Annotated[list[str], Field(description="Texts of the tokens.", examples=[["Once", " upon"]])]
    token_logprobs: Annotated[
        list[Logprob | None], Field(description="Log-probabilities; null for the first token of a prompt.")
    ]
    top_logprobs: Annotated[
        list[dict[str, Logprob] | None], Field(description="The most likely tokens at each position.")
    ]
    text_offset: Annotated[
        list[int], Field(description="Offset of each token in the text, in characters.", examples=[[0, 4]])
    ]


class CompletionChoice(TypedDict):
    """One answer to one prompt."""

    index: ChoiceIndex
    text: Annotated[
        str, Field(description="Continuation of the prompt; with `echo`, preceded by the prompt.", examples=[" upon a"])
    ]
    logprobs: Annotated[CompletionLogprobs | None, Field(description="Null unless the request sets `logprobs`.")]
    finish_reason: Annotated[
        CompletionFinishReason | None, Field(description="In a stream, null except in the choice's last chunk.")
    ]
    token_ids: NotRequired[TokenIds]
    prompt_token_ids: NotRequired[PromptTokenIds]


class TextCompletion(TypedDict):
    """The answer to a text completion request, or a chunk of its stream."""

    id: CompletionId
    object: Literal["text_completion"]
    created: Created
    model: ModelName
    system_fingerprint: Fingerprint
    choices: list[CompletionChoice]
    usage: NotRequired[CompletionUsage | None]
