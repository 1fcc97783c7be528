"""The Messages route with a valid body, and checks of its answers, events and errors by the SDK's types."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from pydantic import TypeAdapter

from server.engine.types import RequestContext
from tests.http.field_tables import SAMPLED
from tests.serving import Server, recorded_requests

EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
PING = {"name": "ping", "input_schema": {"type": "object", "properties": {}}}
PONG = {**PING, "name": "pong"}
CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


@dataclass(frozen=True)
class Route:
    """The route with a valid body; every answer and event must be of the SDK's type."""

    server: Server

    def post(self, path: str = "", **fields: Any) -> httpx.Response:
        body = {"messages": [user("hello")], "max_tokens": 20, **SAMPLED, **fields}
        return httpx.post(f"{self.server.url}/v1/messages{path}", json=body, timeout=60)

    def ask(self, **fields: Any) -> Any:
        answer = self.post(**fields)
        assert answer.status_code == 200, answer.text
        Message.model_validate_json(answer.content, strict=True)
        return answer.json()

    def said(self, **fields: Any) -> str:
        return "".join(block["text"] for block in self.ask(**fields)["content"] if block["type"] == "text")

    def used(self, **fields: Any) -> tuple[int, int]:
        """Return the number of tokens of the prompt and the answer."""
        usage = self.ask(**fields)["usage"]
        return usage["input_tokens"] + usage["cache_read_input_tokens"], usage["output_tokens"]

    def prompt(self, **fields: Any) -> list[int]:
        """Return the token IDs of the prompt."""
        ids: list[int] = self.ask(**fields, return_token_ids=True)["prompt_token_ids"]
        return ids

    def called(self, **fields: Any) -> list[str]:
        """Return the names of the called tools."""
        content = self.ask(**{"max_tokens": 200} | fields)["content"]
        return [block["name"] for block in content if block["type"] == "tool_use"]

    def events(self, **fields: Any) -> list[Any]:
        answer = self.post(stream=True, **fields)
        assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
        events = []
        for event in answer.text.removesuffix("\n\n").split("\n\n"):
            name, data = event.split("\n")
            events.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {events[-1]['type']}"
            if name != "event: ping":
                EVENT.validate_json(data.removeprefix("data: "), strict=True)
        return [event for event in events if event["type"] != "ping"]

    def context(self, **fields: Any) -> RequestContext:
        """Return the context that the engine gets."""
        with recorded_requests(self.server) as requests:
            self.ask(**fields)
        return requests[0].context


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Check a response's status and Anthropic's shape, and return its error."""
    assert answer.status_code == status, answer.text
    ErrorResponse.model_validate_json(answer.content, strict=True)
    body = answer.json()
    assert body.keys() == {"type", "error", "request_id"}
    assert body["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
    error: dict[str, Any] = body["error"]
    assert error.keys() == {"type", "message"}
    return error
