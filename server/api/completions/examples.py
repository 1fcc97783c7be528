"""Example completion requests and an example stream for /docs."""

from __future__ import annotations

from typing import Any

COMPLETION_REQUESTS: dict[str, Any] = {
    "Continuation": {"prompt": "Once upon", "max_tokens": 16},
    "Log-probabilities of a text": {"prompt": "Once upon a time", "max_tokens": 0, "echo": True, "logprobs": 1},
}

_TEXT_CHUNK = '{"id": "cmpl-0f3a", "object": "text_completion", "created": 1767225600, "model": "lfm2-demo", '
COMPLETION_STREAM = (
    f'data: {_TEXT_CHUNK}"system_fingerprint": "fp_1c0ffee", "choices": '
    '[{"index": 0, "text": " a time", "logprobs": null, "finish_reason": null}]}\n\n'
    "data: [DONE]\n\n"
)
