"""Decides which grammar, if any, constrains the answer to a chat, and builds it from what the client sent."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property

from server.chat.constrained.grammar import CallMode, Grammar, call_grammar, json_call_grammar, text_grammar
from server.chat.tool_calls.call_form import CallForm
from server.chat.types import Calling, TextForm, Tool


@dataclass(frozen=True)
class GrammarSource:
    """What a client sent that decides its grammar, as JSON text; equal texts give equal grammars.

    `field` is the request field to name in errors about the grammar as a whole.
    """

    text: str
    field: str = "tools"

    @cached_property
    def key(self) -> str:
        """A short name for the source, under which its grammar is cached."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def build(self) -> Grammar:
        """Build the grammar. May take long: run it in a worker. Raises InvalidRequestError."""
        facts = json.loads(self.text)
        tools = [Tool(name, None, parameters, strict, field) for name, parameters, strict, field in facts["tools"]]
        text_form = TextForm(*facts["text_form"]) if facts["text_form"] else None
        if text_form is not None and not tools:
            return text_grammar(text_form)
        mode = CallMode.REQUIRED if facts["required"] else CallMode.AUTO
        if facts["call_form"] is not None:
            form = CallForm(**facts["call_form"])
            return json_call_grammar(tools, mode, form, parallel=facts["parallel"], text_form=text_form)
        return call_grammar(tools, mode, parallel=facts["parallel"], text_form=text_form)


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
    facts = {
        "tools": [[tool.name, tool.parameters, tool.strict, tool.field] for tool in tools],
        "required": calling.required,
        "parallel": calling.parallel,
        "call_form": call_form and asdict(call_form),
        "text_form": text_form and [text_form.kind, text_form.value, text_form.field],
    }
    fields = [f"{tool.field}.parameters" for tool in tools] + ([text_form.field] if text_form else [])
    return GrammarSource(json.dumps(facts), fields[0] if len(fields) == 1 else "tools")
