"""Clients that record the outcomes of their requests."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

CHAT = "/v1/chat/completions"
HANGS = 300.0
"""Seconds without a byte after which a request counts as hung."""


@dataclass(slots=True)
class Outcome:
    """How one request ended.

    end: finish reason, error code, "left" (by the client), "hung", "unanswered", or "broken" (after the first byte).
    first_token: seconds from the request to the first token; None if none came.
    seconds: duration of the request.
    """

    end: str = ""
    status: int = 0
    first_token: float | None = None
    seconds: float = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def is_complete(self) -> bool:
        return self.end in ("stop", "length", "tool_calls")


@dataclass(slots=True)
class Tally:
    """All outcomes of a server's clients."""

    outcomes: list[Outcome] = field(default_factory=list)

    def ends(self) -> Counter[str]:
        return Counter(outcome.end for outcome in self.outcomes)

    def tokens(self) -> tuple[int, int]:
        """Return the numbers of prompt tokens and of generated tokens."""
        prompts = sum(outcome.prompt_tokens for outcome in self.outcomes)
        return prompts, sum(outcome.completion_tokens for outcome in self.outcomes)


def connect(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
    return httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(30, read=HANGS, pool=None), limits=limits)


async def send(client: httpx.AsyncClient, body: dict[str, Any], leave_after: float | None = None) -> Outcome:
    """Send a chat and read its answer, or disconnect after `leave_after` seconds."""
    outcome, start = Outcome(), time.perf_counter()
    read = _streamed if body.get("stream") else _whole
    try:
        async with asyncio.timeout(leave_after):
            await read(client, body, outcome, start)
    except TimeoutError:
        outcome.end = "left"
    except httpx.ReadTimeout:
        outcome.end = "hung"
    except httpx.TransportError:
        outcome.end = "broken" if outcome.status else "unanswered"
    outcome.seconds = time.perf_counter() - start
    return outcome


async def _whole(client: httpx.AsyncClient, body: dict[str, Any], outcome: Outcome, start: float) -> None:
    answer = await client.post(CHAT, json=body)
    outcome.status, answer_body = answer.status_code, answer.json()
    if answer.is_success:
        outcome.end = answer_body["choices"][0]["finish_reason"]
        _count(outcome, answer_body["usage"])
    else:
        outcome.end = answer_body["error"]["code"]


async def _streamed(client: httpx.AsyncClient, body: dict[str, Any], outcome: Outcome, start: float) -> None:
    usage = {"include_usage": True, "continuous_usage_stats": True}
    async with client.stream("POST", CHAT, json={**body, "stream_options": usage}) as answer:
        outcome.status, finish = answer.status_code, ""
        if not answer.is_success:
            outcome.end = json.loads(await answer.aread())["error"]["code"]
            return
        async for line in answer.aiter_lines():
            if line == "data: [DONE]":
                outcome.end = finish
            elif line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                if "error" in event:
                    outcome.end = event["error"]["code"]
                    return
                _count(outcome, event["usage"])
                if outcome.first_token is None and outcome.completion_tokens:
                    outcome.first_token = time.perf_counter() - start
                for choice in event["choices"]:
                    finish = choice["finish_reason"] or finish
        outcome.end = outcome.end or "broken"


def _count(outcome: Outcome, usage: dict[str, int]) -> None:
    outcome.prompt_tokens, outcome.completion_tokens = usage["prompt_tokens"], usage["completion_tokens"]


async def keep_sending(count: int, until: float, one: Callable[[], Awaitable[Outcome]]) -> list[Outcome]:
    """Run `count` clients that repeat `one` until the monotonic time `until`."""
    outcomes = []

    async def client() -> None:
        while time.monotonic() < until:
            outcomes.append(await one())

    await asyncio.gather(*(client() for _ in range(count)))
    return outcomes
