"""Texts continued through the OpenAI SDK: every form of prompt, and what ends an answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.http.completions.parts import BOS, ENDLESS, EOS, TOKENIZER, Complete, id_of, logprobs_of, usage_of
from tests.serving import Server, StartServer

PROMPT = "<|startoftext|><|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n"


def test_an_answer_has_openais_fields(demo: Server) -> None:
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


def test_max_tokens_is_cut_to_the_room_in_the_context(complete: Complete) -> None:
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


def test_stop_token_ids_end_the_answer(complete: Complete) -> None:
    first = complete("hello", logprobs=0, max_tokens=5, extra_body={"ignore_eos": True}).choices[0]
    token = id_of(logprobs_of(first)["tokens"][0])
    ended = complete("hello", extra_body={"stop_token_ids": [token]})
    assert (ended.choices[0].text, ended.choices[0].finish_reason) == ("", "stop")
    later = complete("hello", extra_body={"stop_token_ids": [token], "min_tokens": 4, "ignore_eos": True})
    assert usage_of(later).completion_tokens >= 4


def test_ignore_eos_ignores_the_models_end_token(complete: Complete) -> None:
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


def test_the_narrowest_filters_are_greedy(complete: Complete) -> None:
    greedy = complete("hello").choices[0].text
    assert complete("hello", temperature=2, extra_body={"top_k": 1}).choices[0].text == greedy
    assert complete("hello", temperature=2, top_p=1e-6).choices[0].text == greedy
    assert complete("hello", temperature=2, extra_body={"min_p": 1}).choices[0].text == greedy


def test_fields_that_openai_ignores_are_ignored(complete: Complete) -> None:
    assert complete("hello", user="u", best_of=1, suffix=None).choices[0].text == complete("hello").choices[0].text


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
