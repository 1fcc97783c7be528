"""Decides which grammar, if any, constrains the answer to a chat."""

from __future__ import annotations

import hashlib
import json

from server.chat.constrained.compiler import GrammarSource
from server.chat.constrained.grammar import CallMode, Grammar, call_grammar, json_call_grammar, text_grammar
from server.chat.tool_calls.call_form import CallForm
from server.chat.types import Calling, TextForm


def grammar_source(
    calling: Calling, text_form: TextForm | None, *, call_form: CallForm | None, constrain_always: bool
) -> GrammarSource | None:
    """Return the source of the grammar that enforces `calling` and `text_form`; None leaves the answer free.

    call_form: the form of calls if the model has no tokens that open and close them.
    constrain_always: enforce tool schemas under `tool_choice` auto, too, if the model has such tokens.
    """
    enforced = calling.required or text_form is not None or any(tool.strict for tool in calling.tools)
    tools = calling.tools if enforced or (constrain_always and call_form is None) else ()
    if not tools and text_form is None:
        return None

    def build() -> Grammar:
        if text_form is not None and not tools:
            return text_grammar(text_form)
        mode = CallMode.REQUIRED if calling.required else CallMode.AUTO
        if call_form is not None:
            return json_call_grammar(tools, mode, call_form, parallel=calling.parallel, text_form=text_form)
        return call_grammar(tools, mode, parallel=calling.parallel, text_form=text_form)

    tool_facts = [[tool.name, tool.parameters, tool.strict, tool.field] for tool in tools]
    form_facts = text_form and [text_form.kind, text_form.value, text_form.field]
    key = json.dumps([tool_facts, calling.required, calling.parallel, form_facts])
    return GrammarSource(hashlib.sha256(key.encode()).hexdigest(), build)
