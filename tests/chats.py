"""The chat that most tests send."""

from __future__ import annotations

from typing import Any

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
ENDLESS: dict[str, Any] = {"logit_bias": {"7": -100}, "temperature": 0}
"""Fields for an answer that only `max_tokens` ends, as the end token is never drawn."""
