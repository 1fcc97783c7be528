"""What answers look like, for the OpenAPI document only: answers are plain JSON and not checked against this."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

Id = Annotated[str, Field(description="The answer's own id.", examples=["chatcmpl-0f3a"])]
Created = Annotated[int, Field(description="When it was begun, in seconds since 1970.", examples=[1767225600])]
ModelName = Annotated[str, Field(description="The served model's id.", examples=["lfm2-demo"])]
Fingerprint = Annotated[
    str, Field(description="Changes with the model's files, this version and its settings.", examples=["fp_1c0ffee"])
]
Index = Annotated[int, Field(ge=0, description="The choice's number, from 0 to n - 1.", examples=[0])]
Logprob = Annotated[float, Field(le=0, description="Natural logarithm; -9999 for minus infinity.", examples=[-0.31])]


TokenIds = Annotated[
    list[int] | None,
    Field(description="With return_token_ids: generated tokens, the end's included.", examples=[[306]]),
]
PromptTokenIds = Annotated[
    list[int] | None, Field(description="With return_token_ids: the prompt's tokens.", examples=[[1, 6, 423]])
]


class Error(BaseModel):
    """What went wrong."""

    message: str = Field(description="One sentence.", examples=["`messages` is required."])
    type: str = Field(description="OpenAI's class of error.", examples=["invalid_request_error"])
    param: str | None = Field(description="The field it is about.", examples=["messages[0].content"])
    code: str | None = Field(description="The kind of error, for programs.", examples=["missing_required_parameter"])


class ErrorBody(BaseModel):
    """The one shape of every error; a stream tells of a late one in its last event."""

    error: Error


class PromptTokensDetails(BaseModel):
    cached_tokens: int = Field(ge=0, description="Tokens of the prompt that needed no computing.", examples=[0])


class Usage(BaseModel):
    """How many tokens it took."""

    prompt_tokens: int = Field(ge=0, description="Tokens of the prompt, the template's included.", examples=[14])
    completion_tokens: int = Field(ge=0, description="Tokens generated, of all choices.", examples=[9])
    total_tokens: int = Field(ge=0, description="Both.", examples=[23])
    prompt_tokens_details: PromptTokensDetails


class Timings(BaseModel):
    """How long it took, by llama.cpp's names."""

    cache_n: int = Field(ge=0, description="Tokens of the prompt that needed no computing.", examples=[0])
    prompt_n: int = Field(ge=0, description="Tokens of the prompt that were computed.", examples=[14])
    prompt_ms: float = Field(ge=0, description="From the prompt's begin to the first token.", examples=[3.2])
    prompt_per_token_ms: float | None = Field(description="The same for each token.", examples=[0.229])
    prompt_per_second: float | None = Field(description="Tokens of the prompt a second.", examples=[4375.0])
    predicted_n: int = Field(ge=0, description="Tokens generated.", examples=[9])
    predicted_ms: float = Field(ge=0, description="From the first token to the last.", examples=[11.6])
    predicted_per_token_ms: float | None = Field(description="The same for each token.", examples=[1.45])
    predicted_per_second: float | None = Field(description="Tokens generated a second.", examples=[689.7])


class PromptProgress(BaseModel):
    """How far the prompt is, by llama.cpp's names."""

    total: int = Field(ge=0, description="Tokens of the prompt.", examples=[2000])
    cache: int = Field(ge=0, description="Those that needed no computing.", examples=[0])
    processed: int = Field(ge=0, description="Those that are done, the cached ones included.", examples=[512])
    time_ms: float = Field(ge=0, description="Since the prompt was begun.", examples=[180.5])


class LikelyToken(BaseModel):
    """A token and how likely it was."""

    token: str = Field(description="Its text.", examples=["Hello"])
    logprob: Logprob
    bytes: list[int] = Field(description="Its text in UTF-8, perhaps half a character.", examples=[[72, 105]])


class GeneratedToken(LikelyToken):
    top_logprobs: list[LikelyToken] = Field(description="The most likely ones in its place, as many as asked for.")


class ChatLogprobs(BaseModel):
    content: list[GeneratedToken] = Field(description="One for each token of the answer.")
    refusal: None = None


class AnswerFunction(BaseModel):
    name: str = Field(description="One of the given tools.", examples=["get_weather"])
    arguments: str = Field(description="A JSON object, or its beginning where cut.", examples=['{"city": "Bern"}'])


class AnswerCustom(BaseModel):
    name: str = Field(description="One of the given tools.", examples=["shell"])
    input: str = Field(description="The text for it.", examples=["ls"])


class AnswerToolCall(BaseModel):
    """A call: `function` or `custom` says of what, as `type` tells."""

    id: str = Field(description="To be repeated as tool_call_id with the result.", examples=["call_5f2c"])
    type: Literal["function", "custom"]
    function: AnswerFunction | None = None
    custom: AnswerCustom | None = None


class AnswerMessage(BaseModel):
    role: Literal["assistant"]
    content: str | None = Field(description="The text; null beside calls where there is none.", examples=["Hello!"])
    refusal: None = None
    reasoning_content: str | None = Field(None, description="What a model that thinks has thought; absent if nothing.")
    tool_calls: list[AnswerToolCall] | None = Field(None, description="Absent where nothing is called.")
    function_call: AnswerFunction | None = Field(None, description="The old form, where `functions` were given.")


