"""Builds responses in OpenAI's JSON."""

from __future__ import annotations

import time
import uuid
from typing import Any

from server.api.http.api_error import ApiError
from server.api.responses.fields import ResponseRequest
from server.api.responses.output.wire import OutputItem, ResponseBody, ResponseError, ResponseUsage, Status
from server.api.responses.tools import ResponseTool
from server.chat.completion import AnyCompletion
from server.engine.types import SamplingParams

REQUIRED_FIELDS: dict[str, dict[str, Any]] = {
    "function": {"parameters": None, "strict": None},
    "namespace": {"description": ""},
}
"""Defaults of the fields that tools in a response must have, by type."""


def new_response_id() -> str:
    """Return a new response ID."""
    return f"resp_{uuid.uuid4().hex}"


def new_response(response_id: str, body: ResponseRequest, model: str, sampling: SamplingParams) -> ResponseBody:
    """Return a new response to `body`, with an empty output.

    model: name of the served model.
    sampling: the sampling parameters used.
    """
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "background": bool(body.background),
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": None, "summary": None} | (_sent(body.reasoning) if body.reasoning else {}),
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": body.store is not False,
        "temperature": sampling.temperature,
        "text": {"format": {"type": "text"}} | (_sent(body.text) if body.text else {}),
        "tool_choice": _tool_choice(body),
        "tools": [_tool(tool) for tool in body.tools or () if not tool.built_in],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": sampling.top_p,
        "truncation": body.truncation or "disabled",
        "usage": None,
        "user": body.user,
    }


def ended(response: ResponseBody, status: Status, output: list[OutputItem], used: ResponseUsage | None) -> ResponseBody:
    """Return `response` with its final status, output and token counts."""
    final: ResponseBody = {**response, "status": status, "output": output, "usage": used}
    if status == "completed":
        final["completed_at"] = int(time.time())
    elif status == "incomplete":
        final["incomplete_details"] = {"reason": "max_output_tokens"}
    return final


def usage(completion: AnyCompletion) -> ResponseUsage:
    """Return a completion's token counts so far."""
    return {
        "input_tokens": completion.prompt_tokens,
        "input_tokens_details": {"cached_tokens": completion.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": completion.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": completion.reasoning_tokens},
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
    }


def response_error(error: ApiError) -> ResponseError:
    """Return `error` as the field `error` of a failed response."""
    code = "rate_limit_exceeded" if error.status == 429 else "invalid_prompt" if error.status == 400 else "server_error"
    return {"code": code, "message": error.message}


def _sent(model: Any) -> dict[str, Any]:
    """Return a part of the request as JSON, without null fields."""
    fields: dict[str, Any] = model.model_dump(by_alias=True, exclude_none=True)
    return fields


def _tool(tool: ResponseTool) -> dict[str, Any]:
    return REQUIRED_FIELDS.get(tool.type, {}) | _sent(tool)


def _tool_choice(body: ResponseRequest) -> str | dict[str, Any]:
    choice = body.tool_choice
    if choice is None:
        return "auto"
    return choice.type if choice.type in ("none", "auto", "required") else _sent(choice)
