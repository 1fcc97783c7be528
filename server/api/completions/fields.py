"""What a text completion may ask for: OpenAI's fields of /v1/completions with their ranges."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator

from server.api.generation.fields import GenerationFields, unsupported
from server.api.http.base_model import invalid

DEFAULT_MAX_TOKENS = 16  # OpenAI's
MAX_BEST_OF = 20
MAX_LOGPROBS = 5

Prompts = tuple[str | tuple[int, ...], ...]


def _prompts(prompt: Any) -> Prompts:
    """One prompt or several, of text or of token ids, as several."""
    if _is_prompt(prompt):
        prompt = [prompt]
    if not isinstance(prompt, list) or not prompt:
        raise invalid("A prompt is a string, a list of strings, a list of token ids or a list of such lists.")
    for i, single in enumerate(prompt):
        if not _is_prompt(single):
            message = "A prompt in a list of several is a string or a list of token ids, which is not empty"
            raise invalid(f"{message}; prompt[{i}] is another thing.", field=f"[{i}]")
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
    "description": "Text begins with the model's BOS, special tokens in it are read as such; token ids are taken as "
    "they are.",
}


class CompletionRequest(GenerationFields):
    """The body of POST /v1/completions."""

    prompt: Annotated[Prompts, PlainValidator(_prompts), WithJsonSchema(PROMPT_SCHEMA)]
    max_tokens: int | None = Field(
        None, ge=0, description="The answer's limit: 16 if absent; 0 needs echo.", examples=[16]
    )
    echo: bool | None = Field(
        None, description="The prompt before the answer; with logprobs, those of its tokens too.", examples=[False]
    )
    logprobs: int | None = Field(
        None, ge=0, le=MAX_LOGPROBS, description="That many of the most likely tokens.", examples=[1]
    )
    best_of: int | None = Field(None, ge=1, le=MAX_BEST_OF, description="No more than n.", examples=[1])
    add_special_tokens: bool | None = Field(
        None, description="The model's BOS in front of texts, if absent or true.", examples=[True]
    )
    user: str | None = Field(None, description="Changes nothing.", examples=["ann"])
    suffix: Annotated[None, BeforeValidator(unsupported("suffix"))] = Field(None, description="Not supported.")

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.max_tokens == 0 and not self.echo:
            raise invalid("max_tokens 0 generates nothing: it needs echo: true.", field="max_tokens")
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise invalid(f"best_of must be at least n, which is {self.n or 1}.", field="best_of")
        if self.best_of is not None and self.best_of > (self.n or 1):
            message = f"best_of beyond n is not supported: all choices are returned. n is {self.n or 1}."
            raise invalid(message, "unsupported_value", "best_of")
        return self
