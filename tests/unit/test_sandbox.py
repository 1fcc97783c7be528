"""Grammars that take too long or break the compiler end a process of their own, and nothing else."""

from __future__ import annotations

import subprocess

import pytest

from server.chat.constrained.sandbox import SECONDS, Sandbox

FINE = 'start: <mark> "x"'
TOO_DEEP = "start: r0\n" + "".join(f"r{i}: r{i + 1}\n" for i in range(20_000)) + 'r20000: "x"'
SLOW = "start: " + " | ".join(f"/{i}[a-z]*{i}/" for i in range(20_000))


def test_what_can_be_compiled_may_be_and_what_is_wrong_too() -> None:
    sandbox = Sandbox(["<mark>"])
    assert [sandbox.try_compile(lark) for lark in (FINE, "start: (", "", FINE)] == [None] * 4


@pytest.mark.parametrize(
    ("lark", "seconds", "reason"),
    [
        (TOO_DEEP, SECONDS, "it is nested too deeply, or needs too much memory to compile"),
        (SLOW, 0.05, "it takes more than 0.05 seconds to compile"),
    ],
)
def test_what_cannot_be_borne_is_told_and_the_next_is_tried(lark: str, seconds: float, reason: str) -> None:
    sandbox = Sandbox(["<mark>"], seconds)
    assert sandbox.try_compile(lark) == reason
    assert sandbox.try_compile(FINE) is None
    assert sandbox.try_compile(lark) == reason


def test_the_process_ends_with_its_trial(monkeypatch: pytest.MonkeyPatch) -> None:
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
