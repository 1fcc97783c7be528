"""The request body of POST /v1/completions."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator

from server.api.generation.fields import GenerationFields, unsupported
from server.api.generation.output_format import TextFormFields
from server.api.http.base_model import invalid

DEFAULT_MAX_TOKENS = 16  # OpenAI's default
MAX_BEST_OF = 20
MAX_LOGPROBS = 5

Prompts = tuple[str | tuple[int, ...], ...]


def _prompts(prompt: Any) -> Prompts:
    """Convert one prompt, or a list of prompts, to a tuple of prompts.

    A prompt is a text or a list of token IDs.
    """
    if _is_prompt(prompt):
        prompt = [prompt]
    if not isinstance(prompt, list) or not prompt:
        raise invalid(
            "prompt must be a string, a list of strings, a list of token IDs or a list of lists of token IDs."
        )
    for i, single in enumerate(prompt):
        if not _is_prompt(single):
            raise invalid(f"prompt[{i}] must be a string or a non-empty list of token IDs.", field=f"[{i}]")
    return tuple(single if isinstance(single, str) else tuple(single) for single in prompt)


def _is_prompt(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and bool(value) and all(type(t) is int for t in value))


PROMPT_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
        {"type": "array", "items": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}},
    ],
    "description": "Text or token IDs to continue. Text starts with the model's BOS token, and special tokens in it "
    "are recognized; token IDs are used unchanged.",
}


class CompletionRequest(GenerationFields, TextFormFields):
    """The request body of POST /v1/completions."""

    prompt: Annotated[Prompts, PlainValidator(_prompts), WithJsonSchema(PROMPT_SCHEMA)]
    max_tokens: int | None = Field(
        None, ge=0, description="Maximum tokens to generate; 16 by default. 0 requires `echo`.", examples=[16]
    )
    echo: bool | None = Field(
        None, description="Return the prompt before the answer. `logprobs` then applies to both.", examples=[False]
    )
    logprobs: int | None = Field(
        None,
        ge=0,
        le=MAX_LOGPROBS,
        description="Number of most likely tokens to return at each position.",
        examples=[1],
    )
    best_of: int | None = Field(None, ge=1, le=MAX_BEST_OF, description="Must equal `n` if set.", examples=[1])
    add_special_tokens: bool | None = Field(
        None, description="Start text prompts with the model's BOS token; true by default.", examples=[True]
    )
    user: str | None = Field(None, description="Accepted; no effect.", examples=["ann"])
    suffix: Annotated[None, BeforeValidator(unsupported("suffix"))] = Field(None, description="Not supported.")

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.max_tokens == 0 and not self.echo:
            raise invalid(
                "max_tokens may be 0 only with echo: true; otherwise there is nothing to return.", field="max_tokens"
            )
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise invalid(f"best_of must be at least n ({self.n or 1}).", field="best_of")
        if self.best_of is not None and self.best_of > (self.n or 1):
            message = f"best_of greater than n ({self.n or 1}) is not supported."
            raise invalid(message, "unsupported_value", "best_of")
        return self
