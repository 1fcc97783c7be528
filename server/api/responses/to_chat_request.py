"""Converts a response request and its conversation to a `ChatRequest`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from server.api.generation.calling import calling, custom_call, custom_tool
from server.api.generation.sampling import sampling_params
from server.api.responses.fields import LOGPROBS, ResponseRequest
from server.api.responses.items import InputItem, joined
from server.api.responses.tools import ClientTool
from server.chat.types import Calling, ChatRequest, Message, Role, Tool, ToolCall
from server.engine.types import SamplingParams

ROLES: dict[str, Role] = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant"}


def to_chat_request(body: ResponseRequest, history: Sequence[InputItem], defaults: SamplingParams) -> ChatRequest:
    """Convert a response request to a chat request.

    history: items of the conversation before the input of `body`.
    defaults: the model's sampling parameters, used for parameters that `body` does not set.
    """
    tools, calls = _tools(body)
    instructions = [Message("system", body.instructions)] if body.instructions else []
    located = [(item, "previous_response_id") for item in history]
    located += [(item, f"input[{i}]") for i, item in enumerate(body.input or ())]
    return ChatRequest(
        messages=(*instructions, *messages(located)),
        sampling=sampling_params(body, defaults, (body.top_logprobs or 0) if body.includes(LOGPROBS) else None),
        tools=tools,
        calling=calls,
        text_form=body.text_form,
        max_tokens=body.max_output_tokens,
        min_tokens=body.min_tokens or 0,
        stop=tuple(body.stop or ()),
        stop_token_ids=frozenset(body.stop_token_ids or ()),
        ignore_eos=bool(body.ignore_eos),
        template=body.template_options,
        thinking=body.requested_thinking(body.reasoning.effort if body.reasoning else None),
        show_special_tokens=body.skip_special_tokens is False,
        truncate=body.truncation == "auto",
    )


def messages(located: Iterable[tuple[InputItem, str]]) -> list[Message]:
    """Convert items to messages.

    Consecutive items of one assistant turn, such as thoughts, a text and a call, become one message.

    located: pairs of an item and its path in the request.
    """
    result: list[Message] = []
    turn = _Turn()
    for item, path in located:
        if item.role == "assistant" or item.type in ("reasoning", "function_call", "custom_tool_call"):
            if not turn.takes(item):
                result += turn.take()
            turn.add(item, path)
            continue
        result += turn.take()
        if item.type == "message":
            assert item.role is not None
            result.append(Message(ROLES[item.role], joined(item.content)))
        else:
            result.append(Message("tool", joined(item.output), tool_call_id=item.call_id))
    return result + turn.take()


@dataclass(slots=True)
class _Turn:
    """An assistant message, built from consecutive items."""

    reasoning: str | None = None
    content: str | None = None
    calls: list[ToolCall] = field(default_factory=list)
    ends_with_text: bool = False

    def takes(self, item: InputItem) -> bool:
        """Return whether `item` belongs to this message.

        Thoughts after a text or call begin a new message. So does a text right after a text.
        """
        if item.type == "reasoning":
            return self.content is None and not self.calls
        return item.type != "message" or not self.ends_with_text

    def add(self, item: InputItem, path: str) -> None:
        """Add an assistant item.

        path: path of the item in the request, for errors.
        """
        self.ends_with_text = item.type == "message"
        if item.type == "reasoning":
            self.reasoning = (self.reasoning or "") + item.thoughts
        elif item.type == "message":
            self.content = (self.content or "") + joined(item.content)
        elif item.type == "function_call":
            call_id, arguments = item.call_id or "", item.arguments or ""
            self.calls.append(ToolCall(call_id, item.tool_name, arguments, f"{path}.arguments"))
        else:
            self.calls.append(custom_call(item.call_id or "", item.tool_name, item.input or ""))

    def take(self) -> list[Message]:
        """Return [the message], or [] if it is empty, and begin a new one."""
        empty = self.content is None and not self.calls and not self.reasoning
        message = Message("assistant", self.content or "", tuple(self.calls), reasoning=self.reasoning or None)
        self.reasoning, self.content, self.calls, self.ends_with_text = None, None, [], False
        return [] if empty else [message]


def _tools(body: ResponseRequest) -> tuple[tuple[Tool, ...], Calling]:
    """Return the tools to list in the prompt, and how they may be called."""
    tools = tuple(_tool(tool) for tool in body.own_tools)
    choice, most = body.tool_choice, body.max_tool_calls
    calls = calling(
        tools,
        names=choice.names if choice else None,
        required=bool(choice and choice.required),
        forbidden=bool(choice and choice.type == "none") or most == 0,
        parallel=body.parallel_tool_calls is not False and not (choice and choice.is_named) and most != 1,
        max_calls=most,
    )
    return tools, calls


def _tool(tool: ClientTool) -> Tool:
    name, path, defined = tool.full_name, tool.path, tool.definition
    if tool.is_custom:
        form = defined.format.text_form(f"{path}.format") if defined.format else None
        return custom_tool(name, defined.description, path, form)
    return Tool(name, defined.description, defined.parameters or {}, bool(defined.strict), f"{path}.parameters")
