"""The responses route with a valid body; its answers and events must be of the SDK's types."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from server.engine.types import RequestContext
from tests.http.field_tables import SAMPLED
from tests.serving import Server, recorded_requests

PING = {"type": "function", "name": "ping"}
SHELL = {"type": "custom", "name": "shell"}
AB = {"format": {"type": "json_schema", "name": "ab", "schema": {"enum": ["ab"]}}}
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


@dataclass(frozen=True)
class Route:
    """The route with a valid body; every answer and event must be of the SDK's type."""

    server: Server

    def post(self, **fields: Any) -> httpx.Response:
        body = {"input": "hello", "max_output_tokens": 20, **SAMPLED, **fields}
        return httpx.post(f"{self.server.url}/v1/responses", json=body, timeout=60)

    def ask(self, **fields: Any) -> Any:
        answer = self.post(**fields)
        assert answer.status_code == 200, answer.text
        Response.model_validate(answer.json(), strict=True)
        return answer.json()

    def said(self, **fields: Any) -> str:
        return "".join(
            part["text"]
            for item in self.ask(**fields)["output"]
            if item["type"] == "message"
            for part in item["content"]
        )

    def used(self, **fields: Any) -> tuple[int, int]:
        """Return the number of tokens of the prompt and the answer."""
        usage = self.ask(**fields)["usage"]
        return usage["input_tokens"], usage["output_tokens"]

    def prompt(self, **fields: Any) -> list[int]:
        """Return the token IDs of the prompt."""
        ids: list[int] = self.ask(**fields, return_token_ids=True)["prompt_token_ids"]
        return ids

    def called(self, **fields: Any) -> list[str]:
        """Return the names of the called tools."""
        output = self.ask(**{"max_output_tokens": 200} | fields)["output"]
        return [item["name"] for item in output if item["type"] in ("function_call", "custom_tool_call")]

    def events(self, **fields: Any) -> list[Any]:
        answer = self.post(stream=True, **fields)
        assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
        events = []
        for text in answer.text.removesuffix("\n\n").split("\n\n"):
            name, data = text.split("\n")
            event = json.loads(data.removeprefix("data: "))
            assert name == f"event: {event['type']}"
            EVENT.validate_python(event)
            events.append(event)
        return events

    def context(self, **fields: Any) -> RequestContext:
        """Return the context that the engine gets."""
        with recorded_requests(self.server) as requests:
            self.ask(**fields)
        return requests[0].context
