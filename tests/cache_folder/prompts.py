"""Prompts, their answers, and the cache's part in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.scraping import Scrape
from tests.serving import Server
from tests.waiting import wait_until

PROMPT_TOKENS = 400
BLOCKS = PROMPT_TOKENS // 64
CACHED_TOKENS = BLOCKS * 64


def prompt(seed: int = 0, length: int = PROMPT_TOKENS) -> list[int]:
    return [17 + (seed * 7919 + i * i * 31 + i) % 900 for i in range(length)]


@dataclass(frozen=True)
class Answer:
    text: str
    tokens: list[int]
    logprobs: list[float]
    cached: int


def complete(url: str, tokens: list[int], headers: dict[str, str] | None = None, **fields: object) -> Answer:
    """The greedy answer to a prompt of tokens."""
    body = {"model": "any", "prompt": tokens, "max_tokens": 6, "temperature": 0, "logprobs": 1, "ignore_eos": True}
    body |= {"return_token_ids": True} | fields
    response = httpx.post(f"{url}/v1/completions", json=body, headers=headers, timeout=120)
    assert response.status_code == 200, response.text
    answer = response.json()
    choice, cached = answer["choices"][0], answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    return Answer(choice["text"], choice["token_ids"], choice["logprobs"]["token_logprobs"], cached)


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "blocks").glob("??/*.safetensors"))


def until_written(folder: Path, count: int) -> None:
    """Wait until the folder has this many entries: they are written after the answer."""
    wait_until(lambda: len(entries(folder)) >= count)


def disk(server: Server, name: str) -> float:
    return Scrape(server.url)(f"lfm_disk_cache_{name}")
