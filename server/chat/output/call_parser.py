"""Chooses the parser that finds the calls in an answer."""

from __future__ import annotations

from server.chat.tool_calls.constrained_parser import ConstrainedCallParser, TextOrCallsParser
from server.chat.tool_calls.free_parser import FreeCallParser, ToolSignature
from server.chat.tool_calls.whole_answer_parser import WholeAnswerParser
from server.chat.types import ChatRequest

CallParser = FreeCallParser | WholeAnswerParser | ConstrainedCallParser | TextOrCallsParser


def call_parser(request: ChatRequest, *, constrained: bool, has_marker: bool) -> CallParser:
    """Return the parser for an answer to `request`.

    constrained: whether a grammar constrains the answer.
    has_marker: whether the model's vocabulary has call markers.
    """
    tools = request.calling.tools
    signatures = tuple(ToolSignature(tool.name, tool.properties) for tool in tools)
    if not has_marker and tools:
        return WholeAnswerParser(signatures)
    if request.text_form is not None or (request.show_special_tokens and not tools):
        return TextOrCallsParser(may_call=bool(tools))
    if constrained:
        return ConstrainedCallParser()
    return FreeCallParser(signatures)
