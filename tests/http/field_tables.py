"""Tables of request fields: what each field does, and how a wrong value is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.settings import Settings
from tests.serving import Server, serving

FIM, END, LETTER = 3, 7, 40
STRING, INTEGER, BOOLEAN, OBJECT = "valid string", "valid integer", "valid boolean", "valid dictionary"
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
    """The answer is another one."""
    return lambda route: route.said(**fields) != route.said()


def changes_nothing(name: str, value: Any) -> Check:
    return lambda route: route.said(**{name: value}) == route.said()


def greedy(**fields: Any) -> Check:
    """However hot, only the likeliest tokens are left."""
    return lambda route: route.said(temperature=2, **fields) == route.said(temperature=0)


def held(content: str, **fields: Any) -> Check:
    """There is one text that the answer can be."""
    return lambda route: route.said(**fields) == content


def always(token: int) -> dict[str, Any]:
    return {"logit_bias": {str(token): 100}, "temperature": 0}


@contextlib.contextmanager
def serving_random_weights(model: Path, folder: Path) -> Iterator[Server]:
    """Serve random weights; the template, in `folder`, leaves out the BOS if its variable `bare` is true."""
    template = folder / "chat_template.jinja"
    template.write_text(TEMPLATE.replace("{{- bos_token -}}", "{{- '' if bare else bos_token -}}"))
    with serving(Settings(model=str(model), chat_template=template, max_seqs=4, threads=1)) as running:
        yield running
