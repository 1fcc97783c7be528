"""Drives the page as a user does."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Playwright

TIMEOUT = 120_000  # milliseconds; generous, since CI machines are busy
SWITCHES = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def browser_program() -> str | None:
    """Return the path of Debian's Chromium, or of Chrome, which GitHub's runners have; None if there is neither."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def start_browser(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(executable_path=browser_program(), args=[*SWITCHES])


class Playground:
    """An open page, with the requests it sent and the problems it had."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.requests: list[str] = []
        self.problems: list[str] = []
        page.set_default_timeout(TIMEOUT)
        page.on("request", lambda request: self._request(request.url))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", self._note)

    def _request(self, url: str) -> None:
        if not url.startswith(("data:", "blob:")):
            self.requests.append(url)

    def _note(self, message: ConsoleMessage) -> None:
        # The browser itself reports responses with an error status and refused connections.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.problems.append(message.text)

    def open(self) -> None:
        self.page.goto(f"{self.url}/")
        self.page.wait_for_selector("body[data-ready]")

    def wait_until_ready(self) -> None:
        self.page.wait_for_selector("#status[data-state=ready]")
        self.page.locator("#status-text", has_text="·").wait_for(state="attached")

    def send(self, message: str) -> None:
        """Send a message, and wait until the answer has ended."""
        self.page.fill("#prompt", message)
        self.page.press("#prompt", "Enter")
        self.page.wait_for_selector(".turn.assistant")
        self.wait_for_end()

    def wait_for_end(self) -> None:
        self.page.wait_for_selector("#send:visible")

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def click(self, name: str, exact: bool = True) -> None:
        self.page.get_by_role("button", name=name, exact=exact).last.click()

    @property
    def answers(self) -> Locator:
        return self.page.locator(".turn.assistant")

    def text(self) -> str:
        """Return the text of the last answer."""
        return self.answers.last.locator(".markdown").inner_text()

    def last_request(self) -> dict[str, Any]:
        """Return the request of the inspected answer, as the panel shows it."""
        self.tab("Inspect")
        section = self.page.locator("#panel-inspect details", has_text="Request").last
        if section.get_attribute("open") is None:
            self.page.locator("#panel-inspect summary", has_text="Request").click()
        code = self.page.locator("#panel-inspect .code code").last
        code.wait_for()
        return dict(self.page.evaluate("text => JSON.parse(text)", code.text_content()))
