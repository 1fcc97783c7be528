"""Items of the assistant in the input become the messages that the model wrote."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.serving import Server, recorded_requests

QUESTION = {"role": "user", "content": "hello"}
CALL = {"type": "function_call", "call_id": "c", "name": "ping", "arguments": "{}"}
WRITTEN = [{"id": "c", "type": "function", "function": {"name": "ping", "arguments": "{}"}}]


def said(text: str, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **fields}


@pytest.mark.parametrize(
    ("items", "messages"),
    [
        ([said("a"), CALL], [said("a", tool_calls=WRITTEN)]),
        ([said("a"), CALL, said("b")], [said("ab", tool_calls=WRITTEN)]),
        ([said("a"), said("b"), CALL], [said("a"), said("b", tool_calls=WRITTEN)]),
        ([said("a"), CALL, said("b"), said("c")], [said("ab", tool_calls=WRITTEN), said("c")]),
        ([CALL, said("a"), said("b")], [said("a", tool_calls=WRITTEN), said("b")]),
    ],
)
def test_only_what_the_model_can_have_written_at_once_is_one_message(
    tiny: Server, items: list[Any], messages: list[Any]
) -> None:
    with recorded_requests(tiny) as requests:
        body = {"input": [QUESTION, *items, QUESTION], "max_output_tokens": 1}
        assert httpx.post(f"{tiny.url}/v1/responses", json=body, timeout=60).status_code == 200
        assert tiny.chat(messages=[QUESTION, *messages, QUESTION], max_tokens=1).status_code == 200
    assert requests[0].prompt == requests[1].prompt
