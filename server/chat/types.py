"""Types of the chat layer: requests, and the deltas of their answers.

They are independent of HTTP, wire formats, templates and tokenization.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from server.chat.thinking import Thinking
from server.engine.types import PromptProgress, SamplingParams

Role = Literal["system", "user", "assistant", "tool"]
TextKind = Literal["json", "regex", "choice", "grammar"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call in the history of a chat.

    arguments: JSON text as the client sent it.
    field: the field of the request that holds the arguments, for error messages.
    """

    id: str
    name: str
    arguments: str
    field: str = "messages"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat.

    Only an assistant message has `tool_calls` and `reasoning`. Only a tool message has `tool_call_id`.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str | None = None


@dataclass(frozen=True, slots=True)
class TextForm:
    """The form that an answer must match as a whole, unless the answer is a call.

    value: a JSON schema, a regular expression, a list of texts to choose from, or a grammar in the syntax of Lark or
        GBNF.
    field: the field of the request that holds `value`, for error messages.
    """

    kind: TextKind
    value: Any
    field: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call.

    parameters: the JSON schema of the function's parameters, unchanged.
    strict: whether the whole schema must be enforced.
    field: path of `parameters` in the request, for error messages.
    input_form: the form that the input of a custom tool must match. The input is the tool's only argument, a string.
        None if only `parameters` restricts the arguments.
    """

    name: str
    description: str | None
    parameters: Mapping[str, Any]
    strict: bool = False
    field: str = "tools"
    input_form: TextForm | None = None

    @property
    def properties(self) -> tuple[str, ...]:
        """The names of the parameters, in the schema's order."""
        properties = self.parameters.get("properties")
        return tuple(properties) if isinstance(properties, Mapping) else ()


@dataclass(frozen=True, slots=True)
class Calling:
    """The rules for tool calls in an answer.

    tools: the tools that may be called; the prompt may list others as well.
    required: whether the answer must contain at least one call.
    parallel: whether the answer may contain several calls.
    forbidden: True if the prompt lists tools, but the answer must not contain a call.
    max_calls: maximum number of calls; None if there is no limit. The answer ends if the model begins a further call.
    """

    tools: tuple[Tool, ...] = ()
    required: bool = False
    parallel: bool = True
    forbidden: bool = False
    max_calls: int | None = None


@dataclass(frozen=True, slots=True)
class TemplateOptions:
    """Options for rendering a chat with the template.

    variables: template variables that the request adds.
    add_generation_prompt: whether the prompt ends with the start of an assistant turn.
    continue_final_message: whether the model continues the last message instead of starting a turn.
    add_special_tokens: whether to put the model's BOS before a prompt that does not begin with it.
    """

    variables: Mapping[str, Any] = field(default_factory=dict)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    add_special_tokens: bool = False


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat to answer `n` times.

    sampling: parameters of choice 0; choice i adds i to the seed.
    tools: the tools that the prompt lists.
    max_tokens: maximum number of tokens in an answer; None if only the context limits it.
    stop_token_ids: tokens that end an answer, in addition to the model's own.
    ignore_eos: whether an answer goes on after the model's own stop tokens.
    show_special_tokens: whether special tokens stay in the text.
    report_progress: whether to send deltas with `progress` during prefill.
    truncate: whether to drop the oldest messages if the prompt does not fit.
    """

    messages: tuple[Message, ...]
    sampling: SamplingParams
    tools: tuple[Tool, ...] = ()
    calling: Calling = Calling()
    text_form: TextForm | None = None
    thinking: Thinking = field(default_factory=Thinking)
    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    n: int = 1
    template: TemplateOptions = TemplateOptions()
    show_special_tokens: bool = False
    report_progress: bool = False
    truncate: bool = False


@dataclass(frozen=True, slots=True)
class TextRequest:
    """Prompts to continue `n` times each.

    prompts: each prompt is a text or token ids.
    sampling: parameters of choice 0 of each prompt; choice i adds i to the seed.
    max_tokens: maximum number of tokens in an answer; it may be 0 if `echo` is set.
    text_form: the form that each answer must match. The prompt is not part of the matched text.
    stop_token_ids: tokens that end an answer, in addition to the model's own.
    ignore_eos: whether an answer goes on after the model's own stop tokens.
    echo: whether to repeat the prompt before the answer. The prompt's tokens then have log-probabilities if `sampling`
        requests them.
    add_special_tokens: whether to put the model's BOS before a prompt that is text.
    show_special_tokens: whether special tokens stay in the answer.
    """

    prompts: tuple[str | tuple[int, ...], ...]
    sampling: SamplingParams
    max_tokens: int
    text_form: TextForm | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    n: int = 1
    echo: bool = False
    add_special_tokens: bool = True
    show_special_tokens: bool = False


class Thoughts(StrEnum):
    """Whether an answer may begin with thoughts.

    NONE: the answer has no thoughts.
    OPEN: the prompt has already opened the thoughts.
    POSSIBLE: the model may open thoughts.
    """

    NONE = "none"
    OPEN = "open"
    POSSIBLE = "possible"


class ChoiceEnd(StrEnum):
    """The reason why a choice ended, called finish_reason by OpenAI."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class TokenText:
    """The bytes of a token and its log-probability.

    data: the bytes, which may be an incomplete character.
    """

    data: bytes
    logprob: float

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token and the most likely tokens at its position."""

    token: TokenText
    top: tuple[TokenText, ...]


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """The next piece of a call.

    index: the number of the call within its choice, from 0.
    id, name: set only in the first piece of a call.
    arguments: a piece of JSON text. All pieces joined are a JSON object, or the beginning of one if the answer was cut
        off.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of a choice.

    token_ids: the tokens generated since the previous delta.
    progress: the progress of the prefill; sent only before the first token.
    end: set only in the last delta of a choice.
    stop: the stop string that ended the choice, set only in its last delta.
    """

    content: str = ""
    reasoning: str = ""
    tool_call: ToolCallDelta | None = None
    logprobs: tuple[TokenLogprob, ...] = field(default=())
    token_ids: tuple[int, ...] = ()
    progress: PromptProgress | None = None
    end: ChoiceEnd | None = None
    stop: str | None = None
