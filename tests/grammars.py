"""What the tests of grammars share: a compiler for the built-in model, schemas, and whether a text is allowed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from server.chat.constrained.compiler import CompiledGrammar, GrammarCompiler
from server.chat.constrained.grammar import CallMode, Grammar, call_grammar, text_grammar
from server.chat.constrained.grammar_source import GrammarSource, grammar_source
from server.chat.constrained.worker.compilation import compile_grammar
from server.chat.constrained.worker.messages import Accepted
from server.chat.tokenizer import Tokenizer
from server.chat.tool_calls.free_parser import FreeCallParser, ParsedCall, ToolSignature
from server.chat.types import Calling, TextForm, Thoughts, Tool
from server.engine.sampling.constraint import Constraint, mask_words
from server.export.tokenizer import BUILT_IN_TOKENIZER

TOKENIZER = Tokenizer.load(BUILT_IN_TOKENIZER)
END = TOKENIZER.special["<|im_end|>"]
VOCAB_SIZE = 1024
COMPILER = GrammarCompiler(TOKENIZER, VOCAB_SIZE, [END])

STRING = {"type": "string"}
INTEGER = {"type": "integer"}


def compiled(grammar: Grammar) -> CompiledGrammar:
    """Compile `grammar` in this process, without the limits of a worker. Raises InvalidRequestError."""
    grammar, _ = compile_grammar(grammar, COMPILER.ll_tokenizer)
    return COMPILER.load(Accepted.of(grammar, size=0))


def analysed(source: GrammarSource) -> Accepted:
    """Return a worker's analysis of `source`. Raises InvalidRequestError."""
    return asyncio.run(COMPILER.workers.analyse(source))


def json_source(schema: Any) -> GrammarSource:
    return source_of(text_form=json_form(schema))


def source_of(*tools: Tool, required: bool = True, text_form: TextForm | None = None) -> GrammarSource:
    source = grammar_source(
        Calling(tools, required=required and bool(tools)), text_form, call_form=None, constrain_always=True
    )
    assert source is not None
    return source


def allowed(constraint: Constraint) -> np.ndarray:
    """Return which tokens may come next, [VOCAB_SIZE]."""
    words = np.zeros(mask_words(VOCAB_SIZE), np.int32)
    if not constraint.mask(words):
        return np.ones(VOCAB_SIZE, bool)
    return np.unpackbits(words.view(np.uint8), bitorder="little")[:VOCAB_SIZE].astype(bool)


def accepts(grammar: Grammar, text: str, thoughts: Thoughts = Thoughts.NONE) -> bool:
    """Return whether a model constrained by `grammar` can generate `text` and end there."""
    constraint = compiled(grammar).start(thoughts)
    for token in [*TOKENIZER.encode(text), END]:
        if not allowed(constraint)[token]:
            return False
        constraint.commit(token)
    return True


def assert_enforced(schema: Any, right: Iterable[Any], wrong: Iterable[Any]) -> None:
    """Assert that a model constrained by `schema` can generate the values `right`, and none of the values `wrong`."""
    grammar = json_grammar(schema)
    for value in right:
        assert accepts(grammar, json.dumps(value)), value
    for value in wrong:
        assert not accepts(grammar, json.dumps(value)), value


def block(*calls: str) -> str:
    return f"<|tool_call_start|>[{', '.join(calls)}]<|tool_call_end|>"


def tool(parameters: Any, name: str = "f", *, strict: bool = False) -> Tool:
    return Tool(name, None, parameters, strict, "tools[0].function.parameters")


def json_form(schema: Any) -> TextForm:
    return TextForm("json", schema, "response_format.json_schema.schema")


def json_grammar(schema: Any) -> Grammar:
    return text_grammar(json_form(schema))


def required(parameters: Any) -> Grammar:
    return call_grammar([tool(parameters)], CallMode.REQUIRED, parallel=True)


def parsed(tools: Sequence[Tool], text: str) -> list[ParsedCall]:
    parser = FreeCallParser([ToolSignature(tool.name, tool.properties) for tool in tools])
    pieces = [*parser.feed(text), *parser.finish()]
    assert all(isinstance(piece, ParsedCall) for piece in pieces), f"not parsed as calls: {text}"
    return [piece for piece in pieces if isinstance(piece, ParsedCall)]


def object_of(*names: str, required: Sequence[str] = (), **others: Any) -> dict[str, Any]:
    """Return the schema of an object with integer properties `names`."""
    return {"type": "object", "properties": dict.fromkeys(names, INTEGER), "required": list(required), **others}
