"""All exceptions that the package raises on purpose.

This module is independent of HTTP: `server.api.http.api_error` maps the exceptions to statuses.
"""

from __future__ import annotations


class LfmServeError(Exception):
    """The base class of all errors in this module.

    The message of an error is written for users.
    """


def shown(text: str, limit: int = 60) -> str:
    """Return a client's text in a form that is safe to show in a message.

    The text is cut after `limit` characters. Characters that are not printable are escaped.
    """
    whole = text if len(text) <= limit else text[: limit - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in whole)


class StartupError(LfmServeError):
    """The server cannot start with the given model and options or with the available memory.

    The message says what to change.
    """


class HubError(StartupError):
    """A model cannot be downloaded from the hub."""


class ModelFolderError(StartupError):
    """A model folder is incomplete, or one of its files cannot be served."""


class UnsupportedModelError(StartupError):
    """The ONNX graph of a model cannot be served.

    The message names what the graph contains and what the server expects.
    """


class PreparationError(LfmServeError):
    """A prepared copy cannot be written."""


class CacheFolderError(LfmServeError):
    """A cache folder cannot be read or cleared."""


class KernelsError(LfmServeError):
    """The native kernels cannot be used.

    The message says why, and what to do.
    """


class MissingExtraError(LfmServeError):
    """A command needs the packages of an extra that is not installed."""

    def __init__(self, command: str, extra: str) -> None:
        super().__init__(f"{command} needs packages that are not installed: pip install 'lfm-serve[{extra}]'")


class ExportError(LfmServeError):
    """A checkpoint cannot be exported."""


class InvalidRequestError(LfmServeError):
    """A field of a request has an invalid value.

    param: path of the field in the request, such as `messages[2].content`.
    code: OpenAI's error code.
    """

    def __init__(self, message: str, param: str | None = None, code: str | None = "invalid_value") -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class ContextLengthError(InvalidRequestError):
    """A prompt fills the whole context, so that no token can be generated."""

    def __init__(self, prompt_tokens: int, max_model_len: int, param: str = "messages") -> None:
        super().__init__(
            f"This model's maximum context length is {max_model_len} tokens, and your prompt has {prompt_tokens} "
            "tokens. Please shorten the prompt: the answer needs at least one token.",
            param=param,
            code="context_length_exceeded",
        )
        self.prompt_tokens = prompt_tokens
        self.max_model_len = max_model_len


class RequestTooLargeError(LfmServeError):
    """A request body exceeds `limit` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request body is too large: the limit is {limit:,} bytes.")


class ContentEncodingError(LfmServeError):
    """A request body is compressed, which the server does not support."""

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"The request body has the content encoding {encoding[:40]!r}, which is not supported. "
            "Send the body without a content encoding."
        )


class ModelNotFoundError(LfmServeError):
    """A request names a model that this server does not serve."""

    def __init__(self, model: str, served: tuple[str, ...]) -> None:
        super().__init__(f"The model `{shown(model)}` does not exist. This server serves: {', '.join(served)}.")
        self.model = model


class NotStoredError(LfmServeError):
    """A request names a response or an item that is not stored for its API key.

    param: path of the field in the request; None if the URL names the response.
    code: machine-readable code of the error.
    """

    def __init__(self, message: str, param: str | None, code: str) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class InvalidApiKeyError(LfmServeError):
    """The API key is missing or wrong."""


class QueueFullError(LfmServeError):
    """The queue is full.

    limit: capacity of the queue as text, such as "64 requests".
    retry_after: seconds to wait before a retry.
    """

    def __init__(self, limit: str, retry_after: float) -> None:
        super().__init__(f"The server is overloaded: at most {limit} may wait in the queue. Please try again later.")
        self.retry_after = retry_after


class RateLimitError(LfmServeError):
    """A key has reached one of its rate limits.

    retry_after: seconds to wait before a retry.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RequestTimeoutError(LfmServeError):
    """A request has reached the time limit set by the server or the client.

    seconds: the time limit.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The request did not finish within its time limit of {seconds:g} seconds.")


class SlowClientError(LfmServeError):
    """A client takes longer than `seconds` to send the body of its request."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The request body did not arrive within {seconds:g} seconds.")


class ModelNotReadyError(LfmServeError):
    """The server cannot answer requests at the moment.

    code: "model_loading"; "stalled" if an engine step hangs; "failed" if the engine has failed; "draining" if the
        server is stopping; "overloaded" if there are too many connections or the queue is too slow.
    retry_after: seconds to wait before a retry.
    """

    def __init__(self, message: str, code: str, retry_after: float) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


def engine_failed() -> ModelNotReadyError:
    """Return the error that every request gets after the engine has failed."""
    return ModelNotReadyError("The engine has failed; the server must be restarted.", "failed", retry_after=30)


class GrammarAnalysisError(LfmServeError):
    """The analysis of a client's grammar failed because of a fault in the server.

    The log has the cause.
    """


class StepFailedError(LfmServeError):
    """The engine step that computed this sequence failed.

    The log has the cause. Other sequences continue.
    """
