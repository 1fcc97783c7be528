"""Converts the body of a chat completion request to a `ChatRequest`."""

from __future__ import annotations

from server.api.chat_completions.fields import ChatCompletionRequest
from server.api.chat_completions.messages import ChatMessage, HistoryToolCall
from server.api.chat_completions.tools import FunctionDefinition, ToolDefinition
from server.api.generation.calling import calling, custom_call, custom_tool
from server.api.generation.sampling import sampling_params
from server.chat.types import Calling, ChatRequest, Message, Role, Tool, ToolCall
from server.engine.types import SamplingParams

ROLES: dict[str, Role] = {"developer": "system", "function": "tool"}


def to_chat_request(body: ChatCompletionRequest, defaults: SamplingParams) -> ChatRequest:
    """Return the chat request in `body`.

    defaults: sampling parameters that apply if `body` does not set them.
    """
    tools, calling = _tools(body)
    return ChatRequest(
        messages=tuple(_message(message, i) for i, message in enumerate(body.messages)),
        sampling=sampling_params(body, defaults, (body.top_logprobs or 0) if body.logprobs else None),
        tools=tools,
        calling=calling,
        text_form=body.text_form,
        thinking=body.requested_thinking(body.reasoning_effort),
        max_tokens=body.max_completion_tokens or body.max_tokens,
        min_tokens=body.min_tokens or 0,
        stop=tuple(body.stop or ()),
        stop_token_ids=frozenset(body.stop_token_ids or ()),
        ignore_eos=bool(body.ignore_eos),
        n=body.n or 1,
        template=body.template_options,
        show_special_tokens=body.skip_special_tokens is False,
        report_progress=bool(body.stream and body.return_progress),
    )


def _tools(body: ChatCompletionRequest) -> tuple[tuple[Tool, ...], Calling]:
    """Return the tools to list in the prompt, and how they may be called."""
    if body.functions:
        tools = tuple(_function(f, f"functions[{i}]") for i, f in enumerate(body.functions))
        choice = body.function_call
        names = [choice.name] if choice and choice.name else None
        forbidden, required, parallel = bool(choice and choice.type == "none"), names is not None, False
    else:
        tools = tuple(_tool(tool, i) for i, tool in enumerate(body.tools or ()))
        wanted = body.tool_choice
        names, required = (wanted.names, wanted.required) if wanted else (None, False)
        forbidden = bool(wanted and wanted.type == "none")
        parallel = body.parallel_tool_calls is not False and not (wanted and wanted.is_named)
    return tools, calling(tools, names=names, required=required, forbidden=forbidden, parallel=parallel)


def _tool(tool: ToolDefinition, position: int) -> Tool:
    if tool.function is not None and tool.type == "function":
        return _function(tool.function, f"tools[{position}].function")
    assert tool.custom is not None
    custom, field = tool.custom, f"tools[{position}].custom"
    return custom_tool(custom.name, custom.description, field, custom.text_form(field))


def _function(function: FunctionDefinition, field: str) -> Tool:
    return Tool(
        function.name, function.description, function.parameters or {}, bool(function.strict), f"{field}.parameters"
    )


def _message(message: ChatMessage, position: int) -> Message:
    field = f"messages[{position}]"
    calls = tuple(_call(call, f"{field}.tool_calls[{i}]") for i, call in enumerate(message.tool_calls or ()))
    if (call := message.function_call) is not None:
        calls += (ToolCall("", call.name, call.arguments or "", f"{field}.function_call.arguments"),)
    return Message(
        role=ROLES.get(message.role, message.role),  # type: ignore[arg-type]
        content=message.content if message.content is not None else message.refusal or "",
        tool_calls=calls,
        tool_call_id=message.tool_call_id,
        name=message.name,
        reasoning=message.thoughts,
    )


def _call(call: HistoryToolCall, field: str) -> ToolCall:
    if call.function is not None and call.type == "function":
        return ToolCall(call.id, call.function.name, call.function.arguments or "", f"{field}.function.arguments")
    assert call.custom is not None
    return custom_call(call.id, call.custom.name, call.custom.input)
