"""Log probabilities of the answer's tokens and, with `echo`, of the prompt's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.http.completions.parts import BOS, EOS, TOKENIZER, Complete, id_of, logprobs_of, usage_of


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


def test_an_echoed_answer_has_the_logprobs_of_its_draws(complete: Complete) -> None:
    ids = [BOS, *TOKENIZER.encode("Once upon a time")]
    drawn = complete(ids, temperature=1, seed=2, logprobs=5, max_tokens=12, extra_body={"ignore_eos": True})
    generated = logprobs_of(drawn.choices[0])
    assert not any(token.startswith("bytes:") for token in generated["tokens"]), "choose another seed"
    answer = [id_of(token) for token in generated["tokens"]]
    echoed = logprobs_of(complete([*ids, *answer], echo=True, logprobs=5, max_tokens=0).choices[0])
    assert echoed["token_logprobs"][len(ids) :] == pytest.approx(generated["token_logprobs"], abs=1e-3)


def test_echo_does_not_change_the_answer(complete: Complete) -> None:
    alone, echoed = complete("hello", logprobs=1), complete("hello", echo=True, logprobs=1)
    assert echoed.choices[0].text == "hello" + alone.choices[0].text
    first, whole = logprobs_of(alone.choices[0]), logprobs_of(echoed.choices[0])
    assert whole["tokens"][-len(first["tokens"]) :] == first["tokens"]
    assert whole["text_offset"][-len(first["tokens"]) :] == [5 + offset for offset in first["text_offset"]]


def test_a_token_that_ends_the_answer_is_scored_too(complete: Complete) -> None:
    """A client that cuts the generated tokens off a scored text needs each of them."""
    forced: dict[str, Any] = {"logit_bias": {str(EOS): 100}, "echo": True, "logprobs": 1, "max_tokens": 1}
    answer = complete("hello", **forced)
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason) == ("hello", "stop")
    assert len(logprobs_of(choice)["tokens"]) == usage_of(answer).total_tokens
    assert logprobs_of(choice)["tokens"][-1] == "<|im_end|>"


def test_neither_a_stop_string_nor_its_tokens_are_sent(complete: Complete) -> None:
    options = {"temperature": 1.2, "seed": 5, "max_tokens": 40, "logprobs": 0} | {"extra_body": {"ignore_eos": True}}
    whole = complete("hello", **options).choices[0]
    stop = whole.text[10:13]
    cut = complete("hello", stop=stop, **options).choices[0]
    assert (cut.text, cut.finish_reason) == (whole.text[: whole.text.index(stop)], "stop")
    assert all(offset < len(cut.text) for offset in logprobs_of(cut)["text_offset"])
