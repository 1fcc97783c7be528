"""The Markdown renderer, in the browser: what it shows, that streaming changes nothing, and that its work is linear."""

from __future__ import annotations

import time
from typing import Any

from tests.playground.conftest import OpenPage
from tests.playground.scripts import HTML, MARKDOWN
from tests.serving import Server

RENDER = """async pieces => {
  const { MarkdownView } = await import(new URL("playground/markdown.js", document.baseURI));
  const view = new MarkdownView();
  let text = "";
  for (const piece of pieces) view.update(text += piece);
  return view.element.innerHTML;
}"""

CASES: dict[str, tuple[str, str]] = {
    "emphasis": ("*a **b** c* and ***d***", "<p><em>a <strong>b</strong> c</em> and <em><strong>d</strong></em></p>"),
    "crossing": ("*a [b* c](https://x.example)", "<p><em>a [b</em> c](<a"),
    "snake_case": ("snake_case_name and 2 * 3 * 4", "<p>snake_case_name and 2 * 3 * 4</p>"),
    "code span": ("`` a`b `` and `x", "<p><code>a`b</code> and `x</p>"),
    "strike": ("~~gone~~ ~here~", "<p><del>gone</del> ~here~</p>"),
    "escapes": (r"\*no\* \[x\]", "<p>*no* [x]</p>"),
    "link": ("[a](https://x.example/y)", '<a href="https://x.example/y" target="_blank" rel="noopener noreferrer"'),
    "bad link": ("[a](javascript:x)", "<p>[a](javascript:x)</p>"),
    "image": ("![a](https://x.example/y.png)", '<p><a href="https://x.example/y.png"'),
    "bare address": ("see https://x.example/a.", '<p>see <a href="https://x.example/a"'),
    "list": ("- a\n  - b\n- c", "<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>"),
    "start": ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
    "table": ("|a|b|\n|-|-:|\n|1|2|", '<table><thead><tr><th>a</th><th class="right">b</th></tr></thead>'),
    "quote": ("> a\n> # b", "<blockquote><p>a</p><h3>b</h3></blockquote>"),
    "heading": ("## A `b` ##", "<h4>A <code>b</code></h4>"),
    "rule": ("a\n\n---\nb", "<p>a</p><hr><p>b</p>"),
    "open code": ("```js\nlet a = '<b>'", "<code>let a = '&lt;b&gt;'</code>"),
}  # fmt: skip


def render(playground: Any, pieces: list[str]) -> str:
    return str(playground.page.evaluate(RENDER, pieces))


def test_markdown_becomes_elements(demo: Server, open_page: OpenPage) -> None:
    playground = open_page(demo.url)
    shown = {name: render(playground, [text]) for name, (text, _) in CASES.items()}
    assert {name: html for name, html in shown.items() if CASES[name][1] not in html} == {}


def test_a_stream_shows_the_same_as_the_whole_text(demo: Server, open_page: OpenPage) -> None:
    playground = open_page(demo.url)
    for text in ("\n\n".join(text for text, _ in CASES.values()), MARKDOWN, HTML, "- a\n\n1\n1. b\n\n  c | d\n--|--\n"):
        assert render(playground, [*text]) == render(playground, [text])


HOSTILE = ("*", "_a", "[", "](", "`", "<", "> ", "- ", "|", "~~", "# ", "\n", "![a](", "1. ", "\\")
SECONDS = 20  # quadratic work on these texts takes minutes


def test_no_text_takes_more_than_linear_work(demo: Server, open_page: OpenPage) -> None:
    playground = open_page(demo.url)
    for piece in HOSTILE:
        for text in (piece * (100_000 // len(piece)), f"{piece}\n" * 20_000):
            started = time.monotonic()
            render(playground, [text])
            assert time.monotonic() - started < SECONDS, piece
