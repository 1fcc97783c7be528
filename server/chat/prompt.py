"""A chat to the prompt's tokens, by the model's own template. Text from outside cannot write special tokens."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from server.chat.markers import CALL_END, CALL_START, THINK_END, THINK_START
from server.chat.tokenizer import Tokenizer
from server.chat.tool_calls.call_syntax import render_call
from server.chat.types import Message, TemplateOptions, Thoughts, Tool, ToolCall
from server.errors import InvalidRequestError, ModelFolderError

OWN_MARKERS = (CALL_START, CALL_END, THINK_START, THINK_END)
"""What a model writes itself, so that its turns in the history may hold it."""
NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


class ChatPrompt:
    """Renders chats with one template and tokenizes them.

    `variables` are what the template may name besides the chat (`bos_token`, ...). `bare_tools`: the template gets
    tools as LFM2's card lists them, {"name", "description", "parameters"}, not in OpenAI's wrapping.
    Raises ModelFolderError where the template is not valid Jinja.
    """

    def __init__(
        self, source: str, tokenizer: Tokenizer, variables: Mapping[str, str], bare_tools: bool = True
    ) -> None:
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise ModelFolderError(f"The chat template is not valid Jinja: {error} (line {error.lineno}).") from None
        self.thinks = THINK_END in source or THINK_END in tokenizer.special
        self._renders_calls = "tool_calls" in source
        self._renders_reasoning = "reasoning_content" in source
        self._tokenizer = tokenizer
        self._variables = variables
        self._bare_tools = bare_tools
        self._look_alikes = Escape(tokenizer.special)
        self._borders = self._border_tokens()

    def tokens(
        self, messages: Sequence[Message], tools: Sequence[Tool], options: TemplateOptions | None = None
    ) -> list[int]:
        """The prompt that asks for the assistant's next turn, unless `options` want another.

        Raises InvalidRequestError for calls whose arguments are no JSON object, and for what the template refuses.
        """
        options = options or TemplateOptions()
        chat = [self._message(i, message) for i, message in enumerate(messages)]
        listed = [self._look_alikes.everywhere(self._tool(tool)) for tool in tools]
        text = self._render(chat, listed, options)
        if options.continue_final_message:
            text = _up_to_end_of(text, chat[-1]["content"])
        tokens = self._look_alikes.encode(text, self._tokenizer)
        return [*self._tokenizer.beginning(tokens), *tokens] if options.add_special_tokens else tokens

    def checkpoints(self, prompt: Sequence[int]) -> tuple[int, ...]:
        """The numbers of tokens of a prompt after which another may go on differently: where turns and thoughts begin.

        Among them are the ends of the system's message, which holds the tools, and of the last message; thoughts do
        not come back in the next prompt.
        """
        return tuple(i for i, token in enumerate(prompt) if i and token in self._borders)

    def thoughts(self, prompt: Sequence[int]) -> Thoughts:
        """Whether the model thinks before it answers a prompt; the template may have opened or closed its thoughts."""
        # Enough tokens, even if each were one character.
        end = b"".join(map(self._tokenizer.token_bytes, prompt[-2 * len(THINK_END) :])).rstrip()
        if not self.thinks or end.endswith(THINK_END.encode()):
            return Thoughts.NONE
        return Thoughts.OPEN if end.endswith(THINK_START.encode()) else Thoughts.POSSIBLE

    def _border_tokens(self) -> frozenset[int]:
        """The special tokens with which turns and thoughts begin, as far as the template shows them."""
        chat = [{"role": "user", "content": ""}]
        try:
            whole, ended = (
                self._render(chat, [], TemplateOptions(add_generation_prompt=turn)) for turn in (True, False)
            )
        except InvalidRequestError:
            return frozenset()  # it wants another chat
        opening = self._tokenizer.encode(whole.removeprefix(ended) if whole.startswith(ended) else "")
        special = self._tokenizer.special
        names = {THINK_START} | {text for text, token in special.items() if token in opening[:1]}
        return frozenset(special[name] for name in names if name in special)

    def _render(self, chat: list[dict[str, Any]], tools: list[Any], options: TemplateOptions) -> str:
        own = {
            "messages": chat,
            "tools": tools or None,
            "add_generation_prompt": options.add_generation_prompt and not options.continue_final_message,
            **self._variables,
        }
        try:
            return self._template.render(self._look_alikes.everywhere(options.variables) | own)
        except jinja2.TemplateError as error:
            raise InvalidRequestError(f"The model's chat template refuses this chat: {error}", "messages") from None
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
            message = f"The model's chat template cannot render this chat: {error}"
            raise InvalidRequestError(message, "messages") from None

    def _message(self, position: int, message: Message) -> dict[str, Any]:
        escape = self._look_alikes.escape
        rendered: dict[str, Any] = {"role": message.role}
        if message.name is not None:
            rendered["name"] = escape(message.name)
        if message.tool_call_id is not None:
            rendered["tool_call_id"] = escape(message.tool_call_id)
        calls = thoughts = ""
        if message.tool_calls and self._renders_calls:
            rendered["tool_calls"] = [
                self._look_alikes.everywhere(_call_object(call, _where(position, i)))
                for i, call in enumerate(message.tool_calls)
            ]
        elif message.tool_calls:
            written = ", ".join(_call_text(call, _where(position, i)) for i, call in enumerate(message.tool_calls))
            calls = f"{CALL_START}[{escape(written)}]{CALL_END}"
        if message.reasoning and self._renders_reasoning:
            rendered["reasoning_content"] = escape(message.reasoning)
        elif message.reasoning and self.thinks:
            thoughts = f"{THINK_START}{escape(message.reasoning)}{THINK_END}"
        content = escape(message.content, OWN_MARKERS if message.role == "assistant" else ())
        return rendered | {"content": thoughts + calls + content}

    def _tool(self, tool: Tool) -> dict[str, Any]:
        function: dict[str, Any] = {"name": tool.name}
        if tool.description is not None:
            function["description"] = tool.description
        function["parameters"] = tool.parameters or NO_PARAMETERS
        return function if self._bare_tools else {"type": "function", "function": function}


class Escape:
    """Keeps text that looks like a special token from becoming one: a nonce breaks it up until it is tokenized."""

    def __init__(self, special: Mapping[str, int]) -> None:
        longest_first = sorted(special, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._nonce = secrets.token_hex(8)

    def escape(self, text: str, allowed: Sequence[str] = ()) -> str:
        """`text` with its look-alikes broken up, except those in `allowed`."""
        if not self._special.search(text):
            return text
        return self._special.sub(lambda m: m[0] if m[0] in allowed else m[0][0] + self._nonce + m[0][1:], text)

    def everywhere(self, value: Any) -> Any:
        """The same for every string and key inside a JSON value."""
        if isinstance(value, str):
            return self.escape(value)
        if isinstance(value, Mapping):
            return {self.escape(key): self.everywhere(inner) for key, inner in value.items()}
        return [self.everywhere(inner) for inner in value] if isinstance(value, list) else value

    def encode(self, text: str, tokenizer: Tokenizer) -> list[int]:
        """Tokens of a rendered prompt: special tokens are the template's own, the broken up ones plain text."""
        if self._nonce not in text:
            return tokenizer.encode(text)
        tokens: list[int] = []
        end = 0
        for match in self._special.finditer(text):
            tokens += self._plain(text[end : match.start()], tokenizer)
            tokens.append(tokenizer.special[match[0]])
            end = match.end()
        return tokens + self._plain(text[end:], tokenizer)

    def _plain(self, text: str, tokenizer: Tokenizer) -> list[int]:
        return tokenizer.encode_literally(text.replace(self._nonce, "")) if text else []


