"""JSON types used in the answers of several routes.

The OpenAPI document is generated from these types.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

CompletionId = Annotated[str, Field(description="ID of this answer.", examples=["chatcmpl-0f3a"])]
Created = Annotated[int, Field(description="Creation time, in seconds since 1970.", examples=[1767225600])]
ModelName = Annotated[str, Field(description="ID of the served model.", examples=["lfm2-demo"])]
Fingerprint = Annotated[
    str,
    Field(
        description="Changes if the model's files, the server's version or its settings change.",
        examples=["fp_1c0ffee"],
    ),
]
ChoiceIndex = Annotated[int, Field(ge=0, description="Index of the choice, from 0.", examples=[0])]
Logprob = Annotated[
    float, Field(le=0, description="Natural log-probability; -9999 for minus infinity.", examples=[-0.31])
]
TokenIds = Annotated[
    Sequence[int],
    Field(
        description="IDs of the generated tokens, the end token included. Only with `return_token_ids`.",
        examples=[[306]],
    ),
]
PromptTokenIds = Annotated[
    Sequence[int],
    Field(description="IDs of the prompt's tokens. Only with `return_token_ids`.", examples=[[1, 6, 423]]),
]


class PromptTokensDetails(TypedDict):
    """Breakdown of the prompt's tokens."""

    cached_tokens: Annotated[int, Field(ge=0, description="Prompt tokens taken from the prefix cache.", examples=[0])]


class CompletionTokensDetails(TypedDict):
    """Breakdown of the generated tokens."""

    reasoning_tokens: Annotated[int, Field(ge=0, description="Tokens of the thoughts.", examples=[0])]


class CompletionUsage(TypedDict):
    """Token counts of a request."""

    prompt_tokens: Annotated[
        int, Field(ge=0, description="Tokens in the prompt, including those of the chat template.", examples=[14])
    ]
    completion_tokens: Annotated[
        int, Field(ge=0, description="Generated tokens, summed over all choices.", examples=[9])
    ]
    total_tokens: Annotated[int, Field(ge=0, description="`prompt_tokens` plus `completion_tokens`.", examples=[23])]
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class TopLogprob(TypedDict):
    """A token with its log-probability."""

    token: Annotated[str, Field(description="Text of the token.", examples=["Hello"])]
    logprob: Logprob
    bytes: Annotated[
        list[int], Field(description="UTF-8 bytes of the token, possibly part of a character.", examples=[[72, 105]])
    ]


class OutputTokenLogprob(TopLogprob):
    """A generated token with the most likely alternatives."""

    top_logprobs: Annotated[
        list[TopLogprob], Field(description="The most likely tokens at this position; `top_logprobs` sets how many.")
    ]
