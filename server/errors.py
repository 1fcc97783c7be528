"""What can go wrong, as exceptions that carry their facts. Knows no HTTP: `server.api.http.errors` has the statuses."""

from __future__ import annotations


class LfmServeError(Exception):
    """Base of every error this package raises on purpose; `str()` is fit to show to a user."""


class StartupError(LfmServeError):
    """The server cannot start with what it was given (model, options, memory); the message says what to change."""


class HubError(StartupError):
    """A model could not be had from the hub."""


class ModelFolderError(StartupError):
    """A model folder lacks something or holds something that cannot be served."""


class UnsupportedModelError(StartupError):
    """The graph cannot be served: says what was found and what was expected."""


class PreparationError(LfmServeError):
    """A model cannot be prepared."""


class ExportError(LfmServeError):
    """A checkpoint cannot be exported."""


class InvalidRequestError(LfmServeError):
    """A request's field has a value that is not allowed.

    `param` is the field as the client spells it (`messages[2].content`), `code` OpenAI's error code.
    """

    def __init__(self, message: str, param: str | None = None, code: str | None = "invalid_value") -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class ContextLengthError(InvalidRequestError):
    """A prompt that leaves no room for one generated token; both numbers are tokens."""

    def __init__(self, prompt_tokens: int, max_model_len: int, param: str = "messages") -> None:
        super().__init__(
            f"This model's maximum context length is {max_model_len} tokens and at least one must be left for the "
            f"answer; your prompt has {prompt_tokens} tokens. Please shorten it.",
            param=param,
            code="context_length_exceeded",
        )
        self.prompt_tokens = prompt_tokens
        self.max_model_len = max_model_len


class RequestTooLargeError(LfmServeError):
    """A request's body is longer than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request's body is too large: at most {limit:,} bytes are taken.")


class ModelNotFoundError(LfmServeError):
    """A request names a model that is not served here."""

    def __init__(self, model: str, served: tuple[str, ...]) -> None:
        super().__init__(f"The model `{model}` does not exist here. Served: {', '.join(served)}.")
        self.model = model


class InvalidApiKeyError(LfmServeError):
    """No API key, or not the one this server was started with."""


class QueueFullError(LfmServeError):
    """Admission refused: as much waits as may; `limit` says how much that is. `retry_after` is in seconds."""

    def __init__(self, limit: str, retry_after: float) -> None:
        super().__init__(f"The server is overloaded: at most {limit} may wait. Please try again later.")
        self.retry_after = retry_after


class RateLimitError(LfmServeError):
    """A key uses as much as it may. `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RequestTimeoutError(LfmServeError):
    """A request has taken as long as it may: what the server, or the client, set for it."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The request was not finished within its time limit of {seconds:g} seconds.")


class SlowClientError(LfmServeError):
    """A client takes too long to send its request."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The request's body did not arrive within {seconds:g} seconds.")


class ModelNotReadyError(LfmServeError):
    """Not now: `code` says why, `retry_after` (seconds) when to ask again.

    The model is still loading ("model_loading"), hangs ("stalled") or cannot go on ("failed"), the server is stopping
    ("draining"), has too many connections or a queue that is too slow ("overloaded").
    """

    def __init__(self, message: str, code: str, retry_after: float) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


def engine_failed() -> ModelNotReadyError:
    """What everybody gets once the engine cannot go on."""
    return ModelNotReadyError("The engine has failed; the server has to be started again.", "failed", retry_after=30)


class StepFailedError(LfmServeError):
    """The engine step that carried this sequence failed; its cause is in the log, other sequences go on."""