class GenerationTag(Extension):
    """`{% generation %}`, with which templates mark the assistant's words for training: rendered as its content."""

    tags = {"generation"}  # noqa: RUF012 (as jinja2 types it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    """The environment that templates are written for: transformers.utils.chat_template_utils."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, GenerationTag]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _up_to_end_of(text: str, content: str) -> str:
    """A rendered chat up to the end of its last message's content, for the model to go on with it."""
    said = content.strip()
    before, found, _ = text.rpartition(said)
    if not found:
        message = "The template does not render the last message as it is: it cannot be continued."
        raise InvalidRequestError(message, "continue_final_message")
    return before + said


def _where(message: int, call: int) -> str:
    return f"messages[{message}].tool_calls[{call}].function.arguments"


def _call_text(call: ToolCall, where: str) -> str:
    try:
        return render_call(call.name, call.arguments)
    except ValueError:
        raise _bad_arguments(call, where) from None


def _call_object(call: ToolCall, where: str) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        raise _bad_arguments(call, where) from None
    if not isinstance(arguments, dict):
        raise _bad_arguments(call, where)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _bad_arguments(call: ToolCall, where: str) -> InvalidRequestError:
    shown = call.arguments if len(call.arguments) <= 60 else call.arguments[:57] + "..."
    return InvalidRequestError(f"The arguments of {call.name} must be a JSON object as a string; got {shown!r}.", where)
