"""Converts the body of a completion request to a `TextRequest`."""

from __future__ import annotations

from server.api.completions.fields import DEFAULT_MAX_TOKENS, CompletionRequest
from server.api.generation.sampling import sampling_params
from server.chat.types import TextRequest
from server.engine.types import SamplingParams


def to_text_request(body: CompletionRequest, defaults: SamplingParams) -> TextRequest:
    """Return the text request in `body`.

    defaults: sampling parameters that apply if `body` does not set them.
    """
    return TextRequest(
        prompts=body.prompt,
        sampling=sampling_params(body, defaults, body.logprobs),
        text_form=body.text_form,
        max_tokens=DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens,
        min_tokens=body.min_tokens or 0,
        stop=tuple(body.stop or ()),
        stop_token_ids=frozenset(body.stop_token_ids or ()),
        ignore_eos=bool(body.ignore_eos),
        n=body.n or 1,
        echo=bool(body.echo),
        add_special_tokens=body.add_special_tokens is not False,
        show_special_tokens=body.skip_special_tokens is False,
    )
