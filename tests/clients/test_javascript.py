"""The npm packages: each one's script in js/ says as JSON what it made of the server's answers.

They are looked for where `npm ci` put them: in js/ itself or a copy of it that CLIENTS_JS names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients.story import (
    ADA,
    CITIES,
    CITIES_REPORT,
    ERROR_CASES,
    GREETING,
    HELLO,
    KEY,
    MODEL,
    PERSON,
    SDK_ERRORS,
    TOO_LONG,
    WEATHER,
    WEATHER_REPORT,
    Choice,
    Person,
    user,
)
from tests.scripted import THOUGHTS
from tests.serving import Server

JS = Path(os.environ.get("CLIENTS_JS") or Path(__file__).with_name("js"))
STORY = {"hello": HELLO, "weather": WEATHER, "cities": CITIES, "person": PERSON, "too_long": TOO_LONG}

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
    pytest.mark.skipif(not (JS / "node_modules").is_dir(), reason=f"npm ci has not been run in {JS}"),
]


@pytest.fixture
def run(server: Server, random_server: Server, thinking_server: Server) -> Callable[..., Any]:
    """Run a script of js/ with options, and return the results that it prints as JSON."""

    def run(script: str, **options: str) -> Any:
        servers = {"baseURL": server, "randomURL": random_server, "thinkingURL": thinking_server}
        given: dict[str, Any] = {name: f"{each.url}/v1" for name, each in servers.items()}
        given |= {"apiKey": KEY, "model": MODEL, "story": STORY, **options}
        command = ["node", str(JS / script), json.dumps(given)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run


def expected(usage: int, errors: Mapping[int, str] = SDK_ERRORS) -> dict[str, Any]:
    return {
        "plain": [GREETING, "stop"],
        "stream": GREETING,
        "usage": usage,
        "calls": [{"city": "Oslo", "days": 1}, {"city": "Rome", "days": 2}],
        "report": CITIES_REPORT,
        "run": WEATHER_REPORT,
        "parsed": ADA.model_dump(),
        "thinking": [THOUGHTS, GREETING],
        "cancelled": True,
        "errors": [[errors[status], status, code] for _, _, status, code in ERROR_CASES],
    }


@pytest.fixture
def usage(server: Server) -> int:
    """How many tokens the greeting is."""
    headers = {"Authorization": f"Bearer {KEY}"}
    body = {"messages": user(HELLO)}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=60)
    tokens: int = answer.json()["usage"]["completion_tokens"]
    return tokens


def test_openai(run: Callable[..., Any], usage: int) -> None:
    results = run("openai.js")
    Person.model_validate(results.pop("constrained"))
    assert results == expected(usage)


def test_openai_with_responses(run: Callable[..., Any], usage: int) -> None:
    results = run("openai_responses.js")
    Person.model_validate(results.pop("constrained"))
    expectation = expected(usage) | {"plain": [GREETING, "completed"], "resumed": True, "continued": WEATHER_REPORT}
    expectation |= {"continued_thinking": GREETING, "stopped": "cancelled"}
    assert results == expectation | {"run": expectation["report"]}


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_ai(run: Callable[..., Any], usage: int, api: str) -> None:
    results = run("ai.js", api=api)
    Person.model_validate(results.pop("constrained"))
    expectation = expected(usage, dict.fromkeys(SDK_ERRORS, "AI_APICallError")) | {"continued_thinking": GREETING}
    if api == "responses":
        expectation["thinking"] = ["", GREETING]  # @ai-sdk/openai reads summaries, and ours are empty
    assert results == expectation


ANTHROPIC_ERRORS = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}


def anthropics(usage: int, names: Mapping[int, str] = SDK_ERRORS) -> dict[str, Any]:
    """What is expected of a client of the Messages API."""
    errors = [[names[status], status, ANTHROPIC_ERRORS[status]] for _, _, status, _ in ERROR_CASES]
    return expected(usage) | {"errors": errors}


def test_anthropic(run: Callable[..., Any], usage: int) -> None:
    results = run("anthropic.js")
    Choice.model_validate(results.pop("constrained"))
    expectation = anthropics(usage) | {"plain": [GREETING, "end_turn"], "gathered": GREETING, "counted": True}
    assert results == expectation | {"continued_thinking": GREETING}


def test_ai_with_anthropic(run: Callable[..., Any], usage: int) -> None:
    results = run("ai.js", api="messages")
    Choice.model_validate(results.pop("constrained"))
    expectation = anthropics(usage, dict.fromkeys(SDK_ERRORS, "AI_APICallError"))
    assert results == expectation | {"continued_thinking": GREETING}
