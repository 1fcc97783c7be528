"""Types of the chat layer: requests, and the deltas of their answers."""

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

    arguments: JSON text from the client.
    field: request field with the arguments, for errors.
    """

    id: str
    name: str
    arguments: str
    field: str = "messages"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat.

    Only assistant messages have `tool_calls` and `reasoning`. Only tool messages have `tool_call_id`.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str | None = None


@dataclass(frozen=True, slots=True)
class TextForm:
    """The form that a whole answer must have, unless the answer is a call.

    value: JSON schema, regular expression, list of texts, or grammar in Lark or GBNF.
    field: request field with `value`, for errors.
    """

    kind: TextKind
    value: Any
    field: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A function or custom tool that the model may call.

    parameters: JSON schema of the parameters.
    strict: whether the whole schema must be enforced.
    field: path of `parameters` in the request, for errors.
    input_form: form of a custom tool's only argument; None for functions, and for custom tools that accept any text.
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

    tools: the tools that may be called. The prompt may list further tools.
    required: whether the answer must contain a call.
    parallel: whether the answer may contain several calls.
    forbidden: whether calls are forbidden although the prompt lists tools.
    max_calls: maximum number of calls; None if unlimited. A further call ends the answer.
    """

    tools: tuple[Tool, ...] = ()
    required: bool = False
    parallel: bool = True
    forbidden: bool = False
    max_calls: int | None = None


@dataclass(frozen=True, slots=True)
class TemplateOptions:
    """Options for rendering a chat with the template.

    variables: template variables of the request.
    add_generation_prompt: whether to end the prompt with the start of an assistant turn.
    continue_final_message: whether the model continues the last message.
    add_special_tokens: whether to put the BOS before the prompt.
    """

    variables: Mapping[str, Any] = field(default_factory=dict)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    add_special_tokens: bool = False


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat to answer `n` times.

    sampling: parameters of choice 0. Choice i adds i to the seed.
    tools: the tools that the prompt lists.
    max_tokens: maximum number of tokens in an answer; None if the request sets no limit.
    stop_token_ids: tokens that end an answer, in addition to the model's own stop tokens.
    ignore_eos: whether to ignore the model's own stop tokens.
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
    max_tokens: maximum number of tokens in an answer. May be 0 with `echo`.
    text_form: form of each answer, without the prompt.
    echo: whether to repeat the prompt before the answer.
    add_special_tokens: whether to put the model's BOS before a prompt that is text.

    The other fields mean the same as in ChatRequest.
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

    NONE: no.
    OPEN: the prompt has already opened the thoughts.
    POSSIBLE: the model may open thoughts.
    """

    NONE = "none"
    OPEN = "open"
    POSSIBLE = "possible"


class ChoiceEnd(StrEnum):
    """The reason why a choice ended: OpenAI's finish_reason."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class TokenText:
    """A token and its log-probability.

    data: bytes of the token, which may end within a character.
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

    index: number of the call in its choice, from 0.
    id: set only in the first piece.
    name: set only in the first piece.
    arguments: a piece of the JSON text.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of a choice.

    token_ids: tokens since the previous delta.
    progress: progress of the prefill, before the first token.
    end: set only in the last delta of a choice.
    stop: stop string that ended the choice, set only in the last delta.
    """

    content: str = ""
    reasoning: str = ""
    tool_call: ToolCallDelta | None = None
    logprobs: tuple[TokenLogprob, ...] = field(default=())
    token_ids: tuple[int, ...] = ()
    progress: PromptProgress | None = None
    end: ChoiceEnd | None = None
    stop: str | None = None
