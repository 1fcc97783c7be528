"""Defines the options of `lfm-serve serve`, `prepare`, `export` and `cache`.

Example: the field `max_seqs` defines `--max-seqs` and the environment variable `LFM_MAX_SEQS`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    DirectoryPath,
    Field,
    FilePath,
    SecretStr,
    TypeAdapter,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from server.chat.thinking import Effort

ENV_PREFIX = "LFM_"

Text = Annotated[str, Field(min_length=1)]
AtLeastOne = Annotated[int, Field(ge=1)]
_BUDGETS = TypeAdapter(dict[Effort, Annotated[int, Field(ge=0, strict=True)] | None])
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SamplingOverrides(BaseModel):
    """Sampling parameters that an operator may set with `default_sampling`.

    Parameters that are not set keep the model's own defaults.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    temperature: float = Field(1, ge=0, le=2)
    top_k: Annotated[int, Field(ge=-1), AfterValidator(lambda k: max(k, 0))] = 0  # vLLM turns top_k off with -1
    top_p: float = Field(1, ge=0, le=1)
    min_p: float = Field(0, ge=0, le=1)
    repetition_penalty: float = Field(1, ge=0.01, le=10)
    frequency_penalty: float = Field(0, ge=-2, le=2)
    presence_penalty: float = Field(0, ge=-2, le=2)


def names(value: object) -> object:
    """Split the text of an environment variable into names.

    Examples: "a,b" -> ["a", "b"], '["a"]' -> ["a"]. Other types are returned unchanged.
    """
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("["):
        return [name.strip() for name in value.split(",")]
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("must be names separated by commas, or a JSON list of names") from None


def _overrides(value: object) -> dict[str, float | int]:
    """Return the sampling parameters in `value`, which is JSON text or a dict."""
    if isinstance(value, str):
        return SamplingOverrides.model_validate_json(value).model_dump(exclude_unset=True)
    return SamplingOverrides.model_validate(value).model_dump(exclude_unset=True)


def _budgets(value: object) -> dict[Effort, int | None]:
    """Return the thinking budgets in `value`, which is JSON text or a dict."""
    return _BUDGETS.validate_json(value) if isinstance(value, str) else _BUDGETS.validate_python(value)


class ModelSettings(BaseSettings):
    """Options that select a model and how it runs.

    An argument overrides an environment variable. An empty variable counts as unset.

    Raises pydantic's ValidationError if a value is invalid.
    """

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True)

    model: Text | None = Field(None, description="model folder or hub repository (default: the built-in model)")
    revision: Text | None = Field(None, description="branch, tag or commit of the hub repository (default: main)")
    dtype: Text = Field(
        "auto", description="dtype of the weights; auto picks the first available of q4, q4f16, fp16, fp32"
    )
    precision: Literal["fast", "exact"] = Field(
        "fast", description="fast uses int8 activations in 4-bit layers; exact runs the graph as exported"
    )
    threads: AtLeastOne | None = Field(
        None, description="number of compute threads (default: the cores available to the process)"
    )
    kernels: Literal["auto", "native", "onnxruntime"] = Field(
        "auto", description="kernels for 4- and 8-bit layers; auto picks native if this machine can run them"
    )
    prepared_folder: Path | None = Field(
        None, description="folder of prepared copies (default: lfm-serve/prepared in the user's cache)"
    )


