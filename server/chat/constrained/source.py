"""Decides which grammar, if any, constrains the answer to a chat."""

from __future__ import annotations

import hashlib
import json

from server.chat.constrained.compiler import GrammarSource
from server.chat.constrained.grammar import CallMode, Grammar, call_grammar, text_grammar
from server.chat.types import Calling, TextForm
from server.errors import InvalidRequestError


def grammar_source(
    calling: Calling, text_form: TextForm | None, *, has_call_marker: bool, constrain_always: bool
) -> GrammarSource | None:
    """Return the source of the grammar that enforces `calling` and `text_form`; None leaves the answer free.

    has_call_marker: the model has the tokens that open and close tool calls.
    constrain_always: enforce tool schemas under `tool_choice` auto, too.
    Raises InvalidRequestError if calls must be enforced but the model has no call marker.
    """
    enforced = calling.required or text_form is not None or any(tool.strict for tool in calling.tools)
    if calling.tools and not has_call_marker:
        if not enforced:
            return None
        raise InvalidRequestError(
            "This model's tool calls cannot be enforced: it has no tokens to mark them.", "tool_choice"
        )
    tools = calling.tools if enforced or constrain_always else ()
    if not tools and text_form is None:
        return None

    def build() -> Grammar:
        if text_form is not None and not tools:
            return text_grammar(text_form)
        mode = CallMode.REQUIRED if calling.required else CallMode.AUTO
        return call_grammar(tools, mode, parallel=calling.parallel, text_form=text_form)

    tool_facts = [[tool.name, tool.parameters, tool.strict, tool.field] for tool in tools]
    form_facts = text_form and [text_form.kind, text_form.value, text_form.field]
    key = json.dumps([tool_facts, calling.required, calling.parallel, form_facts])
    return GrammarSource(hashlib.sha256(key.encode()).hexdigest(), build)
