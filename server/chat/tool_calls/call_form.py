"""Finds out how a model without call markers in its vocabulary writes calls.

The chat template shows the form of calls when it renders an assistant message that has calls. An example of the form:
`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`
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

    A call is `opening`, then a JSON object with the function's name and its arguments, then `closing`.
    arguments: name of the object's member that holds the arguments.
    separator: the text between two calls; None if an answer has only one call.
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
    """Return the form in which a chat template shows calls.

    If the template does not show calls as JSON objects, or if it puts special tokens around them, returns `CallForm()`:
    a call is then a JSON object without text around it.

    render: renders a chat with the template. If `render` raises an error, the error propagates.
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
    """Return the text with which a template shows the calls of an assistant message.

    Returns an empty string if the template does not show calls.
    """
    mark = secrets.token_hex(16)
    question = {"role": "user", "content": "?"}
    before, _, after = render([question, {"role": "assistant", "content": mark}]).partition(mark)
    text = render([question, {"role": "assistant", "content": "", "tool_calls": list(calls)}])
    before = before.rstrip()
    return text[len(before) :].removesuffix(after).strip() if text.startswith(before) else ""