FinishReason = Annotated[
    Literal["stop", "length", "tool_calls", "function_call"],
    Field(description="stop: by itself or at a stop string; length: cut at max_completion_tokens; or a call."),
]


class ChatChoice(BaseModel):
    index: Index
    message: AnswerMessage
    logprobs: ChatLogprobs | None = Field(description="Where asked for.")
    token_ids: TokenIds = None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """A chat's answer."""

    id: Id
    object: Literal["chat.completion"]
    created: Created
    model: ModelName
    system_fingerprint: Fingerprint
    choices: list[ChatChoice]
    usage: Usage
    timings: Timings
    prompt_token_ids: PromptTokenIds = None


class FunctionDelta(BaseModel):
    name: str | None = Field(None, description="In the call's first delta.")
    arguments: str | None = Field(None, description="More of the JSON object's text.")


class CustomDelta(BaseModel):
    name: str | None = Field(None, description="In the call's first delta.")
    input: str | None = Field(None, description="The text, when it is complete.")


class ToolCallDelta(BaseModel):
    index: int = Field(ge=0, description="The call's number within its choice.")
    id: str | None = Field(None, description="In the call's first delta, as are type and name.")
    type: Literal["function", "custom"] | None = None
    function: FunctionDelta | None = None
    custom: CustomDelta | None = None


class MessageDelta(BaseModel):
    """What a message has gained."""

    role: Literal["assistant"] | None = Field(None, description="In the choice's first chunk.")
    content: str | None = Field(None, description="More of the text.")
    refusal: None = None
    reasoning_content: str | None = Field(None, description="More of what it thinks.")
    tool_calls: list[ToolCallDelta] | None = None
    function_call: FunctionDelta | None = None


class ChatChunkChoice(BaseModel):
    index: Index
    delta: MessageDelta
    logprobs: ChatLogprobs | None = None
    token_ids: TokenIds = None
    finish_reason: FinishReason | None = Field(description="In the choice's last chunk.")


class ChatCompletionChunk(BaseModel):
    """An event of a stream: `data: {...}`. After the last one comes `data: [DONE]`."""

    id: Id
    object: Literal["chat.completion.chunk"]
    created: Created
    model: ModelName
    system_fingerprint: Fingerprint
    choices: list[ChatChunkChoice] = Field(description="One, or none in the chunk of the usage.")
    usage: Usage | None = Field(None, description="As stream_options ask for it.")
    timings: Timings | None = Field(None, description="In each choice's last chunk.")
    prompt_progress: PromptProgress | None = Field(None, description="With return_progress, before the first token.")
    prompt_token_ids: PromptTokenIds = None


class TextLogprobs(BaseModel):
    tokens: list[str] = Field(description="The tokens' texts.", examples=[["Once", " upon"]])
    token_logprobs: list[Logprob | None] = Field(description="Null for a first token, which nothing predicts.")
    top_logprobs: list[dict[str, Logprob] | None] = Field(description="The most likely ones in each one's place.")
    text_offset: list[int] = Field(description="Where each begins, in characters.", examples=[[0, 4]])


class TextChoice(BaseModel):
    index: Index
    text: str = Field(description="What follows the prompt, after the prompt itself with echo.", examples=[" upon a"])
    logprobs: TextLogprobs | None = Field(description="Where asked for.")
    token_ids: TokenIds = None
    prompt_token_ids: PromptTokenIds = None
    finish_reason: Literal["stop", "length"] | None = Field(description="Null in a stream's chunks but the last.")


class TextCompletion(BaseModel):
    """A text's continuation; a stream's events have the same shape."""

    id: Id
    object: Literal["text_completion"]
    created: Created
    model: ModelName
    system_fingerprint: Fingerprint
    choices: list[TextChoice]
    usage: Usage | None = None


class ModelEntry(BaseModel):
    """A model that is served."""

    id: ModelName
    object: Literal["model"]
    created: Created
    owned_by: str = Field(examples=["lfm-serve"])
    max_model_len: int = Field(gt=0, description="Tokens of prompt and answer together.", examples=[4096])


class ModelDetails(ModelEntry):
    """The same with its sampling."""

    sampling_defaults: dict[str, float] = Field(
        description="The sampling in force where a request says nothing.",
        examples=[{"temperature": 0.3, "min_p": 0.15}],
    )


class ModelList(BaseModel):
    """Every name the model is served under."""

    object: Literal["list"]
    data: list[ModelEntry]


class Tokens(BaseModel):
    """A prompt's tokens."""

    count: int = Field(ge=0, description="How many.", examples=[3])
    max_model_len: int = Field(gt=0, description="Tokens of prompt and answer together.", examples=[4096])
    tokens: list[int] = Field(description="Their ids.", examples=[[1, 306, 512]])
    token_strs: list[str] | None = Field(None, description="Their texts, with return_token_strs.")


class Text(BaseModel):
    """The text of tokens."""

    prompt: str = Field(description="The text, special tokens written out.", examples=["<|startoftext|>Hello"])


class Status(BaseModel):
    """That all is well."""

    status: Literal["ok", "ready"]


class Version(BaseModel):
    """This server's version."""

    version: str = Field(examples=["0.1.0"])
