"""Renders a chat with the model's own template and tokenizes it into a prompt.

A special token spelled in a client's text stays text, except for the markers that a model itself writes, and these only
in assistant messages. Knows neither the engine nor how answers are parsed.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from server.chat.jinja_environment import template_environment, to_json
from server.chat.markers import CALL_END, CALL_START, THINK_END, THINK_START
from server.chat.tokenizer import Tokenizer
from server.chat.tool_calls.call_form import CallForm, call_form
from server.chat.tool_calls.call_syntax import render_call
from server.chat.tool_calls.history_arguments import arguments_object
from server.chat.types import Message, TemplateOptions, Thoughts, Tool, ToolCall
from server.errors import InvalidRequestError, ModelFolderError, shown

OWN_MARKERS = (CALL_START, CALL_END, THINK_START, THINK_END)
"""Special tokens that a model itself writes in its answers, so an assistant message may contain them."""
NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


class ChatPrompt:
    """Renders chats with one template and tokenizes them.

    `variables` are the template's variables besides the chat, such as `bos_token`. With `bare_tools`, the template
    receives each tool as {"name", "description", "parameters"}, the format of LFM2's model card; otherwise it receives
    OpenAI's {"type": "function", "function": {...}}. `thinks` says whether the model can write thoughts. `call_form` is
    the form of calls if the model has no tokens that mark them.
    Raises ModelFolderError if the template is not valid Jinja.
    """

    def __init__(
        self, source: str, tokenizer: Tokenizer, variables: Mapping[str, str], bare_tools: bool = True
    ) -> None:
        try:
            self._template = template_environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise ModelFolderError(f"The chat template is not valid Jinja: {error} (line {error.lineno}).") from None
        self.thinks = THINK_END in source or THINK_END in tokenizer.special
        self._renders_calls = "tool_calls" in source
        self._renders_reasoning = "reasoning_content" in source
        self._tokenizer = tokenizer
        self._variables = variables
        self._bare_tools = bare_tools
        self._escape = SpecialTokenEscape(tokenizer.special)
        self._boundaries = self._boundary_tokens()
        self._shows_tools = "tools" in source
        self.call_form = None if CALL_START in tokenizer.special else self._call_form()

    def tokens(
        self, messages: Sequence[Message], tools: Sequence[Tool], options: TemplateOptions | None = None
    ) -> list[int]:
        """Return the tokens of the prompt, which by default ends where the assistant's next turn begins.

        Raises InvalidRequestError if a call's arguments are not a JSON object or if the template fails on this chat.
        """
        options = options or TemplateOptions()
        chat = [self._message(i, message) for i, message in enumerate(messages)]
        listed = [self._escape.value(self._tool(tool)) for tool in tools]
        if listed and not self._shows_tools:
            chat = self._with_tools(chat, listed)
        if options.continue_final_message:
            text = self._up_to_end_of_content(chat, listed, options)
        else:
            text = self._render(chat, listed, options)
        tokens = self._escape.encode(text, self._tokenizer)
        return [*self._tokenizer.beginning(tokens), *tokens] if options.add_special_tokens else tokens

    def checkpoints(self, prompt: Sequence[int]) -> tuple[int, ...]:
        """Return the positions in `prompt` where turns and thoughts begin, the places worth a cache checkpoint.

        Another prompt may share the tokens before such a position and differ after it. The positions include the end of
        the system message, which lists the tools, and the end of the last message. The start of thoughts is included
        because templates drop the thoughts of earlier turns.
        """
        return tuple(i for i, token in enumerate(prompt) if i and token in self._boundaries)

    def thoughts(self, prompt: Sequence[int]) -> Thoughts:
        """Return whether the model may think before answering.

        Templates may open or close the thoughts at the end of the prompt.
        """
        # Enough tokens to hold the marker and whitespace after it, even if each token is one character.
        end = b"".join(map(self._tokenizer.token_bytes, prompt[-2 * len(THINK_END) :])).rstrip()
        if not self.thinks or end.endswith(THINK_END.encode()):
            return Thoughts.NONE
        return Thoughts.OPEN if end.endswith(THINK_START.encode()) else Thoughts.POSSIBLE

    def _boundary_tokens(self) -> frozenset[int]:
        """Return the special tokens that begin turns and thoughts.

        The token that begins a turn is the first one that `add_generation_prompt` adds to a rendered chat.
        """
        chat = [{"role": "user", "content": ""}]
        try:
            whole, ended = (
                self._render(chat, [], TemplateOptions(add_generation_prompt=turn)) for turn in (True, False)
            )
        except InvalidRequestError:
            return frozenset()  # the template rejects this sample chat
        opening = self._tokenizer.encode(whole.removeprefix(ended) if whole.startswith(ended) else "")
        special = self._tokenizer.special
        names = {THINK_START} | {text for text, token in special.items() if token in opening[:1]}
        return frozenset(special[name] for name in names if name in special)

    def _call_form(self) -> CallForm:
        try:
            return call_form(
                lambda chat: self._render(chat, [], TemplateOptions(add_generation_prompt=False)),
                tuple(self._tokenizer.special),
            )
        except InvalidRequestError:
            return CallForm()  # the template rejects the sample chat

    def _with_tools(self, chat: list[dict[str, Any]], tools: list[Any]) -> list[dict[str, Any]]:
        """Return a chat whose system message lists the tools, for a template that does not."""
        form = self.call_form or CallForm()
        example = f"{form.before_arguments('NAME')}{{...}}{form.after_arguments}"
        listed = f"List of tools: {to_json(tools)}\nTo call a tool, answer only with {example}"
        if chat and chat[0]["role"] == "system":
            return [chat[0] | {"content": f"{chat[0]['content']}\n{listed}"}, *chat[1:]]
        return [{"role": "system", "content": listed}, *chat]

    def _render(self, chat: list[dict[str, Any]], tools: list[Any], options: TemplateOptions) -> str:
        own = {
            "messages": chat,
            "tools": tools or None,
            "add_generation_prompt": options.add_generation_prompt and not options.continue_final_message,
            **self._variables,
        }
        try:
            return self._template.render(self._escape.value(options.variables) | own)
        except jinja2.TemplateError as error:
            raise InvalidRequestError(_template_error("rejected", error), "messages") from None
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
            raise InvalidRequestError(_template_error("cannot render", error), "messages") from None

    def _up_to_end_of_content(self, chat: list[dict[str, Any]], tools: list[Any], options: TemplateOptions) -> str:
        """Render a chat up to the end of its last message's content, so that the model continues that message.

        A random mark after the content shows where the template writes it. Whitespace at the end is left out.
        """
        mark = secrets.token_hex(16)
        last = chat[-1] | {"content": chat[-1]["content"].rstrip() + mark}
        text, found, _ = self._render([*chat[:-1], last], tools, options).rpartition(mark)
        if not found:
            message = "The last message cannot be continued because the chat template changes its content."
            raise InvalidRequestError(message, "continue_final_message")
        return text

    def _message(self, position: int, message: Message) -> dict[str, Any]:
        """Return a message as the template expects it.

        Calls and reasoning that the template does not render are written into the content, in the model's own syntax.
        """
        escape = self._escape.text
        rendered: dict[str, Any] = {"role": message.role}
        if message.name is not None:
            rendered["name"] = escape(message.name)
        if message.tool_call_id is not None:
            rendered["tool_call_id"] = escape(message.tool_call_id)
        calls = thoughts = ""
        located = [(call, _arguments_field(position, i)) for i, call in enumerate(message.tool_calls)]
        if located and self._renders_calls:
            rendered["tool_calls"] = [self._escape.value(_call_object(call, field)) for call, field in located]
        elif located:
            calls = self._calls_text(located)
        if message.reasoning and self._renders_reasoning:
            rendered["reasoning_content"] = escape(message.reasoning)
        elif message.reasoning and self.thinks:
            thoughts = f"{THINK_START}{escape(message.reasoning)}{THINK_END}"
        content = escape(message.content, OWN_MARKERS if message.role == "assistant" else ())
        return rendered | {"content": thoughts + calls + content}

    def _calls_text(self, located: Sequence[tuple[ToolCall, str]]) -> str:
        """Return calls in the model's own syntax; each has the field to name in errors."""
        if self.call_form is not None:
            objects = [_call_object(call, field)["function"] for call, field in located]
            pairs = [(function["name"], to_json(function["arguments"])) for function in objects]
            return self._escape.text(self.call_form.written(pairs))
        written = ", ".join(_call_text(call, field) for call, field in located)
        return f"{CALL_START}[{self._escape.text(written)}]{CALL_END}"

    def _tool(self, tool: Tool) -> dict[str, Any]:
        function: dict[str, Any] = {"name": tool.name}
        if tool.description is not None:
            function["description"] = tool.description
        function["parameters"] = tool.parameters or NO_PARAMETERS
        return function if self._bare_tools else {"type": "function", "function": function}


