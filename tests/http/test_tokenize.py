"""Texts and chats to tokens and back, in vLLM's shape, and the version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from server import __version__
from server.chat.tokenizer import Tokenizer
from server.export.tokenizer import BUILT_IN_TOKENIZER
from tests.errors import error_of
from tests.serving import Server, StartServer

TOKENIZER = Tokenizer.load(BUILT_IN_TOKENIZER)
BOS = 1
HELLO = [{"role": "user", "content": "Hello!"}]
TOOL = {"type": "function", "function": {"name": "get_weather"}}
TEXT = "Hello, Grüße 😀 <|im_start|>"


def post(server: Server, route: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}{route}", json=body)


def tokens_of(server: Server, **body: Any) -> list[int]:
    answer = post(server, "/tokenize", **body)
    assert answer.status_code == 200, answer.text
    return answer.json()["tokens"]  # type: ignore[no-any-return]


def test_a_text_is_counted_with_its_bos(demo: Server) -> None:
    answer = post(demo, "/tokenize", prompt=TEXT).json()
    tokens = [BOS, *TOKENIZER.encode(TEXT)]
    assert answer == {"count": len(tokens), "max_model_len": demo.engine.max_model_len, "tokens": tokens}


def test_a_text_can_do_without_bos_and_never_gets_two(demo: Server) -> None:
    assert tokens_of(demo, prompt="Hello", add_special_tokens=False) == TOKENIZER.encode("Hello")
    assert tokens_of(demo, prompt="<|startoftext|>Hello") == [BOS, *TOKENIZER.encode("Hello")]
    assert tokens_of(demo, prompt="", add_special_tokens=False) == []


def test_tokens_are_shown_as_text_if_requested(demo: Server) -> None:
    answer = post(demo, "/tokenize", prompt="Hello you", return_token_strs=True).json()
    assert answer["token_strs"][0] == "<|startoftext|>"
    assert "".join(answer["token_strs"][1:]) == "Hello you"


@pytest.mark.parametrize("tools", [None, [TOOL]])
def test_a_chat_is_counted_as_the_model_gets_it(demo: Server, tools: Any) -> None:
    answer = demo.chat(messages=HELLO, tools=tools, max_tokens=1).json()
    assert len(tokens_of(demo, messages=HELLO, tools=tools)) == answer["usage"]["prompt_tokens"]


def test_a_chat_can_end_before_the_answers_turn(demo: Server) -> None:
    whole = tokens_of(demo, messages=HELLO)
    without = tokens_of(demo, messages=HELLO, add_generation_prompt=False)
    assert whole[: len(without)] == without
    assert whole[len(without) :] == TOKENIZER.encode("<|im_start|>assistant\n")


@pytest.mark.parametrize("text", ["", "Hello", TEXT, "<|im_start|>user\nHi<|im_end|>\n"])
def test_tokens_go_back_to_their_text(demo: Server, text: str) -> None:
    tokens = tokens_of(demo, prompt=text, add_special_tokens=False)
    assert post(demo, "/detokenize", tokens=tokens).json() == {"prompt": text}


def test_half_a_character_is_a_replacement_character(demo: Server) -> None:
    half = TOKENIZER.encode("😀")[:-1]
    assert set(post(demo, "/detokenize", tokens=half).json()["prompt"]) == {"\N{REPLACEMENT CHARACTER}"}


@pytest.mark.parametrize(
    ("route", "body", "param", "message"),
    [
        ("/tokenize", {}, "prompt", "Send either prompt or messages; got neither."),
        ("/tokenize", {"prompt": "a", "messages": HELLO}, "prompt", "Send either prompt or messages; got both."),
        ("/tokenize", {"prompt": 3}, "prompt", "3. Input should be a valid string"),
        ("/tokenize", {"prompt": "a", "add_special_tokens": 1}, "add_special_tokens", "valid boolean"),
        ("/tokenize", {"messages": []}, "messages", "at least 1 item"),
        ("/tokenize", {"messages": [{"role": "user"}]}, "messages[0].content", "requires content"),
        ("/detokenize", {}, "tokens", "`tokens` is required."),
        ("/detokenize", {"tokens": "a"}, "tokens", "valid list"),
        ("/detokenize", {"tokens": [1, "a"]}, "tokens[1]", "valid integer"),
        (
            "/detokenize",
            {"tokens": [5, 1024]},
            "tokens",
            "1024 is not a token id of this model: ids go from 0 to 1023.",
        ),
        ("/detokenize", {"tokens": [-1]}, "tokens", "-1 is not a token id of this model"),
    ],
)
def test_a_wrong_field_is_named(demo: Server, route: str, body: dict[str, Any], param: str, message: str) -> None:
    error = error_of(post(demo, route, **body), 400)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert message in error["message"]


@pytest.mark.parametrize("body", [b"{", b"[]", b"3", b'"a"'])
@pytest.mark.parametrize("route", ["/tokenize", "/detokenize", "/v1/completions"])
def test_a_body_that_is_no_object_is_refused(demo: Server, route: str, body: bytes) -> None:
    error_of(httpx.post(f"{demo.url}{route}", content=body), 400)


@pytest.mark.parametrize("body", [{"prompt": "a"}, {"messages": HELLO}])
def test_another_model_is_not_found(demo: Server, body: dict[str, Any]) -> None:
    assert error_of(post(demo, "/tokenize", model="other", **body), 404)["code"] == "model_not_found"
    assert error_of(post(demo, "/detokenize", model="other", tokens=[5]), 404)["code"] == "model_not_found"


def test_the_key_guards_tokens_but_not_the_version(tiny_model: Path, start_server: StartServer) -> None:
    server = start_server(model=str(tiny_model), api_key="secret", threads=1)
    error_of(post(server, "/tokenize", prompt="a"), 401)
    error_of(post(server, "/detokenize", tokens=[5]), 401)
    answer = httpx.post(f"{server.url}/tokenize", json={"prompt": "a"}, headers={"Authorization": "Bearer secret"})
    assert answer.status_code == 200
    assert httpx.get(f"{server.url}/version").json() == {"version": __version__}
