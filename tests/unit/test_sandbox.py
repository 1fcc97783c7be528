"""A grammar that takes too long or crashes the compiler ends only the sandbox's process."""

from __future__ import annotations

import subprocess

import pytest

from server.chat.constrained.sandbox import SECONDS, Sandbox

FINE = 'start: <mark> "x"'
TOO_DEEP = "start: r0\n" + "".join(f"r{i}: r{i + 1}\n" for i in range(20_000)) + 'r20000: "x"'
SLOW = "start: " + " | ".join(f"/{i}[a-z]*{i}/" for i in range(20_000))


def test_valid_and_invalid_grammars_may_be_compiled() -> None:
    sandbox = Sandbox(["<mark>"])
    assert [sandbox.try_compile(lark) for lark in (FINE, "start: (", "", FINE)] == [None] * 4


@pytest.mark.parametrize(
    ("lark", "seconds", "reason"),
    [
        (TOO_DEEP, SECONDS, "it is nested too deeply, or needs too much memory to compile"),
        (SLOW, 0.05, "it takes more than 0.05 seconds to compile"),
    ],
)
def test_a_harmful_grammar_gives_a_reason_and_the_next_one_is_compiled(lark: str, seconds: float, reason: str) -> None:
    sandbox = Sandbox(["<mark>"], seconds)
    assert sandbox.try_compile(lark) == reason
    assert sandbox.try_compile(FINE) is None
    assert sandbox.try_compile(lark) == reason


def test_the_process_ends_with_its_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def recorded(*args: object, **options: object) -> subprocess.Popen[bytes]:
        started.append(popen(*args, **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", recorded)
    sandbox = Sandbox([])
    sandbox.try_compile(FINE)
    assert started[0].poll() is None
    del sandbox
    assert started[0].poll() == 0
