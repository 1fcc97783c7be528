"""Counts the tokens and times of a chat."""

from __future__ import annotations

from dataclasses import dataclass

from server.terminal.answer import Answer


@dataclass(slots=True)
class ChatStatistics:
    """The last answer, and sums over all answers.

    A stopped answer counts as 0 tokens, because servers report the number at the end of an answer.
    """

    last: Answer | None = None
    answers: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def add(self, answer: Answer) -> None:
        self.last = answer
        self.answers += 1
        self.prompt_tokens += count(answer, "prompt_tokens")
        self.cached_tokens += cached(answer)
        self.completion_tokens += count(answer, "completion_tokens")


def count(answer: Answer, name: str) -> int:
    """Return a number from the answer's usage, such as "prompt_tokens"; 0 if unknown."""
    return int(answer.usage.get(name) or 0)


def cached(answer: Answer) -> int:
    """Return how many prompt tokens came from the server's cache; 0 if unknown."""
    return int((answer.usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)


def thoughts(answer: Answer) -> int:
    """Return how many tokens of the answer are thoughts; 0 if unknown."""
    return int((answer.usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0)


def tokens_per_second(answer: Answer) -> float | None:
    """Return the tokens per second after the first token; None if unknown."""
    tokens = count(answer, "completion_tokens") - 1
    if answer.first is None or tokens < 1 or answer.last <= answer.first:
        return None
    return tokens / (answer.last - answer.first)
