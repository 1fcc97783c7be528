"""Accessibility, the keyboard, phones and dark colours; also the screenshots that the documentation shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.playground.conftest import OpenPage
from tests.playground.page import Playground
from tests.serving import Server

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
DRAWER_CLOSE = "Close the settings"


def violations(playground: Playground, axe: str) -> list[str]:
    """Return what axe-core finds in the page as it is now."""
    playground.page.evaluate(axe)
    result = playground.page.evaluate("rules => axe.run({runOnly: rules, resultTypes: ['violations']})", RULES)
    return [f"{each['id']}: {node['html'][:200]}" for each in result["violations"] for node in each["nodes"]]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_every_state_is_accessible_and_fits(
    demo: Server, open_page: OpenPage, axe: str, tmp_path: Path, width: int, height: int, dark: bool
) -> None:
    playground = open_page(demo.url, width, height, dark)
    playground.wait_until_ready()
    page = playground.page
    is_phone = width < 760
    found = violations(playground, axe)
    if is_phone:
        page.get_by_role("button", name="Settings and inspector").click()
    page.get_by_label("Return the log-probability of each token").check()
    found += violations(playground, axe)
    for tab in ("Tools", "Schema", "Server"):
        playground.tab(tab)
        found += violations(playground, axe)
    if is_phone:
        page.get_by_role("button", name=DRAWER_CLOSE).click()
    page.get_by_role("button", name="Weather tool", exact=False).click()
    page.locator(".call[data-state=open]").wait_for()
    playground.wait_for_end()
    page.get_by_role("button", name="Run", exact=True).click()
    found += violations(playground, axe)
    page.get_by_role("button", name="Send results").click()
    page.locator(".turn.assistant .markdown:not(:empty)").wait_for()
    playground.wait_for_end()
    page.get_by_role("button", name="Tokens", exact=True).last.click()
    found += violations(playground, axe)
    page.get_by_role("button", name="Inspect", exact=True).last.click()
    page.locator("#panel-inspect summary", has_text="Prompt as tokens").click()
    page.wait_for_selector(".prompt-tokens .token")
    found += violations(playground, axe)
    if is_phone:
        page.get_by_role("button", name=DRAWER_CLOSE).click()
    assert not found, "\n".join(found)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    name = f"playground-{'phone-' if is_phone else ''}{'dark' if dark else 'light'}.png"
    picture = Path(os.environ.get("PLAYGROUND_SCREENSHOTS", tmp_path)) / name
    page.screenshot(path=picture, animations="disabled", caret="hide")
    assert picture.stat().st_size < 200_000


def test_the_page_is_used_by_keyboard_alone(demo: Server, open_page: OpenPage) -> None:
    playground = open_page(demo.url)
    playground.wait_until_ready()
    page = playground.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "prompt"
    page.keyboard.type("What are you?")
    page.keyboard.press("Enter")
    page.wait_for_selector(".turn.assistant .numbers:not(:empty)")
    playground.wait_for_end()
    page.focus("#tab-settings")
    for name in ("tools", "output", "inspect", "server", "settings"):
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.id") == f"tab-{name}"
        assert page.locator(f"#panel-{name}").is_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "panel-settings"


def test_the_choice_of_colours_is_kept(demo: Server, open_page: OpenPage) -> None:
    playground = open_page(demo.url)
    page = playground.page
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Switch to dark colours").click()
    dark = page.evaluate(background)
    assert dark != light
    playground.open()
    assert page.evaluate(background) == dark
