"""Texts continued on random weights, through the OpenAI SDK."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types import Completion

from tests.http.completions.parts import Complete
from tests.serving import Server


@pytest.fixture
def complete(tiny: Server) -> Complete:
    """Complete a prompt on random weights, greedily by default."""

    def complete(prompt: Any, **options: Any) -> Completion:
        return tiny.client.completions.create(model="tiny-model", prompt=prompt, **{"temperature": 0} | options)

    return complete
