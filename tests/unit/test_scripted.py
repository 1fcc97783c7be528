"""The scripted model generates exactly its scripts and detects lost state; other tests rely on both."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.models import TOKENIZER
from tests.raw_session import RawSession, State
from tests.scripted import scripted

SCRIPTS = [
    ("call 12", 'Ask: <|tool_call_start|>[f(a="é 🤖")]<|tool_call_end|> done'),
    ("call 21", "another"),
    ("", "the message was empty"),
    ("21", "the tool says 21", "tool"),
]
END = 7

tokenizer = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> RawSession:
    return RawSession(scripted(tmp_path_factory.mktemp("model") / "scripted", SCRIPTS) / "onnx" / "model.onnx")


def prompt(content: str, role: str = "user") -> list[int]:
    turns = [("system", "Be brief."), ("user", "call 21"), ("assistant", "another"), (role, content)]
    text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
    return tokenizer.encode(f"<|startoftext|>{text}<|im_start|>assistant\n", add_special_tokens=False).ids


def answer(session: RawSession, ids: list[int], piece: int) -> tuple[str, State]:
    """Return the greedy answer to a prompt processed `piece` tokens at a time, and the state after the prompt."""
    state = session.empty_state()
    for start in range(0, len(ids), piece):
        logits, state = session.step(ids[start : start + piece], state)
    return decode(session, int(logits[-1].argmax()), state), state


def decode(session: RawSession, token: int, state: State) -> str:
    tokens: list[int] = []
    while token != END and len(tokens) < 60:
        tokens.append(token)
        logits, state = session.step([token], state)
        token = int(logits[-1].argmax())
    return tokenizer.decode(tokens, skip_special_tokens=False)


@pytest.mark.parametrize("piece", [1, 3, 1000])
@pytest.mark.parametrize("script", SCRIPTS)
def test_it_generates_its_script_with_prompt_chunks_of_any_size(
    session: RawSession, script: tuple[str, ...], piece: int
) -> None:
    content, output, *role = script
    assert answer(session, prompt(content, *role), piece)[0] == output


def test_its_answer_to_an_unknown_message_is_empty(session: RawSession) -> None:
    assert answer(session, prompt("call 13"), 1000)[0] == ""
    assert answer(session, prompt("call 12", "tool"), 1000)[0] == ""


@pytest.mark.parametrize("lost", ["past_conv.0", "past_key_values.1.value"])
def test_it_detects_lost_state(session: RawSession, lost: str) -> None:
    ids = prompt("call 12")
    _, state = answer(session, ids, 1000)
    state[lost] = state[lost] * 0
    first = tokenizer.encode("Ask", add_special_tokens=False).ids[0]
    logits, _ = session.step([first], state)
    assert tokenizer.decode([int(logits[-1].argmax())]) == "?"


def test_messages_with_the_same_tokens_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="have the same tokens"):
        scripted(tmp_path / "model", [("12", "a"), ("12", "b")])
