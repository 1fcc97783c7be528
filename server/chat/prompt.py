"""Renders a chat with the model's template and tokenizes it into a prompt."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from server.chat.jinja_environment import to_json
from server.chat.markers import CALL_END, CALL_START, THINK_END, THINK_START
from server.chat.template_sources import Template, TemplateSources
from server.chat.tokenizer import Tokenizer
from server.chat.tool_calls.call_form import CallForm, call_form
from server.chat.tool_calls.call_syntax import render_call
from server.chat.tool_calls.history_arguments import arguments_object
from server.chat.types import Message, TemplateOptions, Thoughts, Tool, ToolCall
from server.errors import InvalidRequestError, shown

OWN_MARKERS = (CALL_START, CALL_END, THINK_START, THINK_END)
"""The markers that a model writes itself. Assistant messages may contain them."""
NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


class ChatPrompt:
    """The templates and the tokenizer that turn chats into prompts.

    sources: the templates. None for a base model, for which every chat is an error.
    variables: values of template variables such as `bos_token`.
    bare_tools: whether the template receives tools without OpenAI's wrapper `{"type": "function", "function": ...}`.
    thinks: whether the model can write thoughts.
    call_form: how the model writes calls in JSON; None if the vocabulary has call markers.

    Raises ModelFolderError if a template is not valid Jinja.
    """

    def __init__(
        self,
        sources: TemplateSources | None,
        tokenizer: Tokenizer,
        variables: Mapping[str, str],
        bare_tools: bool = True,
    ) -> None:
        self._arguments = (sources, tokenizer, variables, bare_tools)
        texts = [] if sources is None else [sources.default, sources.tool_use or sources.default]
        compiled = {text: Template.compile(text) for text in texts}
        self._templates = [compiled[text] for text in texts]  # [without tools, with tools]
        self.thinks = any(THINK_END in text for text in texts) or THINK_END in tokenizer.special
        self._tokenizer = tokenizer
        self._variables = variables
        self._bare_tools = bare_tools
        self._escape = SpecialTokenEscape(tokenizer.special)
        self._boundaries = self._boundary_tokens()
        self.call_form = None if CALL_START in tokenizer.special else self._call_form()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle this object as the arguments that it was created with."""
        return ChatPrompt, self._arguments

    @property
    def takes_chats(self) -> bool:
        """Whether the model has a chat template."""
        return bool(self._templates)

    def tokens(
        self, messages: Sequence[Message], tools: Sequence[Tool], options: TemplateOptions | None = None
    ) -> list[int]:
        """Return the tokens of a chat's prompt.

        Raises InvalidRequestError if the chat cannot be rendered, or if a call's arguments are not a JSON object.
        """
        options = options or TemplateOptions()
        template = self._template(bool(tools))
        chat = [self._message(message, template) for message in messages]
        listed = [self._escape.value(self._tool(tool)) for tool in tools]
        if listed and not template.shows_tools:
            chat = self._with_tools(chat, listed)
        if options.continue_final_message:
            text = self._up_to_end_of_content(chat, listed, options)
        else:
            text = self._render(chat, listed, options)
        tokens = self._escape.encode(text, self._tokenizer)
        if options.add_special_tokens:
            tokens = [*self._tokenizer.beginning(tokens), *tokens]
        if not tokens:
            raise InvalidRequestError("The model's chat template renders nothing for this chat.", "messages")
        return tokens

    def checkpoints(self, prompt: Sequence[int]) -> tuple[int, ...]:
        """Return the positions in `prompt` at which turns and thoughts begin.

        Another prompt may be equal up to one of these positions and differ after it.
        """
        # Templates drop the thoughts of earlier turns, so the next prompt of a chat may differ from there.
        return tuple(i for i, token in enumerate(prompt) if i and token in self._boundaries)

    def thoughts(self, prompt: Sequence[int]) -> Thoughts:
        """Return whether the answer to `prompt` may begin with thoughts."""
        # Enough tokens for the marker and the whitespace after it, even if each token is one character.
        end = b"".join(map(self._tokenizer.token_bytes, prompt[-2 * len(THINK_END) :])).rstrip()
        if not self.thinks or end.endswith(THINK_END.encode()):
            return Thoughts.NONE
        return Thoughts.OPEN if end.endswith(THINK_START.encode()) else Thoughts.POSSIBLE

    def _boundary_tokens(self) -> frozenset[int]:
        """Return the special tokens that begin turns and thoughts."""
        chat = [{"role": "user", "content": ""}]
        try:
            whole, ended = (
                self._render(chat, [], TemplateOptions(add_generation_prompt=turn)) for turn in (True, False)
            )
        except InvalidRequestError:
            return frozenset()  # the template rejects this sample chat
        # A turn begins with the first token that `add_generation_prompt` adds.
        opening = self._tokenizer.encode(whole.removeprefix(ended) if whole.startswith(ended) else "")
        special = self._tokenizer.special
        names = {THINK_START} | {text for text, token in special.items() if token in opening[:1]}
        return frozenset(special[name] for name in names if name in special)

    def _call_form(self) -> CallForm:
        try:
            return call_form(
                lambda chat: self._render(chat, [], TemplateOptions(add_generation_prompt=False), self._template(True)),
                tuple(self._tokenizer.special),
            )
        except InvalidRequestError:
            return CallForm()  # the template rejects the sample chat

    def _with_tools(self, chat: list[dict[str, Any]], tools: list[Any]) -> list[dict[str, Any]]:
        """Return `chat` with the tools listed in its system message."""
        form = self.call_form or CallForm()
        example = f"{form.before_arguments('NAME')}{{...}}{form.after_arguments}"
        listed = f"List of tools: {to_json(tools)}\nTo call a tool, answer only with {example}"
        if chat and chat[0]["role"] == "system":
            return [chat[0] | {"content": f"{chat[0]['content']}\n{listed}"}, *chat[1:]]
        return [{"role": "system", "content": listed}, *chat]

    def _template(self, with_tools: bool) -> Template:
        if not self._templates:
            raise InvalidRequestError(
                "This model has no chat template, so it supports only /v1/completions. To support chats, start the "
                "server with --chat-template FILE.",
                "messages",
            )
        return self._templates[with_tools]

    def _render(
        self, chat: list[dict[str, Any]], tools: list[Any], options: TemplateOptions, template: Template | None = None
    ) -> str:
        template = template or self._template(bool(tools))
        own = {
            "messages": chat,
            "tools": tools or None,
            "add_generation_prompt": options.add_generation_prompt and not options.continue_final_message,
            **self._variables,
        }
        try:
            return template.jinja.render(self._escape.value(options.variables) | own)
        except jinja2.TemplateError as error:
            raise InvalidRequestError(_template_error("rejected", error), "messages") from None
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
            raise InvalidRequestError(_template_error("cannot render", error), "messages") from None

    def _up_to_end_of_content(self, chat: list[dict[str, Any]], tools: list[Any], options: TemplateOptions) -> str:
        """Render a chat up to the end of its last message's content.

        The model then continues this message.
        """
        mark = secrets.token_hex(16)  # marks the end of the content in the rendered text
        last = chat[-1] | {"content": chat[-1]["content"].rstrip() + mark}
        text, found, _ = self._render([*chat[:-1], last], tools, options).rpartition(mark)
        if not found:
            message = "The last message cannot be continued because the chat template changes its content."
            raise InvalidRequestError(message, "continue_final_message")
        return text

    def _message(self, message: Message, template: Template) -> dict[str, Any]:
        """Return a message as the template expects it.

        Writes calls and thoughts into the content if the template does not render them.
        """
        escape = self._escape.text
        rendered: dict[str, Any] = {"role": message.role}
        if message.name is not None:
            rendered["name"] = escape(message.name)
        if message.tool_call_id is not None:
            rendered["tool_call_id"] = escape(message.tool_call_id)
        calls = thoughts = ""
        if message.tool_calls and template.renders_calls:
            rendered["tool_calls"] = [self._escape.value(_call_object(call)) for call in message.tool_calls]
        elif message.tool_calls:
            calls = self._calls_text(message.tool_calls)
        if message.reasoning and template.reasoning_field:
            rendered[template.reasoning_field] = escape(message.reasoning)
        elif message.reasoning and self.thinks:
            thoughts = f"{THINK_START}{escape(message.reasoning)}{THINK_END}"
        content = escape(message.content, OWN_MARKERS if message.role == "assistant" else ())
        return rendered | {"content": thoughts + calls + content}

    def _calls_text(self, calls: Sequence[ToolCall]) -> str:
        if self.call_form is not None:
            objects = [_call_object(call)["function"] for call in calls]
            pairs = [(function["name"], to_json(function["arguments"])) for function in objects]
            return self._escape.text(self.call_form.written(pairs))
        written = ", ".join(map(_call_text, calls))
        return f"{CALL_START}[{self._escape.text(written)}]{CALL_END}"

    def _tool(self, tool: Tool) -> dict[str, Any]:
        function: dict[str, Any] = {"name": tool.name}
        if tool.description is not None:
            function["description"] = tool.description
        function["parameters"] = tool.parameters or NO_PARAMETERS
        return function if self._bare_tools else {"type": "function", "function": function}


