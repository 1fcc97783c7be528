"""The README and docs/ are true: examples run, commands parse, links resolve, and the reference matches the server."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from server.api.access.api_keys import read_keys
from server.api.chat_completions.fields import ChatCompletionRequest
from server.api.completions.fields import CompletionRequest
from server.api.responses.fields import ResponseRequest
from server.client_settings import Chat
from server.settings import ENV_PREFIX, Settings
from tests.server_process import server_process

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "README.md", *sorted(DOCS.glob("*.md")))}
README = PAGES["README.md"]
GUIDES = PAGES | {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (
        *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
        *(ROOT / folder / "README.md" for folder in ("deploy", "tests", "benchmarks", "tools/demo_model")),
        *sorted((ROOT / "server").rglob("README.md")),
    )
}
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
COMMAND = [sys.executable, "-c", "import sys; from server.cli import main; sys.exit(main())"]


def blocks(language: str, pages: dict[str, str] = PAGES) -> list[Any]:
    """Return the code blocks in a language, with the page and their number as the test's id."""
    found = [(name, block[3]) for name, text in pages.items() for block in BLOCK.finditer(text) if block[2] == language]
    return [pytest.param(code, id=f"{name}-{i}") for i, (name, code) in enumerate(found)]


def shell_commands(start: str, pages: dict[str, str] = PAGES) -> list[Any]:
    """Return the commands of all shell blocks that match `start`, continued lines joined."""
    pattern = re.compile(rf"^ *((?:\w+=\S+ )*{start}.*)$", re.MULTILINE)
    found = [
        (param.id, command)
        for param in blocks("sh", pages)
        for command in pattern.findall(re.sub(r"\\\n *", "", param.values[0]))
    ]
    return [pytest.param(command, id=f"{name}-{i}") for i, (name, command) in enumerate(found)]


