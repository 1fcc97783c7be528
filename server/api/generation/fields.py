"""Request fields common to all routes that generate text."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from server.api.http.base_model import ApiModel, also, invalid

MAX_CHOICES = 128  # OpenAI's limit; --max-n sets the server's limit
MAX_STOPS = 4
MAX_SHOWN = 1000  # characters of unknown field names in one log line

logger = logging.getLogger(__name__)


def _stops(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


def unsupported(name: str, *, off: Any = None) -> Callable[[Any], None]:
    """Return a validator that rejects every value except null and `off`.

    name: name of the field, for the error message.
    off: value that turns the field off.
    """

    def refuse(value: Any) -> None:
        if value is not None and value != off:
            raise invalid(f"{name} is not supported.", "unsupported_value")

    return refuse


TOKEN_ID = re.compile("^[0-9]{1,9}$")
TokenId = Annotated[str, Field(json_schema_extra={"pattern": TOKEN_ID.pattern})]


class StreamOptions(ApiModel):
    """Options for a stream."""

    include_usage: bool | None = Field(None, description="Send a final chunk with the usage and no choices.")
    continuous_usage_stats: bool | None = Field(None, description="Send the usage so far in every chunk.")
    include_obfuscation: bool | None = Field(None, description="Accepted; events are never padded.")


Label = Annotated[str, Field(min_length=1, max_length=256)]


class GenerationFields(ApiModel):
    """Request fields common to all routes that generate text."""

    model: str | None = Field(None, description="ID of a served model; defaults to the first.", examples=["lfm2-demo"])
    temperature: float | None = Field(
        None, ge=0, le=2, description="Sampling temperature; 0 always takes the most likely token.", examples=[0.3]
    )
    top_p: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Sample from the most likely tokens with this total probability; 0 takes the most likely one.",
        examples=[0.9],
    )
    top_k: Annotated[int, Field(ge=-1), AfterValidator(lambda k: max(k, 0))] | None = Field(
        None, description="Sample from this many of the most likely tokens; 0 or -1 turns it off.", examples=[40]
    )
    min_p: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Exclude tokens whose probability is below this fraction of the highest probability.",
        examples=[0.15],
    )
    typical_p: Annotated[
        None, BeforeValidator(unsupported("typical_p", off=1), json_schema_input_type=Literal[1] | None)
    ] = Field(None, description="Not supported; 1, which turns it off, is accepted.")
    repetition_penalty: float | None = Field(
        None,
        ge=0.01,
        le=10,
        description="Makes tokens of the prompt and the answer less likely; 1 turns it off.",
        examples=[1.05],
    )
    frequency_penalty: float | None = Field(
        None,
        ge=-2,
        le=2,
        description="Subtracted from a token's logit for each of its occurrences in the answer.",
        examples=[0.0],
    )
    presence_penalty: float | None = Field(
        None, ge=-2, le=2, description="Subtracted from the logits of tokens that occur in the answer.", examples=[0.0]
    )
    logit_bias: dict[TokenId, Annotated[float, Field(ge=-100, le=100)]] | None = Field(
        None, description="Values added to the logits of tokens, by token ID.", examples=[{"42": -100}]
    )
    seed: int | None = Field(
        None,
        ge=-(2**63),
        lt=2**63,
        description="Makes sampling reproducible for the same request on the same server.",
        examples=[7],
    )
    n: int | None = Field(None, ge=1, le=MAX_CHOICES, description="Number of choices; 1 by default.", examples=[1])
    stop: Annotated[
        list[Annotated[str, Field(min_length=1)]] | None, Field(max_length=MAX_STOPS), BeforeValidator(_stops)
    ] = Field(
        None,
        description="The answer ends before the first of these strings. A single string may be sent without a list.",
        examples=[["\n\n"]],
        json_schema_extra=also({"type": "string", "minLength": 1}),
    )
    stop_token_ids: list[int] | None = Field(
        None, description="IDs of tokens that end the answer, in addition to the model's own.", examples=[[7]]
    )
    min_tokens: int | None = Field(
        None, ge=0, description="Minimum tokens before the model may end the answer.", examples=[0]
    )
    ignore_eos: bool | None = Field(
        None, description="Keep generating after the end token, up to the limit.", examples=[False]
    )
    skip_special_tokens: bool | None = Field(
        None, description="Leave special tokens out of the text; true by default.", examples=[True]
    )
    return_token_ids: bool | None = Field(
        None, description="Return the token IDs of the prompt and the answer.", examples=[False]
    )
    priority: int | None = Field(
        None,
        ge=-(2**31),
        lt=2**31,
        description="Order of a tenant's queued requests, lowest first; 0 by default.",
        examples=[0],
    )
    cache_salt: Label | None = Field(
        None, description="Only requests with the same salt share cached prefixes.", examples=["team-7"]
    )
    stream: bool | None = Field(None, description="Send the answer as a stream of events.", examples=[False])
    stream_options: StreamOptions | None = Field(None, description="Requires `stream`.")

    @model_validator(mode="before")
    @classmethod
    def _log_unknown_fields(cls, body: Any) -> Any:
        unknown = sorted(body.keys() - cls.model_fields.keys()) if isinstance(body, dict) else []
        if unknown:
            logger.debug("Unknown fields are ignored: %.*s.", MAX_SHOWN, json.dumps(unknown))
        return body

    @model_validator(mode="after")
    def _generation_fields_agree(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options requires stream: true.", field="stream_options")
        for token in self.logit_bias or {}:
            if not TOKEN_ID.fullmatch(token):
                message = f"logit_bias maps token IDs to numbers; {token[:40]!r} is not a token ID."
                raise invalid(message, field="logit_bias")
        return self
