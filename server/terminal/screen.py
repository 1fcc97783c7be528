"""Shows the chat with rich."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.json import JSON
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from server.terminal.answer import Answer, Call, Piece
from server.terminal.statistics import ChatStatistics, cached, count, thoughts, tokens_per_second

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that could control the terminal or that it cannot show."""

NOTES = {
    "length": "The answer was cut: it reached the maximum number of tokens.",
    "content_filter": "The server's content filter ended the answer.",
}
"""What to tell the user about an answer, by its finish reason."""


def safe(text: str) -> str:
    """Escape control characters, except tabs and line breaks."""
    return CONTROL.sub(lambda match: json.dumps(match[0])[1:-1], text)


class Screen:
    """The output of a chat on standard output."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._kind = ""

    def note(self, text: str) -> None:
        """Show a line that is neither the user's nor the model's."""
        self._console.print(Text(safe(text), style="dim"), soft_wrap=True)

    def error(self, text: str) -> None:
        self._console.print(Text(safe(text), style="red"), soft_wrap=True)

    @contextmanager
    def progress(self, text: str) -> Iterator[Callable[[str], None]]:
        """Show a line during a `with` block, and yield a function that replaces it."""
        with self._console.status(Text(text)) as status:
            yield lambda line: status.update(Text(safe(line)))

    def piece(self, piece: Piece) -> None:
        """Append a piece of the answer. Thoughts are dimmed and set apart."""
        kind, text = piece
        if self._kind == "thoughts" and kind == "text":
            self._console.print("\n")
        self._kind = kind
        style = "dim italic" if kind == "thoughts" else ""
        self._console.print(Text(safe(text), style=style), end="", soft_wrap=True)

    def end_of_answer(self, answer: Answer) -> None:
        """End the answer's line, and show its calls.

        Also says if the answer is empty, was cut or was filtered.
        """
        if self._kind:
            self._console.print()
        elif answer.finish_reason == "stop":
            self.note("The answer is empty.")
        self._kind = ""
        for call in answer.calls:
            self._console.print(_card(call))
        if answer.finish_reason in NOTES:
            self.note(NOTES[answer.finish_reason])

    def statistics(self, statistics: ChatStatistics) -> None:
        last = statistics.last
        if last is None:
            self.note("There is no answer yet.")
            return
        table = Table("", "last answer", "all answers", box=None, header_style="dim")
        table.add_row("answers", "", str(statistics.answers))
        table.add_row("prompt tokens", str(count(last, "prompt_tokens")), str(statistics.prompt_tokens))
        table.add_row("of these from the cache", str(cached(last)), str(statistics.cached_tokens))
        table.add_row("answer tokens", str(count(last, "completion_tokens")), str(statistics.completion_tokens))
        table.add_row("of these thoughts", str(thoughts(last)))
        table.add_row("time to first token", "" if last.first is None else f"{last.first - last.sent:.2f} s")
        rate = tokens_per_second(last)
        table.add_row("tokens per second", "" if rate is None else f"{rate:.1f}")
        self._console.print(table)

    def rows(self, rows: list[tuple[str, str]]) -> None:
        """Show pairs of a name and its explanation."""
        table = Table.grid(padding=(0, 2))
        for name, explanation in rows:
            table.add_row(Text(safe(name), style="bold"), Text(safe(explanation)))
        self._console.print(table)

    def json(self, value: object) -> None:
        self._console.print(_json(json.dumps(value, ensure_ascii=False)))


def _card(call: Call) -> Panel:
    return Panel(_json(call.arguments), title=Text(f"call: {safe(call.name)}"), title_align="left", expand=False)


def _json(text: str) -> JSON | Text:
    """Return JSON with indentation and colours, and other text unchanged."""
    try:
        return JSON(safe(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return Text(safe(text))