class SpecialTokenEscape:
    """An escape for special tokens that are spelled out in a client's text.

    Before rendering, `<|im_end|>` becomes `<NONCE|im_end|>`. After rendering, `encode` removes the nonce and turns the
    text `<|im_end|>` into ordinary tokens.
    """

    def __init__(self, special: Mapping[str, int]) -> None:
        longest_first = sorted(special, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._nonce = secrets.token_hex(8)

    def text(self, text: str, allowed: Sequence[str] = ()) -> str:
        """Escape the special tokens spelled out in `text`, except those in `allowed`."""
        if not self._special.search(text):
            return text
        return self._special.sub(lambda m: m[0] if m[0] in allowed else m[0][0] + self._nonce + m[0][1:], text)

    def value(self, value: Any) -> Any:
        """Return a copy of a JSON value with all strings and keys escaped."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(key): self.value(inner) for key, inner in value.items()}
        return [self.value(inner) for inner in value] if isinstance(value, list) else value

    def encode(self, text: str, tokenizer: Tokenizer) -> list[int]:
        """Tokenize a rendered prompt. Escaped special tokens become plain text."""
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


def _call_text(call: ToolCall) -> str:
    try:
        return render_call(call.name, arguments_object(call.arguments))
    except ValueError:
        raise _bad_arguments(call) from None


def _call_object(call: ToolCall) -> dict[str, Any]:
    try:
        arguments = json.loads(arguments_object(call.arguments))
    except ValueError:
        raise _bad_arguments(call) from None
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _bad_arguments(call: ToolCall) -> InvalidRequestError:
    message = f"The arguments of {shown(call.name)} must be a JSON object as a string; got '{shown(call.arguments)}'."
    return InvalidRequestError(message, call.field)
