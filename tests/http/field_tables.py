"""Tables of request fields: what each field does, and how a wrong value is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.settings import Settings
from tests.serving import Server, serving

FIM, END, CALL_START, LETTER = 3, 7, 10, 40
STRING, INTEGER, BOOLEAN, OBJECT = "valid string", "valid integer", "valid boolean", "valid dictionary"
ODD = {"type": "object", "properties": {"x": {"type": "string", "pattern": "(?=a)"}}}
"""A schema that cannot be enforced."""
ALWAYS_CALLS = {"logit_bias": {str(END): -100, str(CALL_START): 100}}
"""Fields for an answer that begins with a call."""
TEMPLATE = Path(__file__).parents[2].joinpath("server/demo/chat_template.jinja").read_text()

Check = Callable[[Any], object]
"""A check of a field's effect; its argument is the `Route` of the test module."""


@dataclass(frozen=True)
class Field:
    """`works` says whether the field has its effect, if it can have one; `wrong` is refused with `message`."""

    works: Check | None
    wrong: Any
    message: str


def changes(**fields: Any) -> Check:
    """Return a check that the fields change the answer."""
    return lambda route: route.said(**fields) != route.said()


def changes_nothing(name: str, value: Any) -> Check:
    return lambda route: route.said(**{name: value}) == route.said()


def greedy(**fields: Any) -> Check:
    """Return a check that the answer is greedy at a high temperature."""
    return lambda route: route.said(temperature=2, **fields) == route.said(temperature=0)


def held(content: str, **fields: Any) -> Check:
    """Return a check that the answer is `content`."""
    return lambda route: route.said(**fields) == content


def always(token: int) -> dict[str, Any]:
    return {"logit_bias": {str(token): 100}, "temperature": 0}


SAMPLED: dict[str, Any] = {"seed": 1, "temperature": 1, "repetition_penalty": 1, "min_p": 0, "logit_bias": {"7": -100}}
"""Fields of a valid body whose answers are repeatable and do not end early."""

GENERATION_FIELDS = {
    "model": Field(lambda r: r.ask(model="tiny-model")["model"] == "tiny-model", 3, STRING),
    "temperature": Field(changes(temperature=0), 2.1, "less than or equal to 2"),
    "top_p": Field(greedy(top_p=0), -0.1, "greater than or equal to 0"),
    "top_k": Field(greedy(top_k=1), -2, "greater than or equal to -1"),
    "min_p": Field(greedy(min_p=1), 1.1, "less than or equal to 1"),
    "typical_p": Field(changes_nothing("typical_p", 1), 0.9, "typical_p is not supported."),
    "repetition_penalty": Field(changes(repetition_penalty=5), 0, "greater than or equal to 0.01"),
    "frequency_penalty": Field(changes(frequency_penalty=2), -2.1, "greater than or equal to -2"),
    "presence_penalty": Field(changes(presence_penalty=2), 2.1, "less than or equal to 2"),
    "logit_bias": Field(lambda r: len(set(r.said(**always(LETTER)))) == 1, {"x": 1}, "'x' is not a token ID"),
    "seed": Field(lambda r: r.said(seed=2) == r.said(seed=2) != r.said(seed=1), 2**63, "less than"),
    "stop": Field(lambda r: r.said(stop=r.said()[5]) == r.said().split(r.said()[5])[0], [""], "at least 1 character"),
    "min_tokens": Field(lambda r: r.used(**always(END), min_tokens=3)[1] == 4, -1, "greater than or equal to 0"),
    "skip_special_tokens": Field(
        lambda r: (r.said(**always(FIM)), r.said(**always(FIM), skip_special_tokens=False)[:11]) == ("", "<|fim_pre|>"),
        "no",
        BOOLEAN,
    ),
    "priority": Field(lambda r: (r.context().priority, r.context(priority=-7).priority) == (0, -7), 2**31, "less"),
    "cache_salt": Field(
        lambda r: r.context(cache_salt="a").cache_salt != r.context().cache_salt, "", "at least 1 character"
    ),
}
"""The fields of generation that every protocol has."""

TEMPLATE_FIELDS = {
    "chat_template_kwargs": Field(
        lambda r: r.used(chat_template_kwargs={"bare": True})[0] == r.used()[0] - 1, [], OBJECT
    ),
    "add_generation_prompt": Field(lambda r: r.used(add_generation_prompt=False)[0] < r.used()[0], 0, BOOLEAN),
    "add_special_tokens": Field(
        lambda r: r.used(add_special_tokens=True, chat_template_kwargs={"bare": True}) == r.used(), 1, BOOLEAN
    ),
    "include_reasoning": Field(changes_nothing("include_reasoning", False), "no", BOOLEAN),
}
"""The fields for the chat template and its thoughts."""

GUIDED_FIELDS = {
    "structured_outputs": Field(held("ab", structured_outputs={"choice": ["ab"]}), {}, "exactly one of"),
    "guided_json": Field(held('"ab"', guided_json='{"enum": ["ab"]}'), "{", "must be an object or valid JSON text"),
    "guided_regex": Field(held("ab", guided_regex="ab"), "(", "cannot be enforced"),
    "guided_choice": Field(held("ab", guided_choice=["ab"]), [], "at least 1 item"),
    "guided_grammar": Field(held("ab", guided_grammar='start: "a" "b"'), "start: (", "cannot be enforced"),
}
"""The fields that constrain an answer's text, as in vLLM."""


@contextlib.contextmanager
def serving_random_weights(model: Path, folder: Path) -> Iterator[Server]:
    """Serve random weights; the template, in `folder`, leaves out the BOS if its variable `bare` is true."""
    template = folder / "chat_template.jinja"
    template.write_text(TEMPLATE.replace("{{- bos_token -}}", "{{- '' if bare else bos_token -}}"))
    with serving(Settings(model=str(model), chat_template=template, max_seqs=4, threads=1)) as running:
        yield running
