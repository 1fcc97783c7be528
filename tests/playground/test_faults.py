"""What the page does with hostile answers, missing keys, and a server that goes away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.processes import free_port
from server.settings import Settings
from tests.playground.conftest import OpenPage
from tests.playground.scripts import HTML, LONG_QUESTIONS, MODEL, SCRIPTS
from tests.scripted import scripted
from tests.serving import Server, serving


def test_html_in_an_answer_is_text(scripted_server: Server, open_page: OpenPage) -> None:
    playground = open_page(scripted_server.url)
    playground.wait_until_ready()
    playground.send("Answer with HTML")
    page = playground.page
    assert playground.answers.last.locator(".markdown").text_content() == HTML
    assert page.evaluate("window.hacked") is None
    assert playground.answers.last.locator(".markdown :is(script, img, iframe, style, a)").count() == 0


def test_a_key_is_asked_for_and_forgotten_unless_remembered(open_page: OpenPage) -> None:
    with serving(Settings(threads=1, api_key="sesame")) as server:
        playground = open_page(server.url)
        page = playground.page
        playground.send("What are you?")
        failure = playground.answers.last.locator(".failure").inner_text()
        assert "The API key is missing" in failure
        assert "Request id: req_" in failure
        page.get_by_role("button", name="Enter the API key").click()
        page.get_by_label("Key of this server", exact=False).fill("wrong")
        page.get_by_role("button", name="Use the key").click()
        page.get_by_role("button", name="Try again").click()
        page.get_by_text("Incorrect API key").wait_for()
        page.get_by_role("button", name="API key set").click()
        page.get_by_label("Key of this server", exact=False).fill("sesame")
        page.get_by_role("button", name="Use the key").click()
        playground.wait_until_ready()
        page.get_by_role("button", name="Try again").click()
        page.wait_for_selector(".turn.assistant .numbers:not(:empty)")
        playground.wait_for_end()
        assert "lfm2-demo" in playground.text()
        assert page.evaluate("Object.values(localStorage).includes('sesame')") is False
        playground.open()
        assert page.get_by_role("button", name="API key", exact=True).is_visible()


def test_an_error_names_what_is_wrong_and_the_request(scripted_server: Server, open_page: OpenPage) -> None:
    playground = open_page(scripted_server.url)
    playground.wait_until_ready()
    playground.page.locator("#parameter-stop").fill("1\n2\n3\n4\n5")
    playground.send("Hello")
    failure = playground.answers.last.locator(".failure").inner_text()
    assert "`stop`" in failure
    assert "Request id: req_" in failure


def test_a_server_that_goes_away_and_returns(tmp_path: Path, open_page: OpenPage) -> None:
    settings = Settings(model=str(scripted(tmp_path / MODEL, SCRIPTS)), threads=1, drain_timeout=0.01)
    port = free_port()
    with serving(settings, port) as server:
        playground = open_page(server.url)
        playground.wait_until_ready()
        page = playground.page
        page.fill("#prompt", LONG_QUESTIONS[0])
        page.press("#prompt", "Enter")
        page.wait_for_selector(".turn.assistant .markdown p:nth-child(2)")
    playground.wait_for_end()
    assert playground.text().startswith("Item 0 of the list")
    assert playground.answers.last.locator(".failure").count() == 1
    page.wait_for_selector("#status[data-state=away]")
    assert page.inner_text("#status-text") == "The server cannot be reached."
    with serving(settings, port):
        playground.wait_until_ready()
        page.get_by_role("button", name="Try again").click()
        page.get_by_text("2 / 2", exact=True).wait_for()
        page.wait_for_selector(".turn.assistant .markdown p")
        page.keyboard.press("Escape")
        playground.wait_for_end()
        assert playground.text().startswith("Item 0")


def test_a_page_without_a_network_says_so_and_recovers(scripted_server: Server, open_page: OpenPage) -> None:
    playground = open_page(scripted_server.url)
    playground.wait_until_ready()
    playground.page.context.set_offline(True)
    playground.send("Hello")
    assert "The server cannot be reached." in playground.answers.last.locator(".failure").inner_text()
    playground.page.context.set_offline(False)
    playground.click("Try again")
    playground.page.get_by_text("Good day to you.").wait_for()


def test_an_export_is_imported_as_it_was(scripted_server: Server, open_page: OpenPage, tmp_path: Path) -> None:
    playground = open_page(scripted_server.url)
    playground.wait_until_ready()
    page = playground.page
    assert page.get_by_text("No conversations yet.").is_visible()
    for label in ("Export", "Export all"):
        assert page.get_by_role("button", name=label, exact=True).is_disabled()
    playground.send("Answer with Markdown")
    before = playground.answers.last.locator(".markdown").inner_html()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export", exact=True).click()
    file = tmp_path / "export.json"
    download.value.save_as(file)

    other = open_page(scripted_server.url)
    other.page.set_input_files("#import-file", file)
    other.page.locator(".turn.assistant h3", has_text="A heading").wait_for()
    assert other.answers.last.locator(".markdown").inner_html() == before


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "not JSON"),
        ("[]", "no conversations"),
        ({"conversations": [{"turns": {"a": {"role": "user", "parent": None}}}]}, "invalid id"),
        ({"conversations": [{"turns": {"0" * 24: {"role": "system", "parent": None}}}]}, "role is not one of"),
        ({"conversations": [{"turns": {"0" * 24: {"role": "user", "parent": "0" * 24}}}]}, "without its parent"),
    ],
)
def test_a_damaged_file_is_not_imported(demo: Server, open_page: OpenPage, content: object, problem: str) -> None:
    playground = open_page(demo.url)
    if isinstance(content, dict):
        content = json.dumps({"format": "lfm-serve conversations", "version": 1, **content})
    file = {"name": "file.json", "mimeType": "application/json", "buffer": str(content).encode()}
    playground.page.set_input_files("#import-file", file)
    playground.page.locator("#import-problem:not(:empty)").wait_for()
    assert problem in playground.page.inner_text("#import-problem")
    assert playground.page.locator("#conversation-list li").count() == 0
