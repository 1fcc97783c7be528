"""A route with a valid body, and checks of its answers and chunks by the types of OpenAI's SDK."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx

from server.engine.types import GenerationRequest, RequestContext
from tests.serving import Server, recorded_requests


@dataclass(frozen=True)
class Route:
    """A route with a valid body; every answer must be of the SDK's type."""

    server: Server
    path: str
    base: dict[str, Any]
    types: tuple[Any, Any] = (dict, dict)

    def post(self, **fields: Any) -> httpx.Response:
        return httpx.post(self.server.url + self.path, json=self.base | fields, timeout=60)

    def ask(self, **fields: Any) -> Any:
        answer = self.post(**fields)
        assert answer.status_code == 200, answer.text
        if hasattr(self.types[0], "model_validate"):
            self.types[0].model_validate(answer.json())
        return answer.json()

    def choice(self, **fields: Any) -> Any:
        return self.ask(**fields)["choices"][0]

    def said(self, **fields: Any) -> str:
        choice = self.choice(**fields)
        text: str = choice["text"] if "text" in choice else choice["message"]["content"]
        return text

    def used(self, **fields: Any) -> tuple[int, int]:
        """Return the number of tokens of the prompt and the answer."""
        usage = self.ask(**fields)["usage"]
        return usage["prompt_tokens"], usage["completion_tokens"]

    def chunks(self, **fields: Any) -> list[Any]:
        answer = self.post(stream=True, **fields)
        assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
        *events, done = answer.text.removesuffix("\n\n").split("\n\n")
        assert done == "data: [DONE]"
        chunks = [json.loads(event.removeprefix("data: ")) for event in events]
        if hasattr(self.types[1], "model_validate"):
            for chunk in chunks:
                self.types[1].model_validate(chunk)
        return chunks

    def requested(self, **fields: Any) -> GenerationRequest:
        """Return the request that the engine gets."""
        with recorded_requests(self.server) as requests:
            self.ask(**fields)
        return requests[0]

    def context(self, **fields: Any) -> RequestContext:
        """Return the context that the engine gets."""
        return self.requested(**fields).context
