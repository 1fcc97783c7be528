"""Composes the text that a server prints when it is ready."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BUILT_IN = """\
This is the BUILT-IN DEMO MODEL, for trying out the server: it knows next to nothing.
Serve a real model with --model, for example --model onnx-community/LFM2-8B-A1B-ONNX
"""
NOT_NATIVE = "Note: onnxruntime's kernels are used, not the faster native ones: {reason}.\n"
SLOW = "Note: {dtype} is slow on onnxruntime's kernels; this model also comes in {others}.\n"


@dataclass(frozen=True, slots=True)
class Facts:
    """Values that the banner shows.

    slow: whether the dtype is slow on the kernels in use.
    kernels_reason: why the native kernels are not in use; empty if there is nothing to explain.
    family: name of the known LFM2 model that is served; None for other models.
    chats: whether the model has a chat template.
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
    family: str | None
    chats: bool
    sampling: Mapping[str, float]
    needs_key: bool
    playground: bool


def banner(facts: Facts) -> str:
    """Return the banner, ending in a newline."""
    sampling = ", ".join(f"{name} {value:g}" for name, value in facts.sampling.items())
    faster = [dtype for dtype in facts.dtypes if dtype != facts.dtype]
    return (
        f"\nServing {facts.name} ({facts.dtype}) on {facts.address}: {facts.threads} threads, {facts.kernels} kernels, "
        f"{facts.max_seqs} sequences at once, {facts.max_model_len:,} tokens each\n"
        + (f"Family member: {facts.family}\n" if facts.family else "")
        + f"Default sampling: {sampling}\n"
        + (NOT_NATIVE.format(reason=facts.kernels_reason) if facts.kernels_reason else "")
        + (SLOW.format(dtype=facts.dtype, others=", ".join(faster)) if facts.slow and faster else "")
        + ("\n" + BUILT_IN if facts.built_in else "")
        + (f"\nTry it in a browser: {facts.address}/\n" if facts.playground else "")
        + f"\nTry it with curl:\n\n{_curl(facts)}\n\nor with the OpenAI SDK (pip install openai):\n\n{_sdk(facts)}\n"
    )


def _curl(facts: Facts) -> str:
    key = "-H 'Authorization: Bearer YOUR_KEY' " if facts.needs_key else ""
    path, body = (
        ("chat/completions", '{"messages": [{"role": "user", "content": "What are you?"}]}')
        if facts.chats
        else ("completions", '{"prompt": "Once upon a time", "max_tokens": 32}')
    )
    return f"  curl {facts.address}/v1/{path} {key}-H 'Content-Type: application/json' -d '{body}'"


def _sdk(facts: Facts) -> str:
    key = "YOUR_KEY" if facts.needs_key else "none"
    chat = (
        'messages = [{"role": "user", "content": "What are you?"}]',
        f'answer = client.chat.completions.create(model="{facts.name}", messages=messages)',
        "print(answer.choices[0].message.content)",
    )
    text = (
        f'answer = client.completions.create(model="{facts.name}", prompt="Once upon a time", max_tokens=32)',
        "print(answer.choices[0].text)",
    )
    lines = (
        "from openai import OpenAI",
        f'client = OpenAI(base_url="{facts.address}/v1", api_key="{key}")',
        *(chat if facts.chats else text),
    )
    return "\n".join(f"  {line}" for line in lines)