class SpecialTokenEscape:
    """Keeps text that spells a special token from becoming that token.

    Before rendering, a random nonce is inserted into each such spelling. While the rendered prompt is tokenized, the
    nonces are removed and the text around them is encoded as plain text. Spellings without a nonce were written by the
    template and become special tokens.
    """

    def __init__(self, special: Mapping[str, int]) -> None:
        longest_first = sorted(special, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._nonce = secrets.token_hex(8)

    def text(self, text: str, allowed: Sequence[str] = ()) -> str:
        """Escape all special tokens spelled in `text`, except those in `allowed`."""
        if not self._special.search(text):
            return text
        return self._special.sub(lambda m: m[0] if m[0] in allowed else m[0][0] + self._nonce + m[0][1:], text)

    def value(self, value: Any) -> Any:
        """Escape all strings and keys in a JSON value."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(key): self.value(inner) for key, inner in value.items()}
        return [self.value(inner) for inner in value] if isinstance(value, list) else value

    def encode(self, text: str, tokenizer: Tokenizer) -> list[int]:
        """Tokenize a rendered prompt: escaped spellings as plain text, unescaped ones as special tokens."""
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


def _template_error(failed: str, error: Exception) -> str:
    return f"The model's chat template {failed} this chat: {shown(str(error), 300)}"


def _arguments_field(message: int, call: int) -> str:
    return f"messages[{message}].tool_calls[{call}].function.arguments"


def _call_text(call: ToolCall, field: str) -> str:
    try:
        return render_call(call.name, arguments_object(call.arguments))
    except ValueError:
        raise _bad_arguments(call, field) from None


def _call_object(call: ToolCall, field: str) -> dict[str, Any]:
    try:
        arguments = json.loads(arguments_object(call.arguments))
    except ValueError:
        raise _bad_arguments(call, field) from None
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _bad_arguments(call: ToolCall, field: str) -> InvalidRequestError:
    message = f"The arguments of {shown(call.name)} must be a JSON object as a string; got '{shown(call.arguments)}'."
    return InvalidRequestError(message, field)
