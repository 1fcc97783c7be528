"""Defines the options of `lfm-serve chat` and `lfm-serve bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import NoDecode

from server.client.urls import NamedUrl, base_url, named_url
from server.settings import ENV_PREFIX, AtLeastOne, Settings, Text, names

NamedUrlText = Annotated[NamedUrl, BeforeValidator(named_url)]
Part = Literal["clients", "pace", "prefixes"]
NOT_FOR_CHAT = {
    *("host", "port", "api_keys_file", "ssl_certfile", "ssl_keyfile", "cors_origin", "forwarded_allow_ips"),
    *("log_format", "log_level", "log_prompts", "metrics_compat", "no_playground"),
    *("kv_events_endpoint", "kv_events_replay_endpoint", "kv_events_topic"),
}
"""Options of `serve` that `chat` lacks.

The server that `chat` starts uses a free local port and writes no log.
"""


class Chat(Settings):
    """Options of `lfm-serve chat`.

    Without `url`, the command starts a server. Most options are for that server.
    """

    url: Annotated[str, AfterValidator(base_url)] | None = Field(
        None, description="URL of a running server (default: start a server that ends with the chat)"
    )
    api_key: Annotated[SecretStr, Field(min_length=1)] | None = Field(
        None, description="API key to send (default: OPENAI_API_KEY with --url, else none)"
    )
    served_model_name: Annotated[tuple[Text, ...], NoDecode, BeforeValidator(names)] = Field(
        (), description="model name to request (default: the first one that the server lists)"
    )

    @classmethod
    def server_options(cls) -> list[str]:
        """Return the names of the options for the server that `chat` starts."""
        return [name for name in Settings.model_fields if name not in NOT_FOR_CHAT]

    def server_variables(self) -> dict[str, str]:
        """Return environment variables (LFM_*) for the server options that were set."""
        values = {name: getattr(self, name) for name in self.server_options() if name in self.model_fields_set}
        return {ENV_PREFIX + name.upper(): _as_variable(value) for name, value in values.items()}


def _as_variable(value: object) -> str:
    """Return an option's value as text for an environment variable."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, str | Path) else json.dumps(value)


def _distinct(urls: tuple[NamedUrl, ...]) -> tuple[NamedUrl, ...]:
    """Return `urls` unchanged.

    Raises ValueError if two of the URLs have the same name.
    """
    if len({url.name for url in urls}) < len(urls):
        raise ValueError("two servers have the same name; give each its own with NAME=URL")
    return urls


class Bench(BaseModel):
    """Options of `lfm-serve bench`. The environment variables LFM_* do not set them."""

    model_config = ConfigDict(frozen=True)

    url: Annotated[tuple[NamedUrlText, ...], AfterValidator(_distinct)] = Field(
        description="server to measure, as [NAME=]URL; repeatable: the first one is compared with the others"
    )
    api_key: Annotated[SecretStr, Field(min_length=1)] | None = Field(
        None, description="API key to send to every server (default: OPENAI_API_KEY, else none)"
    )
    served_model_name: Text | None = Field(
        None, description="model name to request (default: the first one that the server lists)"
    )
    only: tuple[Part, ...] = Field(
        ("clients", "pace", "prefixes"),
        description="questions to answer, of clients, pace and prefixes; repeatable (default: all)",
    )
    rounds: AtLeastOne = Field(2, description="times each server is measured, in turns")
    long_prompt: Annotated[int, Field(ge=64)] = Field(
        4000, description="tokens of the prompt that pace sends beside running streams"
    )
    out: Path = Field(Path("lfm-serve-bench"), description="folder for results (default: ./lfm-serve-bench)")
