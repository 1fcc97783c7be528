"""The text a ready server prints: the model, its main settings, and a first request to try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BUILT_IN = """\
This is the BUILT-IN DEMO MODEL, for trying out the server: it knows next to nothing.
Serve a real model with --model, for example --model onnx-community/LFM2-8B-A1B-ONNX
"""
NOT_NATIVE = "Note: onnxruntime's kernels are used, not the faster native ones: {reason}.\n"
SLOW = "Note: {dtype} is slow on a CPU; this model also comes in {others}.\n"


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts in the banner; `address` is http://host:port, `slow` marks a dtype that is slow on CPUs.

    kernels_reason: why `kernels` are not the native ones; "" if there is nothing to say about it.
    """

    address: str
    name: str
    built_in: bool
    dtype: str
    dtypes: tuple[str, ...]
    slow: bool
    threads: int
    kernels: str
    kernels_reason: str
    max_seqs: int
    max_model_len: int
    sampling: Mapping[str, float]
    needs_key: bool


def banner(facts: Facts) -> str:
    """Return the banner, ending in a newline."""
    sampling = ", ".join(f"{name} {value:g}" for name, value in facts.sampling.items())
    faster = [dtype for dtype in facts.dtypes if dtype != facts.dtype]
    return (
        f"\nServing {facts.name} ({facts.dtype}) on {facts.address}: {facts.threads} threads, {facts.kernels} kernels, "
        f"{facts.max_seqs} sequences at once, {facts.max_model_len:,} tokens each\n"
        f"Default sampling: {sampling}\n"
        + (NOT_NATIVE.format(reason=facts.kernels_reason) if facts.kernels_reason else "")
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
