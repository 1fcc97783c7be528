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
CUT_OFF = """() => {
  const isCut = element => {
    const {left, right, width} = element.getBoundingClientRect();
    return width > 0 && element.checkVisibility({visibilityProperty: true}) && (left < 0 || right > innerWidth);
  };
  const areas = [document.documentElement, ...document.querySelectorAll("#chat, #sidebar, .panel:not([hidden])")];
  return [
    ...[...document.querySelectorAll("button, input, select, textarea")].filter(isCut),
    ...areas.filter(area => area.scrollWidth > area.clientWidth),
  ].map(element => `cut off: ${element.outerHTML.slice(0, 200)}`);
}"""


def violations(playground: Playground, axe: str) -> list[str]:
    """Return what axe-core finds in the page as it is now, and what does not fit in."""
    playground.page.evaluate(axe)
    result = playground.page.evaluate("rules => axe.run({runOnly: rules, resultTypes: ['violations']})", RULES)
    found = [f"{each['id']}: {node['html'][:200]}" for each in result["violations"] for node in each["nodes"]]
    playground.page.wait_for_timeout(200)  # a drawer slides for 150 ms
    return found + list(playground.page.evaluate(CUT_OFF))


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
    name = f"playground-{'phone-' if is_phone else ''}{'dark' if dark else 'light'}.png"
    picture = Path(os.environ.get("PLAYGROUND_SCREENSHOTS", tmp_path)) / name
    page.screenshot(path=picture, animations="disabled", caret="hide")
    assert picture.stat().st_size < 200_000


@pytest.mark.parametrize("width", [1440, 390])
def test_wide_blocks_of_an_answer_scroll_within_themselves(
    scripted_server: Server, open_page: OpenPage, axe: str, width: int
) -> None:
    playground = open_page(scripted_server.url, width)
    playground.wait_until_ready()
    playground.send("Answer with wide blocks")
    assert not violations(playground, axe)
    for block in ("pre", ".table"):
        box = playground.answers.last.locator(f".markdown {block}")
        assert box.evaluate("element => element.scrollWidth > element.clientWidth"), block


def test_a_phone_has_room_for_its_keyboard_and_writes_lines(scripted_server: Server, open_page: OpenPage) -> None:
    playground = open_page(scripted_server.url, 390, 844, touch=True)
    playground.wait_until_ready()
    page = playground.page
    page.tap("#prompt")
    page.keyboard.type("Answer with wide blocks")
    page.keyboard.press("Enter")
    assert page.input_value("#prompt") == "Answer with wide blocks\n"
    page.tap("#send")
    page.wait_for_selector(".turn.assistant")
    playground.wait_for_end()

    page.set_viewport_size({"width": 390, "height": 400})  # the keyboard takes the rest
    page.evaluate("document.querySelector('#chat').scrollTop = 0")
    assert page.locator("#send").evaluate("button => button.getBoundingClientRect().bottom") <= 400
    page.get_by_role("button", name="Jump to the end").click()
    page.locator("#to-end").wait_for(state="hidden")
    end = playground.answers.last.locator(".markdown > p").last.bounding_box()
    assert end is not None
    assert end["y"] < 400


def test_a_touch_screen_shows_the_buttons_of_a_conversation(scripted_server: Server, open_page: OpenPage) -> None:
    playground = open_page(scripted_server.url, 390, 844, touch=True)
    playground.wait_until_ready()
    playground.page.fill("#prompt", "Answer with wide blocks")
    playground.page.tap("#send")
    playground.page.wait_for_selector(".turn.assistant")
    button = playground.page.locator("#conversation-list li .icon-button").first
    style = button.evaluate("element => [getComputedStyle(element).opacity, getComputedStyle(element).width]")
    assert style == ["1", "36px"]


def test_the_message_field_grows_in_a_browser_without_field_sizing(demo: Server, open_page: OpenPage) -> None:
    playground = open_page(demo.url)
    page = playground.page
    page.add_init_script("""
      CSS.supports = () => false;
      const sheet = new CSSStyleSheet();
      sheet.replaceSync("textarea { field-sizing: fixed !important }");
      document.adoptedStyleSheets = [sheet];
    """)
    playground.open()
    height = "document.querySelector('#prompt').clientHeight"
    single = page.evaluate(height)
    page.fill("#prompt", "a line\n" * 5)
    assert page.evaluate(height) > 3 * single
    page.fill("#prompt", "")
    assert page.evaluate(height) == single


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
