"""Every option of `lfm-serve serve`, once: its name, type, range, default, unit and help. Knows no command line.

A field `max_seqs` is the flag `--max-seqs` (see `server.cli`) and the environment variable `LFM_MAX_SEQS`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FilePath, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ENV_PREFIX = "LFM_"

Text = Annotated[str, Field(min_length=1)]
AtLeastOne = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SamplingOverrides(BaseModel):
    """What `default_sampling` may hold, with ranges; only what is set counts, the defaults do nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    temperature: float = Field(1, ge=0, le=2)
    top_k: int = Field(0, ge=0)
    top_p: float = Field(1, gt=0, le=1)
    min_p: float = Field(0, ge=0, le=1)
    repetition_penalty: float = Field(1, ge=0.01, le=10)
    frequency_penalty: float = Field(0, ge=-2, le=2)
    presence_penalty: float = Field(0, ge=-2, le=2)


def _names(value: object) -> object:
    """The names in a variable: one, several separated by commas, or a JSON list; a list is taken as it is."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("["):
        return [name.strip() for name in value.split(",")]
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("names separated by commas or a JSON list of names is needed") from None


def _overrides(value: object) -> dict[str, float | int]:
    """The parameters that a JSON object, as text or read already, sets."""
    if isinstance(value, str):
        return SamplingOverrides.model_validate_json(value).model_dump(exclude_unset=True)
    return SamplingOverrides.model_validate(value).model_dump(exclude_unset=True)


class ModelSettings(BaseSettings):
    """Which model, and how it computes: from arguments, else from the environment, where an empty variable is none.

    Raises pydantic's ValidationError for a value that is not allowed. A description states the default in words where
    the value does not tell.
    """

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True)

    model: Text | None = Field(None, description="a folder, or a repository on the hub (default: built-in)")
    revision: Text | None = Field(None, description="the branch, tag or commit of a hub repository (default: main)")
    dtype: Text = Field(
        "auto", description="which of the model's dtypes; auto is the first there is of q4, q4f16, fp16, fp32"
    )
    precision: Literal["fast", "exact"] = Field(
        "fast", description="fast computes 4-bit layers with int8 activations, exact computes the graph as exported"
    )
    threads: AtLeastOne | None = Field(
        None, description="the threads that compute (default: the cores that the process may use)"
    )
    prepared_folder: Path | None = Field(
        None, description="where prepared models are (default: lfm-serve/prepared in the user's cache)"
    )


class Settings(ModelSettings):
    """How a server was started."""

    host: Text = Field("127.0.0.1", description="the address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="the port to listen on; 0 is any free one")
    api_key: Annotated[SecretStr, Field(min_length=1)] | None = Field(
        None, description="the key that requests must bring (default: none)"
    )
    api_keys_file: FilePath | None = Field(
        None, description="a TOML file of named keys with limits of their own (default: none)"
    )
    ssl_certfile: FilePath | None = Field(None, description="the certificate, in PEM, to serve HTTPS (default: HTTP)")
    ssl_keyfile: FilePath | None = Field(
        None, description="the certificate's private key (default: in the certificate's file)"
    )
    cors_origin: Annotated[tuple[Text, ...], NoDecode, BeforeValidator(_names)] = Field(
        (), description="an origin whose web pages may ask, or *; may be repeated (default: none)"
    )
    forwarded_allow_ips: Text = Field(
        "127.0.0.1", description="proxies, separated by commas, whose X-Forwarded-For is believed"
    )
    served_model_name: Annotated[tuple[Text, ...], NoDecode, BeforeValidator(_names)] = Field(
        (), description="the id that requests name; may be repeated (default: the repository's or folder's name)"
    )
    chat_template: FilePath | None = Field(
        None, description="a Jinja file to use as chat template (default: the model's own)"
    )
    default_sampling: Annotated[dict[str, float | int], NoDecode, BeforeValidator(_overrides)] = Field(
        {},
        description='JSON such as {"temperature": 0.7} for what a request does not set (default: the model\'s own)',
    )
    tool_constraints: Literal["always", "requested"] = Field(
        "always",
        description="hold calls to their form: always, or where it is requested (strict, required, named)",
    )
    max_model_len: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="the longest prompt and answer together, in tokens "
        "(default: what the model has positions for; for LFM2 at most 32768)",
    )
    max_seqs: AtLeastOne = Field(16, description="how many sequences run at once")
    max_waiting: int = Field(64, ge=0, description="how many requests wait for a slot; beyond that the answer is 429")
    max_waiting_tokens: AtLeastOne = Field(
        262144, description="how many tokens the prompts that wait have together; beyond that the answer is 429"
    )
    max_queue_time: Seconds = Field(300, description="how long a request waits for its turn, in seconds")
    request_timeout: Seconds = Field(1800, description="how long a request may take in all, in seconds")
    max_output_tokens: AtLeastOne | None = Field(
        None, description="the longest answer, in tokens (default: up to --max-model-len)"
    )
    max_n: Annotated[int, Field(ge=1, le=128)] = Field(8, description="the most choices that a request may ask for")
    max_body: AtLeastOne = Field(2097152, description="the largest request, in bytes")
    max_connections: AtLeastOne = Field(4096, description="how many connections are served; to those beyond it is 503")
    read_timeout: Seconds = Field(
        60, description="how long a client may take to send a request's headers, and its body, in seconds"
    )
    client_idle_timeout: Seconds = Field(60, description="how long a client may read nothing of its answer, in seconds")
    keep_alive: AtLeastOne = Field(
        75, description="how long a connection stays open between requests, in seconds: longer than a proxy keeps it"
    )
    sse_ping: Seconds = Field(15, description="a stream sends a comment where it has nothing else for so many seconds")
    step_timeout: Seconds = Field(120, description="a step of the engine that takes longer hangs: /ready says 503")
    drain_delay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0, description="how long the server that is told to stop still takes requests, in seconds"
    )
    drain_timeout: Seconds = Field(30, description="how long running answers then have to finish, in seconds")
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="text or json lines; auto is text in a terminal, else json"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="from which level on to log")
    log_prompts: bool = Field(False, description="log what requests ask, too; never without this (default: off)")
    itl_target: float = Field(
        1.0, gt=0, le=60, description="how long a stream may wait between two tokens for prompts to be read, in seconds"
    )
    cache_memory: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="the prefix cache's memory in MiB; 0 is no cache (default: half of what is left, at most 4096)",
    )
