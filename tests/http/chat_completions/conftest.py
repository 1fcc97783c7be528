"""Servers on a scripted model, which once answers directly and once thinks before each answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from server.settings import Settings
from tests.http.chat_completions.scripts import SCRIPTS, Ask, Stream
from tests.scripted import scripted, thinker
from tests.serving import Server, serving


@pytest.fixture(scope="session", params=[False, True], ids=["plain", "thinking"])
def thinks(request: pytest.FixtureRequest) -> bool:
    """Whether the model thinks before it answers; its thoughts mention a call."""
    return bool(request.param)


@pytest.fixture(scope="session")
def model(thinks: bool, tmp_path_factory: pytest.TempPathFactory) -> str:
    make = thinker if thinks else scripted
    return str(make(tmp_path_factory.mktemp("models") / "scripted", SCRIPTS))


@pytest.fixture(scope="session")
def server(model: str) -> Iterator[Server]:
    with serving(Settings(model=model, threads=1)) as running:
        yield running


@pytest.fixture(scope="session")
def free_server(model: str) -> Iterator[Server]:
    """A server that constrains calls only if a request requires it."""
    with serving(Settings(model=model, threads=1, tool_constraints="requested")) as running:
        yield running


@pytest.fixture
def ask(server: Server) -> Ask:
    def ask(content: str, **options: Any) -> ChatCompletion:
        options.setdefault("messages", [{"role": "user", "content": content}])
        return server.client.chat.completions.create(model="scripted", **{"temperature": 0} | options)

    return ask


@pytest.fixture
def stream(server: Server) -> Stream:
    def stream(content: str, **options: Any) -> list[ChatCompletionChunk]:
        messages: Any = [{"role": "user", "content": content}]
        options = {"temperature": 0} | options
        return list(server.client.chat.completions.create(model="scripted", messages=messages, stream=True, **options))

    return stream
