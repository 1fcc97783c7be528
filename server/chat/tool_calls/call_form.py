"""Finds out how a model without call markers writes calls.

Its chat template shows this when it renders a call. Example: `<tool_call>{"name": ..., "arguments":
{...}}</tool_call>`.
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
    """The way in which a model without call markers writes calls.

    A call consists of `opening`, a JSON object with name and arguments, and `closing`.

    arguments: key of the arguments in this object.
    separator: text between two calls; None if an answer can have only one call.
    """

    opening: str = ""
    arguments: str = "arguments"
    closing: str = ""
    separator: str | None = None

    def before_arguments(self, name: str) -> str:
        """Return the text before the arguments in a call of the function `name`."""
        return f'{self.opening}{{"name": {json.dumps(name, ensure_ascii=False)}, "{self.arguments}": '

    @property
    def after_arguments(self) -> str:
        """The text after the arguments in a call."""
        return "}" + self.closing

    def written(self, calls: Sequence[tuple[str, str]]) -> str:
        """Return calls as the model writes them.

        calls: a pair (name, JSON text of the arguments) for each call.
        """
        separator = "\n" if self.separator is None else self.separator
        return separator.join(self.before_arguments(name) + text + self.after_arguments for name, text in calls)


def call_form(render: Render, special: Sequence[str]) -> CallForm:
    """Return how a chat template writes calls, or `CallForm()` if unclear.

    render: renders a chat. Its errors propagate.
    special: the text of each special token.
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
    """Return the text that a template renders for calls, or "" if it renders none."""
    mark = secrets.token_hex(16)
    question = {"role": "user", "content": "?"}
    before, _, after = render([question, {"role": "assistant", "content": mark}]).partition(mark)
    text = render([question, {"role": "assistant", "content": "", "tool_calls": list(calls)}])
    before = before.rstrip()
    return text[len(before) :].removesuffix(after).strip() if text.startswith(before) else ""
