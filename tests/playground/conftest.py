"""Servers to open the page of, and a real browser to open it in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from server.settings import Settings
from tests.playground.page import Playground, browser_program, start_browser
from tests.playground.scripts import MODEL, SCRIPTS, THINKER_SCRIPTS
from tests.scripted import scripted, thinker
from tests.serving import Server, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

OpenPage = Callable[..., Playground]


@pytest.fixture(scope="session", autouse=True)
def _a_browser_is_installed() -> None:
    pytest.importorskip("playwright", reason="needs requirements/playground.txt")
    if browser_program() is None:
        pytest.skip("chromium is not installed")


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> None:
    for name in [name for name in os.environ if name.startswith("LFM_")]:
        del os.environ[name]


@pytest.fixture(scope="session")
def browser(_a_browser_is_installed: None) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        chromium = start_browser(running)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Open the page of a server in a profile of its own.

    Afterwards no page has thrown an error, violated its policy or sent a request to another host.
    """
    opened: list[Playground] = []

    def open_one(url: str, width: int = 1440, height: int = 900, dark: bool = False, touch: bool = False) -> Playground:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            accept_downloads=True,
            is_mobile=touch,
            has_touch=touch,
        )
        opened.append(Playground(context.new_page(), url))
        opened[-1].open()
        return opened[-1]

    yield open_one
    for each in opened:
        each.page.context.close()
        assert not each.problems
        assert {urlsplit(request).netloc for request in each.requests} == {urlsplit(each.url).netloc}


@pytest.fixture(scope="session")
def demo() -> Iterator[Server]:
    """The built-in model."""
    with serving(Settings(threads=1)) as server:
        yield server


@pytest.fixture(scope="session")
def scripted_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A scripted model."""
    folder = scripted(tmp_path_factory.mktemp("models") / MODEL, SCRIPTS, positions=16384)
    with serving(Settings(model=str(folder), threads=1)) as server:
        yield server


@pytest.fixture(scope="session")
def thinking_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model that thinks before each answer."""
    folder = thinker(tmp_path_factory.mktemp("models") / "thinker", THINKER_SCRIPTS)
    with serving(Settings(model=str(folder), threads=1)) as server:
        yield server


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    file = Path(os.environ.get("PLAYGROUND_JS", Path(__file__).parent)) / "node_modules" / "axe-core" / "axe.min.js"
    if not file.is_file():
        pytest.skip("axe-core is not installed: npm ci --prefix tests/playground")
    return file.read_text()
