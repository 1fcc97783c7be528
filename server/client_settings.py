"""Defines the options of `lfm-serve bench`, in the way of `server.settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from server.client.urls import NamedUrl, named_url
from server.settings import AtLeastOne, Text

NamedUrlText = Annotated[NamedUrl, BeforeValidator(named_url)]
Part = Literal["clients", "pace", "prefixes"]


def _distinct(urls: tuple[NamedUrl, ...]) -> tuple[NamedUrl, ...]:
    """Return the URLs. Raises ValueError if two of them have the same name."""
    if len({url.name for url in urls}) < len(urls):
        raise ValueError("two servers have the same name; name them with NAME=URL")
    return urls


class Bench(BaseModel):
    """The options of `lfm-serve bench`; they have no variables."""

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
