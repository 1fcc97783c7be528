"""The JSON form of calls for models whose vocabulary has no call markers.

The form is the one in which the model's chat template shows the calls of an assistant message, such as
`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Render = Callable[[list[dict[str, Any]]], str]


@dataclass(frozen=True, slots=True)
class CallForm:
    """One call is `opening`, an object with the members "name" and `arguments`, and `closing`.

    `separator` is the text between two calls; None if an answer has only one.
    """

    opening: str = ""
    arguments: str = "arguments"
    closing: str = ""
    separator: str | None = None

    def before_arguments(self, name: str) -> str:
        """Return the text of a call of the function `name` up to its arguments."""
        return f'{self.opening}{{"name": {json.dumps(name, ensure_ascii=False)}, "{self.arguments}": '

    @property
    def after_arguments(self) -> str:
        """The text of a call after its arguments."""
        return "}" + self.closing

    def written(self, calls: Sequence[tuple[str, str]]) -> str:
        """Return the text of calls, each (name, arguments as JSON text)."""
        separator = "\n" if self.separator is None else self.separator
        return separator.join(self.before_arguments(name) + text + self.after_arguments for name, text in calls)


def call_form(render: Render, special: Sequence[str]) -> CallForm:
    """Return the form of calls in the chats that `render` renders.

    Returns the form without opening and closing if `render` shows calls in a form of another kind, or with `special`
    tokens. Passes on what `render` raises.
    """
    name, value = f"name{secrets.token_hex(8)}", f"value{secrets.token_hex(8)}"
    function = {"name": name, "arguments": {"key": value}}
    call = {"id": "call00000", "type": "function", "function": function}
    one = _shown_calls(render, [call])
    start = one.find("{")
    try:
        shown, end = json.JSONDecoder().raw_decode(one, max(start, 0))
    except ValueError:
        return CallForm()
    arguments = next((key for key in ("arguments", "parameters") if shown == {"name": name, key: {"key": value}}), None)
    opening, closing = one[:start], one[end:]
    if arguments is None or any(token in opening + closing for token in special):
        return CallForm()
    two = _shown_calls(render, [call, call])
    repeats = two.startswith(one) and two.endswith(one) and len(two) >= 2 * len(one)
    return CallForm(opening, arguments, closing, two[len(one) : -len(one)] if repeats else None)


def _shown_calls(render: Render, calls: Sequence[Mapping[str, Any]]) -> str:
    """Return how a template shows the calls of an assistant message; empty if it does not."""
    mark = secrets.token_hex(16)
    question = {"role": "user", "content": "?"}
    before, _, after = render([question, {"role": "assistant", "content": mark}]).partition(mark)
    text = render([question, {"role": "assistant", "content": "", "tool_calls": list(calls)}])
    before = before.rstrip()
    return text[len(before) :].removesuffix(after).strip() if text.startswith(before) else ""
