"""A conversation of more than 10,000 tokens, and the long tasks of the page while it streams."""

from __future__ import annotations

from dataclasses import dataclass

from tests.playground.page import Playground
from tests.playground.scripts import LONG_QUESTIONS

ANSWER_TIMEOUT = 600_000  # milliseconds; the server may share its cores with others
OBSERVE = """() => {
  window.longTasks = [];
  new PerformanceObserver(list => longTasks.push(...list.getEntries().map(entry => entry.duration)))
    .observe({entryTypes: ["longtask"]});
}"""
MARK = "document.querySelector('.turn.assistant:last-child .markdown > p').marked = true"
IS_MARKED = "[...document.querySelectorAll('.turn.assistant')].map(turn => turn.querySelector('p').marked)"


@dataclass(frozen=True)
class LongConversation:
    """What was seen.

    tokens: tokens of the prompts and answers of the last request.
    first_blocks_kept: for each answer, whether its first block, marked early on, was never built again.
    long_tasks: durations of the browser's tasks above 50 ms, in milliseconds.
    """

    tokens: int
    first_blocks_kept: list[bool]
    long_tasks: list[float]


def hold_long_conversation(playground: Playground) -> LongConversation:
    """Send all long questions, and type while the answers stream."""
    page = playground.page
    page.set_default_timeout(ANSWER_TIMEOUT)
    page.evaluate(OBSERVE)
    for number, question in enumerate(LONG_QUESTIONS):
        page.fill("#prompt", question)
        page.press("#prompt", "Enter")
        page.wait_for_selector(f".turn.assistant >> nth={number} >> p >> nth=2")
        page.evaluate(MARK)
        page.locator("#prompt").press_sequentially("typed while it streams")
        playground.wait_for_end()
        assert page.input_value("#prompt") == "typed while it streams"
    usage = playground.answers.last.locator(".numbers").inner_text().replace(",", "").split()
    return LongConversation(
        tokens=int(usage[0]) + int(usage[usage.index("out") - 1]),
        first_blocks_kept=[bool(mark) for mark in page.evaluate(IS_MARKED)],
        long_tasks=page.evaluate("longTasks"),
    )
