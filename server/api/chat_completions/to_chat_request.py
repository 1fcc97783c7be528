"""A validated chat request in the chat layer's terms: old forms made new, defaults filled in."""

from __future__ import annotations

import json

from server.api.chat_completions.fields import ChatCompletionRequest
from server.api.chat_completions.messages import ChatMessage, HistoryToolCall
from server.api.chat_completions.tools import FunctionDefinition, ToolDefinition
from server.api.generation.sampling import sampling_params
from server.chat.types import Calling, ChatRequest, Message, Role, TemplateOptions, Tool, ToolCall
from server.engine.types import SamplingParams

ROLES: dict[str, Role] = {"developer": "system", "function": "tool"}
CUSTOM_ARGUMENT = "input"
"""A custom tool is a function of one text."""


def chat_request(asked: ChatCompletionRequest, defaults: SamplingParams) -> ChatRequest:
    """The request to answer, with the model's sampling where it sets none."""
    tools, calling = _tools(asked)
    return ChatRequest(
        messages=tuple(map(_message, asked.messages)),
        sampling=sampling_params(asked, defaults, (asked.top_logprobs or 0) if asked.logprobs else None),
        tools=tools,
        calling=calling,
        text_form=asked.text_form,
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        min_tokens=asked.min_tokens or 0,
        stop=tuple(asked.stop or ()),
        stop_token_ids=frozenset(asked.stop_token_ids or ()),
        ignore_eos=bool(asked.ignore_eos),
        n=asked.n or 1,
        template=TemplateOptions(
            variables=asked.chat_template_kwargs or {},
            add_generation_prompt=asked.add_generation_prompt is not False,
            continue_final_message=bool(asked.continue_final_message),
            add_special_tokens=bool(asked.add_special_tokens),
        ),
        show_special_tokens=asked.skip_special_tokens is False,
        report_progress=bool(asked.stream and asked.return_progress),
        priority=asked.priority or 0,
        cache_salt=asked.cache_salt or "",
    )


def _tools(asked: ChatCompletionRequest) -> tuple[tuple[Tool, ...], Calling]:
    """The tools to list, and how they may be called."""
    if asked.functions:
        tools = tuple(_function(f, f"functions[{i}]") for i, f in enumerate(asked.functions))
        choice = asked.function_call
        names = [choice.name] if choice and choice.name else None
        none, required, parallel = bool(choice and choice.type == "none"), names is not None, False
    else:
        tools = tuple(_tool(tool, i) for i, tool in enumerate(asked.tools or ()))
        wanted = asked.tool_choice
        names, required = (wanted.names, wanted.required) if wanted else (None, False)
        none, parallel = bool(wanted and wanted.type == "none"), asked.parallel_tool_calls is not False
    if none:
        return (), Calling()
    callable_tools = tuple(tool for tool in tools if names is None or tool.name in names)
    return tools, Calling(callable_tools, required, parallel)


def _tool(tool: ToolDefinition, position: int) -> Tool:
    if tool.function is not None and tool.type == "function":
        return _function(tool.function, f"tools[{position}].function")
    assert tool.custom is not None
    argument = {"type": "object", "properties": {CUSTOM_ARGUMENT: {"type": "string"}}, "required": [CUSTOM_ARGUMENT]}
    return Tool(tool.custom.name, tool.custom.description, argument, field=f"tools[{position}].custom")


def _function(function: FunctionDefinition, field: str) -> Tool:
    return Tool(function.name, function.description, function.parameters or {}, bool(function.strict), field)


def _message(message: ChatMessage) -> Message:
    calls = tuple(map(_call, message.tool_calls or ()))
    if message.function_call is not None:
        calls += (ToolCall("", message.function_call.name, message.function_call.arguments),)
    return Message(
        role=ROLES.get(message.role, message.role),  # type: ignore[arg-type]
        content=message.content if message.content is not None else message.refusal or "",
        tool_calls=calls,
        tool_call_id=message.tool_call_id,
        name=message.name,
        reasoning=message.reasoning_content,
    )


def _call(call: HistoryToolCall) -> ToolCall:
    if call.function is not None and call.type == "function":
        return ToolCall(call.id, call.function.name, call.function.arguments)
    assert call.custom is not None
    return ToolCall(call.id, call.custom.name, json.dumps({CUSTOM_ARGUMENT: call.custom.input}, ensure_ascii=False))
