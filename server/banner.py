"""What the server says when it is ready: what is served, with which settings, and what to try next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BUILT_IN = """\
This is the BUILT-IN DEMO MODEL, made for trying the server out: it knows next to nothing.
Serve a real one with --model, for example --model onnx-community/LFM2-8B-A1B-ONNX
"""
SLOW = "Note: {dtype} is slow on a CPU; this model also comes in {others}.\n"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the banner tells; `address` is http://host:port, `slow` whether the dtype is known to be slow on a CPU."""

    address: str
    name: str
    built_in: bool
    dtype: str
    dtypes: tuple[str, ...]
    slow: bool
    threads: int
    max_seqs: int
    max_model_len: int
    sampling: Mapping[str, float]
    needs_key: bool


def banner(facts: Facts) -> str:
    """The text to print, ending in a newline."""
    sampling = ", ".join(f"{name} {value:g}" for name, value in facts.sampling.items())
    faster = [dtype for dtype in facts.dtypes if dtype != facts.dtype]
    return (
        f"\nServing {facts.name} ({facts.dtype}) on {facts.address}: {facts.threads} threads, "
        f"{facts.max_seqs} sequences at once, {facts.max_model_len:,} tokens each\n"
        f"Sampling where a request sets none: {sampling}\n"
        + (SLOW.format(dtype=facts.dtype, others=", ".join(faster)) if facts.slow and faster else "")
        + ("\n" + BUILT_IN if facts.built_in else "")
        + f"\nTry it with curl:\n\n{_curl(facts)}\n\nor with the OpenAI SDK (pip install openai):\n\n{_sdk(facts)}\n"
    )


def _curl(facts: Facts) -> str:
    key = "-H 'Authorization: Bearer YOUR_KEY' " if facts.needs_key else ""
    return (
        f"  curl {facts.address}/v1/chat/completions {key}-H 'Content-Type: application/json' "
        """-d '{"messages": [{"role": "user", "content": "What are you?"}]}'"""
    )


def _sdk(facts: Facts) -> str:
    key = "YOUR_KEY" if facts.needs_key else "none"
    lines = (
        "from openai import OpenAI",
        f'client = OpenAI(base_url="{facts.address}/v1", api_key="{key}")',
        'messages = [{"role": "user", "content": "What are you?"}]',
        f'answer = client.chat.completions.create(model="{facts.name}", messages=messages)',
        "print(answer.choices[0].message.content)",
    )
    return "\n".join(f"  {line}" for line in lines)
