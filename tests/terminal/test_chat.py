"""`lfm-serve chat` as its user sees it, with a server that generates given texts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.settings import Settings
from tests.pseudo_terminal import ALT_ENTER, CTRL_C, CTRL_D, PROMPT, UP, Terminal, terminal
from tests.scripted import marks_as_thinking, scripted
from tests.serving import Server, serving

pytest.importorskip("prompt_toolkit", reason="the extra chat is not installed")

ROOT = Path(__file__).parents[2]
ENDLESS = "la " * 20_000
SCRIPTS = [
    ("Hello", "Good morning."),
    ("two\nlines", "These are two lines."),
    ("think", "<think>Let me see.</think>I have thought."),
    ("escape", "a\x1b[31mb"),
    ("sing", ENDLESS),
    ("weather", '<|tool_call_start|>[get_weather(city="Lisbon")]<|tool_call_end|>'),
    ("<|tool_response_start|>21 degrees<|tool_response_end|>", "It is warm.", "tool"),
]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = scripted(tmp_path_factory.mktemp("models") / "actor", SCRIPTS)
    marks_as_thinking(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 32_768}))
    with serving(Settings(model=str(folder), max_seqs=2, threads=1)) as server:
        yield server


@pytest.fixture
def chat(server: Server, tmp_path: Path) -> Iterator[Terminal]:
    with terminal(tmp_path, "chat", "--url", server.url) as chat:
        chat.expect(f"actor on {server.url}/v1. /help lists the commands")
        yield chat


@pytest.fixture
def file(tmp_path: Path) -> Callable[[object], Path]:
    def write(value: object) -> Path:
        path = tmp_path / "file.json"
        path.write_text(json.dumps(value))
        return path

    return write


def test_answers_stream_and_ctrl_d_leaves(chat: Terminal) -> None:
    chat.enter("Hello", "Good morning.")
    chat.enter("escape", r"a\u001b[31mb")
    assert "a\x1b[31m" not in chat.raw
    chat.expect(PROMPT)
    chat.send(CTRL_D)
    assert chat.wait() == 0


def test_an_input_of_several_lines_is_recalled_from_the_history(chat: Terminal, server: Server, tmp_path: Path) -> None:
    chat.enter(f"two{ALT_ENTER}lines", "These are two lines.")
    chat.enter("two\nlines", "These are two lines.")
    chat.enter(UP, "These are two lines.")
    with terminal(tmp_path, "chat", "--url", server.url) as later:
        later.enter(UP, "These are two lines.")


def test_thoughts_are_dimmed(chat: Terminal) -> None:
    chat.enter("think", "Let me see.", "I have thought.")
    before, _, _ = chat.raw.partition("I have")
    assert "\x1b[2;3mL" in before
    assert before.rstrip().endswith("\x1b[0m")


def test_ctrl_c_stops_an_answer_and_clears_the_line(chat: Terminal, server: Server, tmp_path: Path) -> None:
    chat.enter("sing", "la la la")
    chat.send(CTRL_C)
    chat.expect("Stopped.")
    server.wait_until(server.is_idle)
    chat.expect(PROMPT)
    chat.send(f"Hel{CTRL_C}")
    chat.expect("Ctrl-D leaves.")
    chat.enter("Hello", "Good morning.")
    chat.enter(f"/save {tmp_path}/saved.json", "Saved to ")
    _, stopped, *_ = json.loads((tmp_path / "saved.json").read_text())["messages"]
    assert stopped["role"] == "assistant"
    assert stopped["content"].startswith("la la la")
    assert len(stopped["content"]) < len(ENDLESS)


def test_a_call_is_a_card_that_the_user_answers(chat: Terminal, file: Callable[[object], Path], tmp_path: Path) -> None:
    chat.enter(f"/tools {file([WEATHER])}", "get_weather", "Get the weather in a city")
    chat.enter("weather", "call: get_weather", '"city": "Lisbon"', "result of get_weather:")
    chat.send("21 degrees\r")
    chat.expect("It is warm.")
    chat.enter(f"/save {tmp_path}/saved.json", "Saved to ")
    request = json.loads((tmp_path / "saved.json").read_text())
    assert request["tools"] == [WEATHER]
    assert [message["role"] for message in request["messages"]] == ["user", "assistant", "tool", "assistant"]

    chat.enter("weather", "result of get_weather:")
    chat.send(CTRL_C)
    chat.expect("Your message is not part of the conversation")
    chat.enter("/tools off", "The tools are removed.")
    chat.enter("/tools", "There are no tools.")


def test_a_schema_applies_to_answers_until_it_is_removed(chat: Terminal, file: Callable[[object], Path]) -> None:
    chat.enter(f"/schema {file({'const': 'ok'})}", "Answers match the schema.")
    chat.enter("think", "Let me see.", '"ok"')
    chat.enter("/schema", '"const": "ok"')
    chat.enter("/schema off", "The schema is removed.")
    chat.enter("Hello", "Good morning.")


def test_an_error_of_the_server_is_shown_with_its_request_and_the_chat_goes_on(
    chat: Terminal, file: Callable[[object], Path]
) -> None:
    chat.enter(f"/schema {file({'type': 'array', 'uniqueItems': True})}", "Answers match the schema.")
    chat.enter("Hello", "400 Bad Request: ", "uniqueItems", " (request ", "Your message is not part")
    chat.enter("/schema off", "The schema is removed.")
    chat.enter("Hello", "Good morning.")


def test_the_system_prompt_the_statistics_and_the_other_commands(chat: Terminal, tmp_path: Path) -> None:
    chat.enter("/stats", "There is no answer yet.")
    chat.enter("/system You are a pirate.", "The system prompt is set.")
    chat.enter("/system", "You are a pirate.")
    chat.enter("Hello", "Good morning.")
    chat.enter("/stats", "answers", "prompt tokens", "answer tokens", "time to first token")
    chat.enter(f"/save {tmp_path}/saved.json", "Saved to ")
    system, user, answer = json.loads((tmp_path / "saved.json").read_text())["messages"]
    assert system == {"role": "system", "content": "You are a pirate."}
    assert (user["content"], answer["content"]) == ("Hello", "Good morning.")
    chat.enter("/clear", "The messages are forgotten.")
    chat.enter("/system off", "The system prompt is removed.")
    chat.enter(f"/save {tmp_path}/saved.json", "Saved to ")
    assert json.loads((tmp_path / "saved.json").read_text())["messages"] == []
    chat.enter("/help", "/schema FILE", "Ctrl-D")


def test_an_invalid_command_is_one_line(chat: Terminal, tmp_path: Path, file: Callable[[object], Path]) -> None:
    (tmp_path / "text").write_text("text")
    chat.enter("/tool", "unknown command /tool; did you mean /tools?")
    chat.enter("/xyz", "unknown command /xyz; /help lists the commands")
    chat.enter("/save", "/save needs the name of a file")
    chat.enter(f"/save {tmp_path}/text", "exists; choose a new name")
    chat.enter(f"/save {tmp_path}/no/file", "cannot be written: No such file or directory")
    chat.enter(f"/tools {tmp_path}/absent", "absent cannot be read: No such file or directory")
    chat.enter(f"/tools {tmp_path}/text", "text is not JSON: ")
    chat.enter(f"/tools {file([{'type': 'function'}])}", "tool 1 must have the form ")
    chat.enter(f"/schema {file([])}", "must contain a JSON schema, which is a JSON object")


def failure(*arguments: str, program: str = "from server.cli import main; sys.exit(main())") -> str:
    """The one line of a command that ends with code 1."""
    command = [sys.executable, "-c", f"import sys; {program}", "chat", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert (result.returncode, result.stdout) == (1, ""), result.stderr
    (line,) = result.stderr.splitlines()
    return line


def test_without_a_terminal_the_command_says_so() -> None:
    assert failure() == "lfm-serve: lfm-serve chat needs a terminal as its standard input and output."


@pytest.mark.parametrize("package", ["prompt_toolkit", "rich"])
def test_without_its_packages_the_command_says_what_to_install(package: str) -> None:
    program = f"sys.modules['{package}'] = None; from server.cli import main; sys.exit(main())"
    assert failure(program=program) == (
        "lfm-serve: lfm-serve chat needs packages that are not installed: pip install 'lfm-serve[chat]'"
    )
