"""Names the blocks of the prompts in requests.

The ingress renders and tokenizes a prompt as a replica does. The names are therefore the same as those in the replicas'
prefix caches, whatever the protocol of the request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydantic_core

from server.api.chat_completions.fields import ChatCompletionRequest
from server.api.chat_completions.to_chat_request import to_chat_request as chat_request
from server.api.completions.fields import CompletionRequest
from server.api.completions.to_text_request import to_text_request
from server.api.exchange import cache_salt
from server.api.generation.fields import GenerationFields
from server.api.messages.fields import MessagesRequest
from server.api.messages.to_chat_request import to_chat_request as messages_request
from server.api.responses.fields import ResponseRequest
from server.api.responses.to_chat_request import to_chat_request as response_request
from server.chat.prompt_tokens import PromptTokens
from server.chat.served_model import ServedModel
from server.engine.types import SamplingParams
from server.errors import LfmServeError
from server.kv_events.blocks import first_run, next_run

_NO_SAMPLING = SamplingParams()  # sampling does not change a prompt

Prompt = tuple[GenerationFields, list[int]]


@dataclass(frozen=True, slots=True)
class PromptBlocks:
    """Names the blocks of prompts for one model. Can be pickled.

    prompts: the part of the model that tokenizes prompts.
    identity: bytes that identify the model, as in `server.kv_events.blocks`.
    """

    prompts: PromptTokens
    identity: bytes

    @classmethod
    def of_model(cls, model: ServedModel) -> PromptBlocks:
        """Return the PromptBlocks of a served model."""
        return cls(model.service.prompts, model.service.engine.held_blocks.identity)

    def names(self, path: str, body: bytes, key_name: str | None) -> tuple[bytes, ...]:
        """Return the names of the blocks of a request's prompt.

        Only the first of several prompts counts. Returns no names if the request has no prompt, continues a stored
        response or is invalid.

        key_name: name of the client's API key; None without a valid key.
        """
        read = _PROTOCOLS.get(path)
        if read is None:
            return ()
        try:
            fields, tokens = read(self.prompts, pydantic_core.from_json(body))
        except (LfmServeError, ValueError, RecursionError):
            return ()
        start = first_run(self.identity, cache_salt(key_name, fields.cache_salt))
        return tuple(block.name for block in next_run(start, np.array(tokens, np.int64)).blocks)


def _chat(prompts: PromptTokens, value: Any) -> Prompt:
    body = ChatCompletionRequest.model_validate(value)
    return body, prompts.of_chat(chat_request(body, _NO_SAMPLING))


def _message(prompts: PromptTokens, value: Any) -> Prompt:
    body = MessagesRequest.model_validate(value)
    return body, prompts.of_chat(messages_request(body, _NO_SAMPLING))


def _response(prompts: PromptTokens, value: Any) -> Prompt:
    body = ResponseRequest.model_validate(value)
    if body.previous_response_id is not None or any(item.type == "item_reference" for item in body.input or ()):
        return body, []  # only one replica has stored the conversation
    return body, prompts.of_chat(response_request(body, (), _NO_SAMPLING))


def _text(prompts: PromptTokens, value: Any) -> Prompt:
    body = CompletionRequest.model_validate(value)
    request = to_text_request(body, _NO_SAMPLING)
    first = request.prompts[0]
    if not isinstance(first, str):
        return body, list(first)
    return body, prompts.of_text(first, add_special_tokens=request.add_special_tokens)


_PROTOCOLS: Mapping[str, Callable[[PromptTokens, Any], Prompt]] = {
    "/v1/chat/completions": _chat,
    "/v1/completions": _text,
    "/v1/messages": _message,
    "/v1/responses": _response,
}
