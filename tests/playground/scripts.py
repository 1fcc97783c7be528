"""What the scripted models answer."""

from __future__ import annotations

MODEL = "scripted"

HTML = (
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> "
    "<a href='javascript:window.hacked = 3'>link</a> <style>body { display: none }</style> "
    "[click](javascript:window.hacked = 4) <iframe srcdoc='<script>parent.hacked = 5</script>'></iframe>"
)
MARKDOWN = """# A heading

Some **bold**, *slanted* and `code` text with a [link](https://example.com/page).

1. first
2. second
   - nested

| name | value |
|:-----|------:|
| one  | 1     |

> quoted

```python
print("<b>")
```
"""
WIDE = f"""```python
print("{"a long line " * 20}")
```

| {" | ".join(["a column"] * 8)} |
|{"---|" * 8}
| {" | ".join(["unbreakable"] * 8)} |

{"unbreakable" * 20}

Some text.

{"A last paragraph with enough words for several lines. " * 12}
"""
PARAGRAPH = "Item **{n}** of the list, with `code` and *more* of the same words to fill the line.\n\n"
LONG_QUESTIONS = ("Write the first part.", "Write the second part.", "Write the third part.")
LONG = "".join(PARAGRAPH.format(n=n) for n in range(130))
"""About 3,500 tokens, so that three of them are a conversation of more than 10,000."""

SCRIPTS = [
    ("Hello", "Good day to you."),
    ("Answer with HTML", HTML),
    ("Answer with Markdown", MARKDOWN),
    ("Answer with wide blocks", WIDE),
    ("Who is it?", '{"name": "Ann", "age": 31}'),
    ("Use two tools", '<|tool_call_start|>[get_weather(city="Oslo"), get_weather(city="Bergen")]<|tool_call_end|>'),
    ("Cold", "Both are cold.", "tool"),
    *((question, LONG) for question in LONG_QUESTIONS),
]
THINKER_SCRIPTS = [("Hello", "Good day.")]