class Settings(ModelSettings):
    """All options of a server."""

    no_prepare: bool = Field(
        False, description="do not write a prepared copy of a large model on its first start (default: off)"
    )
    weights: Literal["mapped", "shared"] = Field(
        "mapped", description="memory of a prepared copy's weights: mapped from its file, or shared memory"
    )
    host: Text = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    api_key: Annotated[SecretStr, Field(min_length=1)] | None = Field(
        None, description="API key that requests must send (default: none)"
    )
    api_keys_file: FilePath | None = Field(
        None, description="TOML file of named API keys, each with its own rate limits (default: none)"
    )
    ssl_certfile: FilePath | None = Field(None, description="PEM certificate for HTTPS (default: plain HTTP)")
    ssl_keyfile: FilePath | None = Field(
        None, description="PEM private key of the certificate (default: read from the certificate file)"
    )
    cors_origin: Annotated[tuple[Text, ...], NoDecode, BeforeValidator(names)] = Field(
        (), description="web origin allowed to send requests, or * for all; repeatable (default: none)"
    )
    no_playground: bool = Field(False, description="do not serve the page to try the model at / (default: off)")
    forwarded_allow_ips: Text = Field(
        "127.0.0.1", description="comma-separated addresses of proxies whose X-Forwarded-For header is trusted"
    )
    served_model_name: Annotated[tuple[Text, ...], NoDecode, BeforeValidator(names)] = Field(
        (), description="model name that clients use; repeatable (default: the repository or folder name)"
    )
    chat_template: FilePath | None = Field(
        None, description="Jinja file with the chat template (default: the model's own)"
    )
    default_sampling: Annotated[dict[str, float | int], NoDecode, BeforeValidator(_overrides)] = Field(
        {},
        description='default sampling parameters as JSON, such as {"temperature": 0.7} (default: the model\'s own)',
    )
    tool_constraints: Literal["always", "requested"] = Field(
        "always",
        description="when to constrain tool calls: always, or only if requested (strict, required or named tools)",
    )
    default_thinking_budget: Annotated[int, Field(ge=0)] | None = Field(
        None, description="maximum tokens of thoughts if a request sets no budget (default: unlimited)"
    )
    thinking_budgets: Annotated[dict[Effort, int | None], NoDecode, BeforeValidator(_budgets)] = Field(
        {},
        description="thinking budgets by effort as JSON, null for unlimited "
        "(default: none 0, minimal 128, low 512, medium 2048)",
    )
    max_model_len: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="maximum tokens of prompt and answer together "
        "(default: the model's context length; for known LFM2 models, the one in the model card)",
    )
    max_seqs: AtLeastOne = Field(16, description="maximum sequences running at once")
    max_waiting: int = Field(64, ge=0, description="maximum requests waiting for a slot; further ones get a 429")
    max_waiting_tokens: AtLeastOne = Field(
        262144, description="maximum prompt tokens waiting in total; further requests get a 429"
    )
    max_queue_time: Seconds = Field(300, description="seconds a request may wait in the queue")
    request_timeout: Seconds = Field(1800, description="seconds a request may take in total")
    max_output_tokens: AtLeastOne | None = Field(
        None, description="maximum tokens in an answer (default: limited by --max-model-len only)"
    )
    max_n: Annotated[int, Field(ge=1, le=128)] = Field(8, description="maximum choices (n) per request")
    max_body: AtLeastOne = Field(2097152, description="maximum size of a request body, in bytes")
    max_connections: AtLeastOne = Field(4096, description="maximum open connections; further ones get a 503")
    read_timeout: Seconds = Field(
        60, description="seconds a client may take to send a request's headers, and again to send its body"
    )
    client_idle_timeout: Seconds = Field(
        60, description="seconds a client may stop reading its response before the connection is closed"
    )
    keep_alive: AtLeastOne = Field(
        75, description="seconds an idle connection stays open; keep it above the idle timeout of a proxy"
    )
    sse_ping: Seconds = Field(15, description="seconds between keep-alive comments in a stream")
    step_timeout: Seconds = Field(
        120, description="seconds after which a running engine step counts as hanging and /ready returns 503"
    )
    drain_delay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0, description="seconds to keep accepting requests after the signal to stop"
    )
    drain_timeout: Seconds = Field(30, description="seconds that running requests have to finish after --drain-delay")
    responses_memory: AtLeastOne = Field(
        64, description="size of the stored responses in MiB; the least recently used ones are dropped first"
    )
    responses_file: Path | None = Field(
        None, description="SQLite file that stores responses instead, across restarts (default: in memory)"
    )
    responses_ttl: Seconds = Field(2592000, description="seconds that a stored response is kept; 2592000 are 30 days")
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="format of log lines; auto is text in a terminal, json elsewhere"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level to log")
    log_prompts: bool = Field(False, description="also log the prompts of requests (default: off)")
    metrics_compat: Literal["vllm", "none"] = Field(
        "vllm", description="also expose metrics under the names of another server, for gateways and dashboards"
    )
    kv_events_endpoint: Text | None = Field(
        None, description="ZeroMQ endpoint for KV events of the prefix cache, such as tcp://*:5557 (default: none)"
    )
    kv_events_replay_endpoint: Text | None = Field(
        None, description="ZeroMQ endpoint at which subscribers request missed KV events (default: none)"
    )
    kv_events_topic: Text | None = Field(None, description="topic of KV events (default: kv@HOSTNAME@MODEL)")
    itl_target: float = Field(
        1.0, gt=0, le=60, description="maximum seconds between two tokens of a stream while prompts are prefilled"
    )
    cache_memory: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="size of the prefix cache in MiB, 0 to disable it "
        "(default: half of the memory for state, at most 4096)",
    )
    cache_folder: Path | None = Field(
        None, description="folder that keeps the prefix cache across restarts; servers may share it (default: none)"
    )
    cache_disk: AtLeastOne = Field(10, description="maximum size of the cache folder in GiB")
    cache_disk_dtype: Literal["state", "float16"] = Field(
        "state", description="dtype of KV in the cache folder: that of the model's state, or float16, which halves it"
    )


class Prepare(ModelSettings):
    """Options of `lfm-serve prepare`."""

    prune: bool = Field(False, description="remove unfinished and outdated copies; prepare no model")


class Cache(BaseSettings):
    """Options of `lfm-serve cache`."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True)

    action: Literal["ls", "stats", "clear"]
    cache_folder: DirectoryPath = Field(description="folder of a server's prefix cache")


class Export(BaseModel):
    """Options of `lfm-serve export`.

    source: a checkpoint folder or, if `random` is set, the name of a shape such as lfm2-8b-a1b.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    out: Path
    random: bool = Field(False, description="export random weights; CHECKPOINT is a shape such as lfm2-8b-a1b")
    dtype: Literal["fp32", "q4"] = Field(description="dtype of the weights: fp32, or q4 (4 bits), the fastest on CPUs")
    tokenizer: Path | None = Field(
        None, description="with --random: folder with the tokenizer to use (default: the built-in model's)"
    )
    seed: int = Field(0, ge=0, description="with --random: seed of the weights")
