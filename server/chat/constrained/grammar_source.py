"""Decides whether a grammar constrains an answer, and builds the grammar."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from server.chat.constrained.grammar import CallMode, Grammar, call_grammar, json_call_grammar, text_grammar
from server.chat.tool_calls.call_form import CallForm
from server.chat.types import Calling, TextForm, Tool


@dataclass(frozen=True)
class GrammarSource:
    """The parts of a request from which its grammar is built.

    text: these parts as JSON.
    field: request field to name in errors about the whole grammar.
    """

    text: str
    field: str = "tools"

    @cached_property
    def key(self) -> str:
        """A hash of `text`, for the cache of grammars."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def build(self) -> Grammar:
        """Build the grammar. This may take a long time, so call it in a worker.

        Raises InvalidRequestError if a schema or the text form cannot be enforced.
        """
        facts = json.loads(self.text)
        tools = [
            Tool(name, None, parameters, strict, field, _form_in(form))
            for name, parameters, strict, field, form in facts["tools"]
        ]
        text_form = _form_in(facts["text_form"])
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
    """Return the source of the answer's grammar, or None if any answer is allowed.

    call_form: JSON form of calls; None if the model has call markers.
    constrain_always: whether to enforce schemas that are not strict. Applies only to models with call markers.
    """
    enforced = calling.required or text_form is not None or any(tool.strict for tool in calling.tools)
    tools = calling.tools if enforced or (constrain_always and call_form is None) else ()
    if not tools and text_form is None:
        return None
    facts = {
        "tools": [
            [tool.name, tool.parameters, tool.strict, tool.field, _form_facts(tool.input_form)] for tool in tools
        ],
        "required": calling.required,
        "parallel": calling.parallel,
        "call_form": call_form and asdict(call_form),
        "text_form": _form_facts(text_form),
    }
    fields = [tool.input_form.field if tool.input_form else tool.field for tool in tools]
    fields += [text_form.field] if text_form else []
    return GrammarSource(json.dumps(facts), fields[0] if len(fields) == 1 else "tools")


def _form_facts(form: TextForm | None) -> list[Any] | None:
    return None if form is None else [form.kind, form.value, form.field]


def _form_in(facts: list[Any] | None) -> TextForm | None:
    return None if facts is None else TextForm(*facts)
