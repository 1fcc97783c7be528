"""The request fields that all generating protocols share. Null means absent, unknown fields are ignored."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from server.api.http.base_model import ApiModel, also, invalid

MAX_CHOICES = 128  # OpenAI's; a server's own limit is lower
MAX_STOPS = 4
MAX_SHOWN = 1000  # characters of unknown fields' names in the log

logger = logging.getLogger(__name__)


def _stops(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


def unsupported(name: str) -> Callable[[Any], Any]:
    def refuse(value: Any) -> Any:
        if value is not None:
            raise invalid(f"{name} is not supported.", "unsupported_value")
        return value

    return refuse


TOKEN_ID = re.compile("^[0-9]{1,9}$")
TokenId = Annotated[str, Field(json_schema_extra={"pattern": TOKEN_ID.pattern})]


class StreamOptions(ApiModel):
    """What a stream tells besides its text."""

    include_usage: bool | None = Field(None, description="A last chunk, of no choice, with the usage.")
    continuous_usage_stats: bool | None = Field(None, description="The usage so far in every chunk.")


Label = Annotated[str, Field(min_length=1, max_length=256)]


class GenerationFields(ApiModel):
    """What chats and text completions have in common."""

    model: str | None = Field(None, description="A served model's id; the only one if absent.", examples=["lfm2-demo"])
    temperature: float | None = Field(
        None, ge=0, le=2, description="How freely tokens are drawn; 0 always takes the likeliest.", examples=[0.3]
    )
    top_p: float | None = Field(
        None, gt=0, le=1, description="Draw from the likeliest tokens that make up this share.", examples=[0.9]
    )
    top_k: int | None = Field(None, ge=0, description="Draw from so many of the likeliest; 0 is off.", examples=[40])
    min_p: float | None = Field(
        None, ge=0, le=1, description="Leave out what is less likely than this share of the likeliest.", examples=[0.15]
    )
    repetition_penalty: float | None = Field(
        None, ge=0.01, le=10, description="Makes tokens of prompt and answer less likely; 1 is off.", examples=[1.05]
    )
    frequency_penalty: float | None = Field(
        None, ge=-2, le=2, description="Taken off a token's logit for each time the answer holds it.", examples=[0.0]
    )
    presence_penalty: float | None = Field(
        None, ge=-2, le=2, description="Taken off a token's logit once the answer holds it.", examples=[0.0]
    )
    logit_bias: dict[TokenId, Annotated[float, Field(ge=-100, le=100)]] | None = Field(
        None, description="Added to the logits of tokens, by their ids.", examples=[{"42": -100}]
    )
    seed: int | None = Field(
        None, ge=-(2**63), lt=2**63, description="The same seed, request and server: the same answer.", examples=[7]
    )
    n: int | None = Field(None, ge=1, le=MAX_CHOICES, description="So many choices; 1 if absent.", examples=[1])
    stop: Annotated[
        list[Annotated[str, Field(min_length=1)]] | None, Field(max_length=MAX_STOPS), BeforeValidator(_stops)
    ] = Field(
        None,
        description="The answer ends before the first of these; one may be sent as it is.",
        examples=[["\n\n"]],
        json_schema_extra=also({"type": "string", "minLength": 1}),
    )
    stop_token_ids: list[int] | None = Field(
        None, description="Tokens that end the answer besides the model's own.", examples=[[7]]
    )
    min_tokens: int | None = Field(
        None, ge=0, description="Before these the answer does not end by itself.", examples=[0]
    )
    ignore_eos: bool | None = Field(None, description="Go on to the limit.", examples=[False])
    skip_special_tokens: bool | None = Field(
        None, description="Special tokens have no text, if absent or true.", examples=[True]
    )
    return_token_ids: bool | None = Field(
        None, description="Tell the ids of the prompt's and the answer's tokens.", examples=[False]
    )
    priority: int | None = Field(
        None,
        ge=-(2**31),
        lt=2**31,
        description="Of one sender's requests that wait, the lowest goes first; 0 if absent.",
        examples=[0],
    )
    cache_salt: Label | None = Field(
        None, description="Cached prompts are shared only with requests of the same salt.", examples=["team-7"]
    )
    stream: bool | None = Field(None, description="Answer with events as the text is written.", examples=[False])
    stream_options: StreamOptions | None = Field(None, description="Needs stream: true.")

    @model_validator(mode="before")
    @classmethod
    def _tell_of_unknown_fields(cls, body: Any) -> Any:
        unknown = sorted(body.keys() - cls.model_fields.keys()) if isinstance(body, dict) else []
        if unknown:
            logger.debug("Fields that nobody knows are ignored: %.*s.", MAX_SHOWN, json.dumps(unknown))
        return body

    @model_validator(mode="after")
    def _generation_fields_agree(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options needs stream: true.", field="stream_options")
        for token in self.logit_bias or {}:
            if not TOKEN_ID.fullmatch(token):
                message = f"logit_bias goes from token ids to numbers; {token[:40]!r} is no id."
                raise invalid(message, field="logit_bias")
        return self
