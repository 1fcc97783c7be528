"""Decides how many tokens of thoughts a model may generate before its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""OpenAI's names for how much a model should think."""

EFFORTS: Mapping[Effort, int | None] = MappingProxyType(
    {"none": 0, "minimal": 128, "low": 512, "medium": 2048, "high": None, "xhigh": None, "max": None}
)
"""The thinking budget of each effort, in tokens. None is unlimited."""


@dataclass(frozen=True, slots=True)
class Thinking:
    """A request's settings for thoughts.

    budget: maximum number of tokens in the thoughts; None if not set.
    effort: OpenAI's name for a budget, used if `budget` is None; None if not set.
    included: whether the answer contains the thoughts.
    """

    budget: int | None = None
    effort: Effort | None = None
    included: bool = True


@dataclass(frozen=True, slots=True)
class ThinkingBudgets:
    """The server's thinking budgets, in tokens. None is unlimited.

    default: budget of a request that sets none.
    efforts: budgets that replace those in EFFORTS.
    """

    default: int | None = None
    efforts: Mapping[Effort, int | None] = field(default_factory=dict)

    def of(self, thinking: Thinking) -> int | None:
        """Return the budget of a request."""
        if thinking.budget is not None or thinking.effort is None:
            return self.default if thinking.budget is None else thinking.budget
        return {**EFFORTS, **self.efforts}[thinking.effort]

    def variables(self, thinking: Thinking) -> Mapping[str, bool]:
        """Return the template variables for a request. A budget of 0 disables thinking."""
        # A template that uses the variable ends the prompt with `</think>`.
        return {"enable_thinking": False} if self.of(thinking) == 0 else {}
