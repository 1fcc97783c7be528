"""The ingress of Ray Serve names the blocks of a prompt as the prefix cache does that holds them after the answer."""

from __future__ import annotations

import json
import pickle
from typing import Any

import httpx
import pytest

from server.kv_events.blocks import BLOCK_TOKENS
from server.ray.prompts import PromptBlocks
from server.ray.routing_stats import routing_stats
from tests.serving import Server

TEXT = "The library has a catalogue of all its books, and it is open every day. " * 12
TOOLS: dict[str, Any] = {
    "tool_choice": "none",
    "tools": [
        {"type": "function", "function": {"name": "find_book", "parameters": {"type": "object", "properties": {}}}}
    ],
}


@pytest.fixture(scope="module")
def prompts(demo: Server) -> PromptBlocks:
    """The PromptBlocks that a replica sends to the ingress, after pickling."""
    restored: PromptBlocks = pickle.loads(pickle.dumps(PromptBlocks.of_model(demo.model)))
    return restored


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": f"A {TEXT}"}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": f"B {TEXT}"}], **TOOLS}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": f"C {TEXT}"}], "cache_salt": "mine"}),
        ("/v1/completions", {"prompt": f"D {TEXT}"}),
        ("/v1/completions", {"prompt": list(range(300, 300 + 3 * BLOCK_TOKENS))}),
        ("/v1/responses", {"input": f"E {TEXT}", "instructions": "Be short."}),
        ("/v1/messages", {"messages": [{"role": "user", "content": f"F {TEXT}"}], "system": "Be short."}),
    ],
)
def test_the_cache_holds_the_blocks_of_an_answered_prompt(
    demo: Server, prompts: PromptBlocks, path: str, body: dict[str, Any]
) -> None:
    body = body | {"max_output_tokens" if path == "/v1/responses" else "max_tokens": 1}
    blocks = prompts.names(path, json.dumps(body).encode(), None)
    assert len(blocks) > 2
    assert not {*blocks} & held(demo)
    assert httpx.post(demo.url + path, json=body, timeout=60).status_code == 200
    demo.wait_until(lambda: {*blocks} <= held(demo))


def held(server: Server) -> frozenset[bytes]:
    return routing_stats(server.engine).block_names()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/models", {}),
        ("/v1/chat/completions", {"messages": "wrong"}),
        ("/v1/responses", {"input": TEXT, "previous_response_id": "resp_1"}),
    ],
)
def test_a_request_without_a_known_prompt_has_no_blocks(prompts: PromptBlocks, path: str, body: dict[str, Any]) -> None:
    assert prompts.names(path, json.dumps(body).encode(), None) == ()


def test_keys_share_no_blocks(prompts: PromptBlocks) -> None:
    body = json.dumps({"prompt": TEXT}).encode()
    ann, bob = (prompts.names("/v1/completions", body, name) for name in ("ann", "bob"))
    assert ann
    assert not {*ann} & {*bob}
