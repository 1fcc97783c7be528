"""What a chat is made of, before any template or token: requests in, deltas out. Knows no HTTP and no JSON shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from server.engine.types import PromptProgress, SamplingParams

Role = Literal["system", "user", "assistant", "tool"]
TextKind = Literal["json", "regex", "choice", "grammar"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call in the history; `arguments` is JSON text as the client sent it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. Only an assistant's has `tool_calls` and `reasoning`, only a tool's has `tool_call_id`."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call; `parameters` is its JSON schema, verbatim.

    `strict` asks for all of the schema to be enforced; `field` is where the client wrote it, as errors name it.
    """

    name: str
    description: str | None
    parameters: Mapping[str, Any]
    strict: bool = False
    field: str = "tools"

    @property
    def properties(self) -> tuple[str, ...]:
        """The names of the arguments, in the schema's order."""
        properties = self.parameters.get("properties")
        return tuple(properties) if isinstance(properties, Mapping) else ()


@dataclass(frozen=True, slots=True)
class Calling:
    """How tools may be called: only `tools` of those listed, at least one if `required`, several if `parallel`.

    `forbidden`: the tools are listed, but the answer must not open a call.
    """

    tools: tuple[Tool, ...] = ()
    required: bool = False
    parallel: bool = True
    forbidden: bool = False


@dataclass(frozen=True, slots=True)
class TextForm:
    """What text that is no call must match, all of it; `field` is where the client wrote `value`.

    That is a JSON schema, a regular expression, a list of texts to choose from, or a grammar in Lark's or GBNF's form.
    """

    kind: TextKind
    value: Any
    field: str


@dataclass(frozen=True, slots=True)
class TemplateOptions:
    """How the template is used: `variables` of its own, and whether it opens a new turn or continues the last.

    `add_special_tokens` puts the model's BOS in front of a prompt that does not begin with it.
    """

    variables: Mapping[str, Any] = field(default_factory=dict)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    add_special_tokens: bool = False


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat to answer `n` times; choice i samples with `seed` + i.

    tools: listed for the model in the prompt.
    max_tokens: None means up to the end of the context.
    stop_token_ids: added to the model's own, which `ignore_eos` leaves out.
    show_special_tokens: keep special tokens in the text.
    report_progress: send deltas with `progress` during prefill.
    """

    messages: tuple[Message, ...]
    sampling: SamplingParams
    tools: tuple[Tool, ...] = ()
    calling: Calling = Calling()
    text_form: TextForm | None = None
    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    n: int = 1
    template: TemplateOptions = TemplateOptions()
    show_special_tokens: bool = False
    report_progress: bool = False


@dataclass(frozen=True, slots=True)
class TextRequest:
    """Prompts, each a text or token ids, to continue `n` times each; choice i of a prompt samples with `seed` + i.

    max_tokens: may be 0 with `echo`.
    text_form: what each answer must match, without the prompt before it.
    stop_token_ids: added to the model's own, which `ignore_eos` leaves out.
    echo: repeat the prompt before the answer, with its tokens' log-probabilities if `sampling` requests them.
    add_special_tokens: put the model's BOS before prompts that are text.
    show_special_tokens: keep special tokens in the answer.
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
    """NONE: the answer begins at once. OPEN: the prompt has opened thoughts. POSSIBLE: the model may open them."""

    NONE = "none"
    OPEN = "open"
    POSSIBLE = "possible"


class ChoiceEnd(StrEnum):
    """OpenAI's finish_reason."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class TokenText:
    """A token as it is shown: `data` are its bytes, which may be half a character."""

    data: bytes
    logprob: float

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token with the most likely ones in its place."""

    token: TokenText
    top: tuple[TokenText, ...]


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """What a call has gained; `index` counts the calls of its choice. Its first one has `id` and `name`.

    The `arguments` of all joined are a JSON object, or its beginning where the answer was cut.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """What a choice has gained; the last one of a choice has `end`.

    `token_ids` are the tokens generated since the delta before; `progress` says how far the prompt is, before any.
    """

    content: str = ""
    reasoning: str = ""
    tool_call: ToolCallDelta | None = None
    logprobs: tuple[TokenLogprob, ...] = field(default=())
    token_ids: tuple[int, ...] = ()
    progress: PromptProgress | None = None
    end: ChoiceEnd | None = None
