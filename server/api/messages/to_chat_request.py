"""Converts the body of a Messages request to a `ChatRequest`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from server.api.generation.calling import calling
from server.api.generation.sampling import sampling_params
from server.api.messages.blocks import (
    MessageParam,
    TextBlockParam,
    ThinkingBlockParam,
    ToolResultBlockParam,
    ToolUseBlockParam,
)
from server.api.messages.fields import CountTokensRequest, MessagesRequest, PromptFields
from server.chat.thinking import Thinking
from server.chat.types import Calling, ChatRequest, Message, TemplateOptions, TextForm, Tool, ToolCall
from server.engine.types import SamplingParams


def to_chat_request(body: MessagesRequest, defaults: SamplingParams) -> ChatRequest:
    """Return the chat request in `body`.

    defaults: sampling parameters that apply if `body` does not set them.
    """
    thinking = _thinking(body, body.thinking_token_budget, included=body.include_reasoning is not False)
    form = body.output_config.format if body.output_config else None
    return replace(
        _prompt(body, body.template_options, thinking),
        sampling=sampling_params(body, defaults, None),
        text_form=TextForm("json", form.schema_, "output_config.format.schema") if form else None,
        max_tokens=body.max_tokens,
        min_tokens=body.min_tokens or 0,
        stop=(*(body.stop or ()), *(body.stop_sequences or ())),
        stop_token_ids=frozenset(body.stop_token_ids or ()),
        ignore_eos=bool(body.ignore_eos),
        show_special_tokens=body.skip_special_tokens is False,
    )


def to_prompt(body: CountTokensRequest) -> ChatRequest:
    """Return a chat request for counting the tokens of its prompt."""
    return _prompt(body, body.template_options, _thinking(body, None, included=True))


def _prompt(body: PromptFields, template: TemplateOptions, thinking: Thinking) -> ChatRequest:
    """Return a chat request with only the fields that determine the prompt."""
    tools, how = _tools(body)
    messages = [Message("system", body.system)] if body.system else []
    for message in body.messages:
        messages += _messages(message)
    if messages[-1].role == "assistant" and not messages[-1].tool_calls:
        template = replace(template, continue_final_message=True, add_generation_prompt=False)
    return ChatRequest(
        messages=tuple(messages),
        sampling=SamplingParams(),
        tools=tools,
        calling=how,
        thinking=thinking,
        template=template,
    )


def _thinking(body: PromptFields, budget: int | None, *, included: bool) -> Thinking:
    """Return the request's settings for thoughts.

    budget: value of `thinking_token_budget`; None to use the budget in `thinking`.
    included: whether to return the thoughts. The display "omitted" in `thinking` overrides it.
    """
    config = body.thinking
    if config is not None:
        budget = config.budget if budget is None else budget
        included = included and config.display != "omitted"
    return Thinking(budget, body.output_config.effort if body.output_config else None, included)


def _tools(body: PromptFields) -> tuple[tuple[Tool, ...], Calling]:
    """Return the tools to list in the prompt, and how they may be called."""
    tools = tuple(
        Tool(tool.name or "", tool.description, tool.input_schema or {}, bool(tool.strict), f"tools[{i}].input_schema")
        for i, tool in enumerate(body.tools or ())
        if not tool.built_in
    )
    choice = body.tool_choice
    kind = choice.type if choice else "auto"
    parallel = not (choice and choice.disable_parallel_tool_use) and kind != "tool"
    names = [choice.name] if choice and choice.name is not None and kind == "tool" else None
    return tools, calling(
        tools, names=names, required=kind in ("any", "tool"), forbidden=kind == "none", parallel=parallel
    )


def _messages(message: MessageParam) -> Iterator[Message]:
    """Convert one of Anthropic's messages to messages of the chat layer.

    Each tool result becomes a message of its own.
    """
    texts = [block.text for block in message.content if isinstance(block, TextBlockParam)]
    if message.role == "assistant":
        thoughts = [block.thinking for block in message.content if isinstance(block, ThinkingBlockParam)]
        calls = tuple(
            ToolCall(block.id, block.name, json.dumps(block.input, ensure_ascii=False))
            for block in message.content
            if isinstance(block, ToolUseBlockParam)
        )
        yield Message("assistant", "\n".join(texts), tool_calls=calls, reasoning="\n".join(thoughts) or None)
        return
    for block in message.content:
        if isinstance(block, ToolResultBlockParam):
            content = block.content or ""
            yield Message("tool", f"Error: {content}" if block.is_error else content, tool_call_id=block.tool_use_id)
    if texts or message.role == "system" or not message.content:
        yield Message(message.role, "\n".join(texts))
