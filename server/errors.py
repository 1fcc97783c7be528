"""Exceptions that the package raises on purpose.

`server.api.http.api_error` maps them to HTTP statuses.
"""

from __future__ import annotations


class LfmServeError(Exception):
    """Base class of this module's errors, whose messages are written for users."""


def shown(text: str, limit: int = 60) -> str:
    """Return a client's text, safe to show in a message.

    A text longer than `limit` characters is cut. Unprintable characters are escaped.
    """
    whole = text if len(text) <= limit else text[: limit - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in whole)


class StartupError(LfmServeError):
    """The server cannot start with this model, these options or this memory."""


class HubError(StartupError):
    """A model cannot be downloaded from the hub."""


class ModelFolderError(StartupError):
    """A model folder is incomplete, or one of its files is invalid or not supported."""


class UnsupportedModelError(StartupError):
    """The ONNX graph of a model cannot be served."""


class PreparationError(LfmServeError):
    """A prepared copy cannot be written."""


class SharedMemoryError(LfmServeError):
    """Weights cannot be placed in shared memory."""


class CacheFolderError(LfmServeError):
    """A cache folder cannot be read or cleared."""


class KernelsError(LfmServeError):
    """The native kernels cannot be used."""


class MissingExtraError(LfmServeError):
    """A command needs the packages of an extra that is not installed."""

    def __init__(self, command: str, extra: str) -> None:
        super().__init__(f"{command} needs packages that are not installed: pip install 'lfm-serve[{extra}]'")


class ExportError(LfmServeError):
    """A checkpoint cannot be exported."""


class InvalidRequestError(LfmServeError):
    """A field of a request has an invalid value.

    param: path of the field, such as `messages[2].content`; None if no single field is at fault.
    code: OpenAI's error code.
    """

    def __init__(self, message: str, param: str | None = None, code: str | None = "invalid_value") -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class ContextLengthError(InvalidRequestError):
    """A prompt leaves no room in the context for an answer."""

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
    """A request body has a content encoding, such as gzip."""

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
    """A response or item is not stored for the request's API key.

    param: path of the field with the unknown id; None if the id is in the URL.
    code: OpenAI's error code.
    """

    def __init__(self, message: str, param: str | None, code: str) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class InvalidApiKeyError(LfmServeError):
    """The API key is missing or wrong."""


class QueueFullError(LfmServeError):
    """The queue is full.

    limit: capacity of the queue, such as "64 requests".
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
    """A request did not finish within `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The request did not finish within its time limit of {seconds:g} seconds.")


class SlowClientError(LfmServeError):
    """A request body did not arrive within `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The request body did not arrive within {seconds:g} seconds.")


class ModelNotReadyError(LfmServeError):
    """The server cannot answer requests at the moment.

    code: "model_loading", "stalled", "failed", "draining" or "overloaded"; with Ray Serve, also "replica_died" or
        "unavailable".
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
    """A fault in the server stopped the analysis of a client's grammar.

    The log has the cause.
    """


class StepFailedError(LfmServeError):
    """The engine could not compute a sequence, but keeps running."""
