"""Texts continued through the OpenAI SDK: every form of prompt, the body, the stream, and how likely tokens are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import Completion, CompletionChoice, CompletionUsage

from server.chat.tokenizer import Tokenizer
from server.export.tokenizer import BUILT_IN_TOKENIZER
from tests.errors import error_of
from tests.serving import Server, StartServer

TOKENIZER = Tokenizer.load(BUILT_IN_TOKENIZER)
BOS, EOS = 1, 7
PROMPT = "<|startoftext|><|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n"
ENDLESS: dict[str, Any] = {"temperature": 0, "extra_body": {"ignore_eos": True}}
Complete = Callable[..., Completion]


@pytest.fixture
def complete(tiny: Server) -> Complete:
    """A completion on random weights, greedy unless said otherwise."""

    def complete(prompt: Any, **options: Any) -> Completion:
        return tiny.client.completions.create(model="tiny-model", prompt=prompt, **{"temperature": 0} | options)

    return complete


def chunks_of(server: Server, **options: Any) -> list[Completion]:
    return list(server.client.completions.create(model="tiny-model", stream=True, **{"temperature": 0} | options))


def joined(chunks: list[Completion]) -> dict[int, dict[str, Any]]:
    """The choices whose pieces `chunks` are."""
    choices: dict[int, dict[str, Any]] = {}
    for piece in (choice for chunk in chunks for choice in chunk.choices):
        start = {"index": piece.index, "text": "", "finish_reason": None, "logprobs": None}
        choice = choices.setdefault(piece.index, start)
        assert choice["finish_reason"] is None, "nothing comes after the end"
        choice["text"] += piece.text
        choice["finish_reason"] = piece.finish_reason
        if piece.logprobs is not None:
            known = choice["logprobs"] or {}
            choice["logprobs"] = {name: known.get(name, []) + new for name, new in logprobs_of(piece).items()}
    return choices


def logprobs_of(choice: CompletionChoice) -> dict[str, list[Any]]:
    assert choice.logprobs is not None
    return choice.logprobs.to_dict()  # type: ignore[return-value]


def about(logprobs: Any) -> Any:
    """As they are in whatever batch: what else runs changes the last digits."""
    if isinstance(logprobs, dict):
        return {name: about(value) for name, value in logprobs.items()}
    if isinstance(logprobs, list):
        return [about(value) for value in logprobs]
    return pytest.approx(logprobs, abs=1e-3) if isinstance(logprobs, float) else logprobs


def usage_of(answer: Completion) -> CompletionUsage:
    assert answer.usage is not None
    return answer.usage


def id_of(token: str) -> int:
    return next(i for i in range(1024) if TOKENIZER.token_bytes(i) == token.encode())


def test_an_answer_has_all_that_openais_has(demo: Server) -> None:
    answer = demo.client.completions.create(model="lfm2-demo", prompt=PROMPT, temperature=0, max_tokens=100)
    assert answer.id.startswith("cmpl-")
    assert (answer.object, answer.model) == ("text_completion", "lfm2-demo")
    assert answer.system_fingerprint is not None
    (choice,) = answer.choices
    assert choice.to_dict() == {"index": 0, "text": choice.text, "logprobs": None, "finish_reason": "stop"}
    assert usage_of(answer).prompt_tokens == len(TOKENIZER.encode(PROMPT))
    assert usage_of(answer).total_tokens == usage_of(answer).prompt_tokens + usage_of(answer).completion_tokens


def test_a_text_that_is_a_rendered_chat_gets_the_chats_answer(demo: Server) -> None:
    message: Any = {"role": "user", "content": "Hello!"}
    chat = demo.client.chat.completions.create(model="lfm2-demo", messages=[message], temperature=0)
    text = demo.client.completions.create(model="lfm2-demo", prompt=PROMPT, temperature=0, max_tokens=200)
    assert chat.choices[0].message.content == text.choices[0].text
    assert chat.usage is not None
    assert chat.usage.prompt_tokens == usage_of(text).prompt_tokens


def test_sixteen_tokens_are_generated_unless_the_request_says_how_many(complete: Complete) -> None:
    answer = complete("hello", **ENDLESS)
    assert (usage_of(answer).completion_tokens, answer.choices[0].finish_reason) == (16, "length")
    fewer = complete("hello", max_tokens=3, **ENDLESS)
    assert usage_of(fewer).completion_tokens == 3
    assert answer.choices[0].text.startswith(fewer.choices[0].text)


def test_more_than_fits_is_cut_to_what_fits(complete: Complete) -> None:
    answer = complete([5] * 4000, max_tokens=1000, **ENDLESS)
    assert usage_of(answer).total_tokens == 4096


def test_every_form_of_prompt_gives_the_same_answer(complete: Complete) -> None:
    ids = TOKENIZER.encode("The sky is")
    forms = ("The sky is", ["The sky is"], [BOS, *ids], [[BOS, *ids]])
    assert len({complete(prompt).choices[0].text for prompt in forms}) == 1


def test_a_text_begins_with_bos_once(complete: Complete) -> None:
    bare, explicit = complete("hello"), complete("<|startoftext|>hello")
    assert usage_of(bare).prompt_tokens == usage_of(explicit).prompt_tokens == 1 + len(TOKENIZER.encode("hello"))
    assert bare.choices[0].text == explicit.choices[0].text
    assert logprobs_of(complete("", echo=True, max_tokens=0, logprobs=0).choices[0])["tokens"] == ["<|startoftext|>"]


def test_token_ids_are_taken_as_they_are(complete: Complete) -> None:
    answer = complete([BOS, BOS, 40], echo=True, logprobs=0, max_tokens=0)
    assert usage_of(answer).prompt_tokens == 3


def test_choices_of_many_prompts_come_prompt_by_prompt(complete: Complete) -> None:
    prompts = ["one two", "three", "four five six"]
    answer = complete(prompts, n=2, echo=True, temperature=1, seed=3, max_tokens=5)
    assert [choice.index for choice in answer.choices] == list(range(6))
    for choice in answer.choices:
        assert choice.text.startswith(prompts[choice.index // 2])
    alone = [complete(prompt, n=2, echo=True, temperature=1, seed=3, max_tokens=5) for prompt in prompts]
    assert [choice.text for choice in answer.choices] == [choice.text for one in alone for choice in one.choices]
    assert answer.choices[0].text != answer.choices[1].text
    assert usage_of(answer).prompt_tokens == sum(usage_of(one).prompt_tokens for one in alone)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"logprobs": 2},
        {"echo": True},
        {"echo": True, "logprobs": 1},
        {"echo": True, "logprobs": 3, "max_tokens": 0},
        {"echo": True, "max_tokens": 0},
        {"stop": ["e", "a"], "logprobs": 0, "temperature": 1.5, "seed": 8},
        {"n": 3, "temperature": 1, "seed": 4, "logprobs": 0},
    ],
    ids=str,
)
def test_a_streams_pieces_join_to_the_body(tiny: Server, complete: Complete, options: dict[str, Any]) -> None:
    prompts = ["A long day 😀 began", "two"]
    body = complete(prompts, **options)
    pieces = joined(chunks_of(tiny, prompt=prompts, **options))
    for choice in body.choices:
        streamed, plain = pieces[choice.index], choice.to_dict()
        assert streamed.pop("logprobs") == about(plain.pop("logprobs"))
        assert streamed == plain


def test_a_streams_chunks_are_openais(tiny: Server) -> None:
    options: dict[str, Any] = {"prompt": "hello", "max_tokens": 4, "stream_options": {"include_usage": True}}
    *chunks, last = chunks_of(tiny, **options)
    assert len({(chunk.id, chunk.created, chunk.model, chunk.system_fingerprint) for chunk in [*chunks, last]}) == 1
    assert {chunk.object for chunk in [*chunks, last]} == {"text_completion"}
    assert all(chunk.usage is None and len(chunk.choices) == 1 for chunk in chunks)
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "length"
    assert last.choices == []
    assert usage_of(last).completion_tokens == 4


def test_a_stream_ends_with_done_and_tells_usage_in_each_chunk_if_asked(tiny: Server) -> None:
    body = {"prompt": "hello", "stream": True, "stream_options": {"continuous_usage_stats": True}, "max_tokens": 3}
    answer = httpx.post(f"{tiny.url}/v1/completions", json=body)
    *events, done = answer.text.removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    counts = [json.loads(event.removeprefix("data: "))["usage"]["completion_tokens"] for event in events]
    assert counts == sorted(counts)
    assert counts[-1] == 3


def test_the_prompts_tokens_are_scored_with_echo(complete: Complete) -> None:
    text = "Hello <|im_start|>you 😀"
    answer = complete(text, echo=True, logprobs=2, max_tokens=0)
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason) == (text, "length")
    assert usage_of(answer).completion_tokens == 0
    logprobs = logprobs_of(choice)
    tokens, scores, tops = logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"]
    assert len(tokens) == usage_of(answer).prompt_tokens
    assert (tokens[0], scores[0], tops[0]) == ("<|startoftext|>", None, None)
    for token, score, top in list(zip(tokens, scores, tops, strict=True))[1:]:
        assert score < 0
        assert top[token] == score
        assert 2 <= len(top) <= 3
    for token, offset in list(zip(tokens, logprobs["text_offset"], strict=True))[1:]:
        assert token.startswith("bytes:\\x") or text[offset:].startswith(token)


def test_an_answer_is_as_likely_echoed_as_it_was_when_it_was_drawn(complete: Complete) -> None:
    ids = [BOS, *TOKENIZER.encode("Once upon a time")]
    drawn = complete(ids, temperature=1, seed=2, logprobs=5, max_tokens=12, extra_body={"ignore_eos": True})
    generated = logprobs_of(drawn.choices[0])
    assert not any(token.startswith("bytes:") for token in generated["tokens"]), "choose another seed"
    answer = [id_of(token) for token in generated["tokens"]]
    echoed = logprobs_of(complete([*ids, *answer], echo=True, logprobs=5, max_tokens=0).choices[0])
    assert echoed["token_logprobs"][len(ids) :] == pytest.approx(generated["token_logprobs"], abs=1e-3)


def test_an_echoed_text_goes_on_as_it_would_alone(complete: Complete) -> None:
    alone, echoed = complete("hello", logprobs=1), complete("hello", echo=True, logprobs=1)
    assert echoed.choices[0].text == "hello" + alone.choices[0].text
    first, whole = logprobs_of(alone.choices[0]), logprobs_of(echoed.choices[0])
    assert whole["tokens"][-len(first["tokens"]) :] == first["tokens"]
    assert whole["text_offset"][-len(first["tokens"]) :] == [5 + offset for offset in first["text_offset"]]


def test_a_token_that_ends_the_answer_is_scored_too(complete: Complete) -> None:
    """Who cuts the generated tokens off a scored text must find each of them."""
    forced: dict[str, Any] = {"logit_bias": {str(EOS): 100}, "echo": True, "logprobs": 1, "max_tokens": 1}
    answer = complete("hello", **forced)
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason) == ("hello", "stop")
    assert len(logprobs_of(choice)["tokens"]) == usage_of(answer).total_tokens
    assert logprobs_of(choice)["tokens"][-1] == "<|im_end|>"


def test_a_stop_string_is_not_sent_nor_its_tokens(complete: Complete) -> None:
    options = {"temperature": 1.2, "seed": 5, "max_tokens": 40, "logprobs": 0} | {"extra_body": {"ignore_eos": True}}
    whole = complete("hello", **options).choices[0]
    stop = whole.text[10:13]
    cut = complete("hello", stop=stop, **options).choices[0]
    assert (cut.text, cut.finish_reason) == (whole.text[: whole.text.index(stop)], "stop")
    assert all(offset < len(cut.text) for offset in logprobs_of(cut)["text_offset"])


def test_a_token_of_the_requests_own_ends_the_answer(complete: Complete) -> None:
    first = complete("hello", logprobs=0, max_tokens=5, extra_body={"ignore_eos": True}).choices[0]
    token = id_of(logprobs_of(first)["tokens"][0])
    ended = complete("hello", extra_body={"stop_token_ids": [token]})
    assert (ended.choices[0].text, ended.choices[0].finish_reason) == ("", "stop")
    later = complete("hello", extra_body={"stop_token_ids": [token], "min_tokens": 4, "ignore_eos": True})
    assert usage_of(later).completion_tokens >= 4


def test_the_models_end_can_be_ignored(complete: Complete) -> None:
    bias: dict[str, Any] = {"logit_bias": {str(EOS): 100}, "max_tokens": 6}
    assert complete("hello", **bias).choices[0].finish_reason == "stop"
    ignored = complete("hello", **bias, extra_body={"ignore_eos": True})
    assert (ignored.choices[0].finish_reason, usage_of(ignored).completion_tokens) == ("length", 6)


@pytest.mark.parametrize(
    "options",
    [
        {"logit_bias": {"40": 100}},
        {"temperature": 1, "seed": 9},
        {"temperature": 2, "seed": 9, "extra_body": {"min_p": 0.0, "repetition_penalty": 1.0}},
        {"frequency_penalty": 2, "presence_penalty": 2},
        {"extra_body": {"repetition_penalty": 5}},
    ],
    ids=str,
)
def test_a_sampling_field_has_its_effect(complete: Complete, options: dict[str, Any]) -> None:
    neutral = {"max_tokens": 200, "extra_body": {"repetition_penalty": 1}}
    assert complete("1 2 3", **neutral | options).choices[0].text != complete("1 2 3", **neutral).choices[0].text


def test_top_k_and_top_p_of_next_to_nothing_are_greedy(complete: Complete) -> None:
    greedy = complete("hello").choices[0].text
    assert complete("hello", temperature=2, extra_body={"top_k": 1}).choices[0].text == greedy
    assert complete("hello", temperature=2, top_p=1e-6).choices[0].text == greedy
    assert complete("hello", temperature=2, extra_body={"min_p": 1}).choices[0].text == greedy


def test_what_openai_ignores_is_ignored(complete: Complete) -> None:
    assert complete("hello", user="u", best_of=1, suffix=None).choices[0].text == complete("hello").choices[0].text


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "prompt", "`prompt` is required."),
        ({"prompt": None}, "prompt", "prompt must be a string, a list of strings, a list of token IDs"),
        ({"prompt": 3}, "prompt", "prompt must be a string, a list of strings, a list of token IDs"),
        ({"prompt": []}, "prompt", "prompt must be a string"),
        ({"prompt": [[]]}, "prompt[0]", "prompt[0] must be a string or a non-empty list of token IDs."),
        ({"prompt": ["a", 3]}, "prompt[1]", "prompt[1] must be a string or a non-empty list of token IDs."),
        ({"prompt": [1, True]}, "prompt[0]", "prompt[0] must be a string or a non-empty list of token IDs."),
        ({"prompt": [1, 99999]}, "prompt", "99999 is not a token id of this model: ids go from 0 to 1023."),
        ({"prompt": [[1], [-1]]}, "prompt", "-1 is not a token id of this model"),
        (
            {"max_tokens": 0},
            "max_tokens",
            "max_tokens may be 0 only with echo: true; otherwise there is nothing to return.",
        ),
        ({"max_tokens": -1, "echo": True}, "max_tokens", "greater than or equal to 0"),
        ({"logprobs": 6}, "logprobs", "less than or equal to 5"),
        ({"logprobs": True}, "logprobs", "valid integer"),
        ({"best_of": 3, "n": 2}, "best_of", "best_of greater than n (2) is not supported"),
        ({"best_of": 1, "n": 2}, "best_of", "best_of must be at least n (2)."),
        ({"best_of": 21}, "best_of", "less than or equal to 20"),
        ({"suffix": "end"}, "suffix", "suffix is not supported."),
        ({"n": 9}, "n", "n must be at most 8 on this server (--max-n); got 9."),
        ({"prompt": ["a"] * 7, "n": 2}, "prompt", "make 14 choices, but a request may have at most 12."),
        ({"temperature": 3}, "temperature", "`temperature`: 3. Input should be less than or equal to 2."),
        ({"stop": ["a"] * 5}, "stop", "at most 4 items"),
        ({"stop_token_ids": [1024]}, "stop_token_ids", "1024 is not a token id of this model"),
        ({"min_tokens": -1}, "min_tokens", "greater than or equal to 0"),
        ({"ignore_eos": 1}, "ignore_eos", "valid boolean"),
        ({"echo": "yes"}, "echo", "valid boolean"),
        ({"logit_bias": {"99999": 1}}, "logit_bias", "99999 is not a token id of this model"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "stream_options requires stream: true."),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(
    tiny: Server, body: dict[str, Any], param: str, message: str
) -> None:
    complete = body if not body or "prompt" in body else {"prompt": "hello"} | body
    error = error_of(httpx.post(f"{tiny.url}/v1/completions", json=complete), 400)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert message in error["message"]


def test_a_prompt_that_does_not_fit_is_told_both_numbers(complete: Complete) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        complete([5] * 4096)
    assert (raised.value.code, raised.value.param) == ("context_length_exceeded", "prompt")
    assert "4096" in raised.value.message
    scored = complete([5] * 4096, echo=True, max_tokens=0)
    assert usage_of(scored).total_tokens == 4096


def test_another_model_is_not_found(tiny: Server) -> None:
    with pytest.raises(openai.NotFoundError):
        tiny.client.completions.create(model="other", prompt="hello")


def test_a_key_is_asked_for(tiny_model: Path, start_server: StartServer) -> None:
    server = start_server(model=str(tiny_model), api_key="secret", threads=1)
    with pytest.raises(openai.AuthenticationError):
        server.client.completions.create(model="tiny-model", prompt="hello")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("options", [{"max_tokens": 3000, "ignore_eos": True}, {"echo": True, "logprobs": 5}])
async def test_a_client_that_leaves_frees_its_slots(
    tiny_model: Path, start_server: StartServer, stream: bool, options: dict[str, Any]
) -> None:
    server = start_server(model=str(tiny_model), max_seqs=1, max_waiting=8, threads=1)
    body = {"prompt": [[5] * 1000] * 4, "stream": stream, **options}
    async with httpx.AsyncClient(timeout=60) as client:
        request = asyncio.create_task(client.post(f"{server.url}/v1/completions", json=body))
        await asyncio.to_thread(server.wait_until, lambda: server.engine.running == 1)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
    await asyncio.to_thread(server.wait_until, server.is_idle)


async def test_prompts_that_do_not_find_room_are_told_to_come_again(
    tiny_model: Path, start_server: StartServer
) -> None:
    server = start_server(model=str(tiny_model), max_seqs=1, max_waiting=2, threads=1)
    async with httpx.AsyncClient(timeout=60) as client:
        busy = {"prompt": "hello", "max_tokens": 3000, "ignore_eos": True, "temperature": 0}
        first = asyncio.create_task(client.post(f"{server.url}/v1/completions", json=busy))
        await asyncio.to_thread(server.wait_until, lambda: server.engine.running == 1)
        answer = await client.post(f"{server.url}/v1/completions", json={"prompt": ["a", "b", "c"]})
        assert error_of(answer, 429)["code"] == "overloaded"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
