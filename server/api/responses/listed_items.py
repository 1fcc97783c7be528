"""Converts input items to the JSON that is stored and listed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.api.responses.items import InputItem, Part

PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "reasoning": "rs",
}


def described(items: Sequence[InputItem], response_id: str) -> list[dict[str, Any]]:
    """Return input items as JSON for `GET /v1/responses/{id}/input_items`.

    Items without an ID get one.
    """
    suffix = response_id.removeprefix("resp_")
    return [_described(item, f"{PREFIXES[item.type]}_{suffix}_i{i}") for i, item in enumerate(items)]


def _described(item: InputItem, new_id: str) -> dict[str, Any]:
    described: dict[str, Any] = {"id": item.id or new_id, "type": item.type, "status": "completed"}
    for name in ("role", "call_id", "name", "namespace", "arguments", "input", "encrypted_content"):
        if (value := getattr(item, name)) is not None:
            described[name] = value
    if item.content is not None:
        kind = {"reasoning": "reasoning_text"}.get(
            item.type, "output_text" if item.role == "assistant" else "input_text"
        )
        described["content"] = [_part(part, kind) for part in item.content]
    if item.output is not None:
        described["output"] = [_part(part, "input_text") for part in item.output]
    if item.type == "reasoning":
        described["summary"] = [_part(part, "summary_text") for part in item.summary or ()]
    return described


def _part(part: Part, kind: str) -> dict[str, Any]:
    if part.type == "refusal":
        return {"type": "refusal", "refusal": part.content}
    described: dict[str, Any] = {"type": kind, "text": part.content}
    return described | ({"annotations": [], "logprobs": []} if kind == "output_text" else {})
