"""Chats with a common system message, and how their streams end."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import httpx

from tests.chats import CHAT

if TYPE_CHECKING:
    from benchmarks.ray_cluster import RayCluster

SECONDS = 120
SYSTEM = {"role": "system", "content": "You are the assistant of a library and answer from its catalogue. " * 40}


def chat(user: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [SYSTEM, {"role": "user", "content": user}], "max_tokens": 8, "ignore_eos": True, **fields}


def outcome(
    cluster: RayCluster, user: str, tokens: int, session: str = "", started: threading.Semaphore | None = None
) -> str:
    """Stream an answer; returns how it ended: its finish reason, or the code of the error after its first token.

    started: released at the first token.
    """
    end = ""
    body, headers = chat(user, stream=True, max_tokens=tokens), {"x-session-id": session}
    with httpx.stream("POST", f"{cluster.url}{CHAT}", json=body, headers=headers, timeout=SECONDS) as response:
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            if "error" in event:
                return event["error"]["code"] if end else "an error without a token"
            if not end and started is not None:
                started.release()
            end = event["choices"][0]["finish_reason"] or "broken off"
    return end
