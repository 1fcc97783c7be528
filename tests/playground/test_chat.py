"""Talking to a model: answers, thoughts, versions and branches, and conversations that the browser keeps."""

from __future__ import annotations

import re

from tests.playground.conftest import OpenPage
from tests.playground.scripts import LONG_QUESTIONS
from tests.serving import Server


def test_a_new_user_gets_an_answer_of_the_built_in_model_and_is_told_what_it_is(
    demo: Server, open_page: OpenPage
) -> None:
    playground = open_page(demo.url)
    playground.wait_until_ready()
    page = playground.page
    assert "lfm2-demo (built-in)" in page.inner_text("#status-text")
    assert "lfm-serve serve --model onnx-community/LFM2-8B-A1B-ONNX" in page.inner_text("#welcome")
    playground.click("What are you?", exact=False)
    page.wait_for_selector(".turn.assistant .numbers:not(:empty)")
    playground.wait_for_end()
    assert "lfm2-demo" in playground.text()
    numbers = playground.answers.last.locator(".numbers").inner_text()
    assert re.search(r"\d+ in \(\d+ cached\) · \d+ out · first token .* · [\d,]+ tokens/s", numbers)
    assert page.title() == "lfm-serve playground"
    assert page.context.cookies() == []


def test_a_stopped_answer_keeps_its_text_and_frees_its_slot(scripted_server: Server, open_page: OpenPage) -> None:
    playground = open_page(scripted_server.url)
    playground.wait_until_ready()
    page = playground.page
    page.fill("#prompt", LONG_QUESTIONS[0])
    page.press("#prompt", "Enter")
    page.wait_for_selector(".turn.assistant .markdown p:nth-child(2)")
    page.keyboard.press("Escape")
    playground.wait_for_end()
    assert playground.text().startswith("Item 0 of the list")
    assert "You stopped the answer." in playground.answers.last.inner_text()
    numbers = playground.answers.last.locator(".numbers").inner_text()
    assert re.search(r"\d+ in \(\d+ cached\) · \d+ out · first token .* · [\d,]+ tokens/s", numbers)
    scripted_server.wait_until(scripted_server.is_idle)
    playground.send("Hello")
    assert playground.text() == "Good day to you."


def test_turns_have_versions_and_branches(scripted_server: Server, open_page: OpenPage) -> None:
    playground = open_page(scripted_server.url)
    playground.wait_until_ready()
    page = playground.page
    playground.send("Hello")
    playground.click("Regenerate")
    page.get_by_text("2 / 2", exact=True).wait_for()
    playground.wait_for_end()

    page.locator(".turn.user").hover()
    page.get_by_role("button", name="Edit and resend").click()
    page.get_by_label("Edit the message").fill("Answer with Markdown")
    page.get_by_role("button", name="Send", exact=True).first.click()
    page.locator(".turn.assistant h3", has_text="A heading").wait_for()
    playground.wait_for_end()
    assert page.locator(".turn.user .plain").inner_text() == "Answer with Markdown"

    page.get_by_role("button", name="Previous version").click()
    assert page.locator(".turn.user .plain").inner_text() == "Hello"
    assert playground.text() == "Good day to you."

    page.locator(".turn.user").hover()
    page.locator(".turn.user").get_by_role("button", name="Branch", exact=False).click()
    page.locator("#conversation-list li").nth(1).wait_for()  # the page stores the branch before it shows it
    assert page.locator("#conversation-list li").count() == 2
    assert page.locator(".turn").count() == 1


def test_conversations_stay_in_the_browser_and_can_be_deleted(scripted_server: Server, open_page: OpenPage) -> None:
    playground = open_page(scripted_server.url)
    playground.wait_until_ready()
    page = playground.page
    playground.send("Hello")
    page.keyboard.press("Alt+n")
    playground.send("Answer with Markdown")
    page.wait_for_timeout(400)  # the page saves with a delay of 200 ms
    playground.open()
    titles = page.locator("#conversation-list .conversation").all_inner_texts()
    assert titles == ["Answer with Markdown", "Hello"]
    page.get_by_role("button", name="Hello", exact=True).click()
    assert playground.text() == "Good day to you."
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete “Hello”").click()
    page.locator("#conversation-list .conversation", has_text="Hello").wait_for(state="detached")


def test_several_choices_are_versions_of_one_answer(scripted_server: Server, open_page: OpenPage) -> None:
    playground = open_page(scripted_server.url)
    playground.wait_until_ready()
    playground.page.get_by_label("n", exact=True).fill("3")
    playground.send("Hello")
    page = playground.page
    for version in ("1 / 3", "2 / 3", "3 / 3"):
        page.get_by_text(version, exact=True).wait_for()
        assert playground.text() == "Good day to you."
        if version != "3 / 3":
            page.get_by_role("button", name="Next version").click()


def test_thoughts_are_folded_with_their_time(thinking_server: Server, open_page: OpenPage) -> None:
    playground = open_page(thinking_server.url)
    playground.wait_until_ready()
    playground.send("Hello")
    thoughts = playground.answers.last.locator(".thoughts")
    assert re.fullmatch(r"Thoughts · .* m?s", thoughts.locator("summary").inner_text())
    assert not thoughts.locator("div").is_visible()
    thoughts.locator("summary").click()
    assert "Shall I say" in thoughts.inner_text()
    assert playground.text() == "Good day."
