"""LangChain's chat models on the server; a test module that imports this is skipped if LangChain is not installed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.story import KEY, MODEL
from tests.serving import Server

langchain_anthropic = pytest.importorskip("langchain_anthropic", reason="not installed (requirements/clients.txt)")
langchain_openai = pytest.importorskip("langchain_openai", reason="not installed (requirements/clients.txt)")


def openai_chat(server: Server, **options: Any) -> Any:
    given = {"model": MODEL, "api_key": KEY, "max_retries": 0, "stream_usage": True} | options
    return langchain_openai.ChatOpenAI(base_url=f"{server.url}/v1", **given)


def anthropic_chat(server: Server, **options: Any) -> Any:
    given = {"model": MODEL, "api_key": KEY, "max_retries": 0, "max_tokens": 1000} | options
    return langchain_anthropic.ChatAnthropic(base_url=server.url, **given)