def table(page: str, heading: str) -> list[list[str]]:
    """Return the cells of all table rows below a heading, down to the next heading of its level."""
    level = heading.split(" ")[0]
    section = re.split(rf"^{level} ", PAGES[page].split(f"{heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)
    return [[cell.strip() for cell in row.split(" | ")] for row in rows]


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LFM_")} | variables
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


@functools.cache
def flags(*command: str) -> set[str]:
    """Return the options that a command's help lists."""
    result = run(*COMMAND, *command, "--help", COLUMNS="200", NO_COLOR="1")
    assert result.returncode == 0, result.stderr
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", result.stdout)) - {"--help"}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address (host:port) of a server with the default options."""
    with server_process() as server:
        server.wait_until_ready()
        yield server.url.removeprefix("http://")


def fetch(address: str, path: str) -> str:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as response:
        text: str = response.read().decode()
        return text


# Examples


@pytest.mark.parametrize("code", blocks("python"))
def test_an_example_runs_and_prints_an_answer(code: str, address: str) -> None:
    result = run(sys.executable, "-c", code.replace("127.0.0.1:8000", address))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def test_the_readme_shows_a_chat_a_stream_and_a_tool() -> None:
    assert len(blocks("python", {"README.md": README})) == 3
    assert len(shell_commands("curl ", {"README.md": README})) == 1


def test_the_tool_example_answers_with_the_tools_result(address: str) -> None:
    (code,) = (code for _, _, code in BLOCK.findall(README) if "get_weather" in code)
    assert "21" in run(sys.executable, "-c", code.replace("127.0.0.1:8000", address)).stdout


def test_the_schema_example_answers_with_matching_json(address: str) -> None:
    (code,) = (code for _, _, code in BLOCK.findall(PAGES["docs/api.md"]) if "json_schema" in code)
    person = json.loads(run(sys.executable, "-c", code.replace("127.0.0.1:8000", address)).stdout)
    assert person.keys() == {"name", "age"}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("line", shell_commands("curl "))
def test_a_curl_line_gets_an_answer(line: str, address: str) -> None:
    result = run("sh", "-c", line.replace("curl ", "curl --fail ").replace("127.0.0.1:8000", address))
    assert result.returncode == 0, result.stderr
    if "/v1/chat/completions" in line:
        assert '"object":"chat.completion"' in result.stdout.replace(": ", ":")
    assert json.loads(result.stdout)


@pytest.mark.parametrize("text", blocks("json"))
def test_a_json_block_is_json(text: str) -> None:
    assert json.loads(text)


@pytest.mark.parametrize("text", blocks("toml"))
def test_a_keys_file_is_accepted(text: str, tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text(text)
    assert read_keys(tmp_path / "keys.toml")


# Commands and options


@pytest.mark.parametrize("line", shell_commands(r"\S*(?:lfm-serve|docker run).* --", GUIDES))
def test_a_command_line_uses_existing_options(line: str) -> None:
    command = re.search(r"lfm-serve (serve|chat|bench|prepare|export|cache)", line)
    options = line.partition("lfm-serve")[2]
    assert set(re.findall(r"(?<!\S)--[a-z][a-z-]*", options)) <= flags(command[1] if command else "serve")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_existing_variables(page: str) -> None:
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Chat.model_fields}
    assert set(re.findall(r"\bLFM_[A-Z_]+\b", PAGES[page])) <= known


def settings_rows() -> dict[str, list[str]]:
    """Return the rows of serve's tables by the name of their field."""
    rows = [row for row in table("docs/configuration.md", "## lfm-serve serve") if row[0].startswith("`--")]
    named = {row[0].strip("`").removeprefix("--").replace("-", "_"): row for row in rows}
    assert len(named) == len(rows)
    return named


def test_the_configuration_page_lists_exactly_the_settings() -> None:
    assert settings_rows().keys() == Settings.model_fields.keys()
    assert {row[0].strip("`") for row in settings_rows().values()} == flags("serve")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_configuration_page_has_a_settings_variable_default_and_meaning(name: str) -> None:
    _, variable, default, meaning = settings_rows()[name]
    assert variable == f"`{ENV_PREFIX}{name.upper()}`"
    expected = Settings.model_fields[name].default
    if isinstance(expected, bool):
        assert default == ("on" if expected else "off")
    elif isinstance(expected, int | float | str):
        assert type(expected)(default.strip("`")) == expected
    else:
        assert default  # in words, since the value depends on the model or the machine
        assert not expected
    assert meaning


@pytest.mark.parametrize("command", ["chat", "bench", "prepare", "export", "cache"])
def test_the_configuration_page_lists_exactly_a_commands_options(command: str) -> None:
    rows = table("docs/configuration.md", f"## lfm-serve {command}")
    assert {flag for row in rows for flag in re.findall(r"--[a-z-]+", row[0]) if row[0] != "---"} == flags(command)


# The API's and the metrics' reference


def test_the_api_page_lists_exactly_the_routes(address: str) -> None:
    documented = {
        route for row in table("docs/api.md", "## Routes") for route in re.findall(r"`([A-Z]+ /\S+)`", row[0])
    }
    paths = json.loads(fetch(address, "/openapi.json"))["paths"]
    assert documented == {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def test_the_api_page_names_fields_of_the_chat_request(address: str) -> None:
    rows = table("docs/api.md", "### Fields beyond OpenAI's")[2:]
    fields = {field for row in rows for field in re.findall(r"`(\w+)`", row[0])}
    schemas = json.loads(fetch(address, "/openapi.json"))["components"]["schemas"]
    assert fields
    assert fields <= schemas["ChatCompletionRequest"]["properties"].keys()


@pytest.mark.parametrize(
    ("heading", "body"),
    [
        ("### Chat completions", ChatCompletionRequest),
        ("## The Responses API", ResponseRequest),
        ("## Completions", CompletionRequest),
    ],
)
def test_the_api_page_lists_exactly_the_fields_of_a_protocol(heading: str, body: type[BaseModel]) -> None:
    rows = table("docs/api.md", heading)
    rows = rows[rows.index(["field", "effect, or why there is none"]) + 1 :]
    documented = {name.partition(".")[0] for row in rows for name in re.findall(r"`([\w.]+)`", row[0])}
    assert documented == {field.alias or name for name, field in body.model_fields.items()}


def test_the_metrics_page_lists_exactly_the_metrics(address: str) -> None:
    documented = set(re.findall(r"^\| `(lfm_\w+)(?:\{.*\})?` \|", PAGES["docs/metrics.md"], re.MULTILINE))
    assert documented == set(re.findall(r"^# TYPE (lfm_\w+) ", fetch(address, "/metrics"), re.MULTILINE))


# Links


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


LINKS = [(name, link) for name, text in GUIDES.items() for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text)]


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_a_link_leads_to_a_file_and_a_heading_of_the_project(page: str, link: str) -> None:
    name, _, anchor = link.partition("#")
    target = (ROOT / page).parent / name if name else ROOT / page
    assert target.is_file()
    assert not anchor or anchor in anchors(target.read_text())


@pytest.mark.parametrize(("page", "link"), [pair for pair in LINKS if pair[0].startswith("docs/")])
def test_a_link_in_docs_stays_in_docs(page: str, link: str) -> None:
    target = (ROOT / page).parent / link.partition("#")[0]
    assert target.resolve().is_relative_to(DOCS)


@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/README.md"])
def test_the_index_links_to_every_page(page: str) -> None:
    assert page == "README.md" or f"]({Path(page).name})" in PAGES["docs/README.md"]


@pytest.mark.parametrize("page", GUIDES)
def test_a_path_of_the_project_in_backticks_exists(page: str) -> None:
    paths = re.findall(r"`((?:server|tests|benchmarks|deploy|docs|tools)/(?!\.)[\w./-]*)`", GUIDES[page])
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/request-lifecycle.md", "docs/scheduling.md"])
def test_a_source_file_named_by_a_page_exists(page: str) -> None:
    modules = [f"/{path.relative_to(ROOT)}" for path in (ROOT / "server").rglob("*.py")]
    named = set(re.findall(r"(?<![\w.])[\w/]+\.py\b", PAGES[page]))
    assert named
    assert not [name for name in named if not any(module.endswith(f"/{name}") for module in modules)]


def test_the_readme_is_short_enough_to_finish() -> None:
    assert len(README.splitlines()) < 200
