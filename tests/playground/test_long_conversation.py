"""10,000 tokens in one conversation: the page builds each block once, whatever the length."""

from __future__ import annotations

import pytest

from tests.playground.conftest import OpenPage
from tests.playground.long_conversation import hold_long_conversation
from tests.playground.scripts import LONG
from tests.serving import Server


@pytest.mark.slow
def test_a_long_conversation_is_shown_whole_and_built_once(scripted_server: Server, open_page: OpenPage) -> None:
    playground = open_page(scripted_server.url)
    playground.wait_until_ready()
    seen = hold_long_conversation(playground)
    assert seen.tokens > 10_000
    assert seen.first_blocks_kept == [True, True, True]
    paragraphs = playground.answers.last.locator(".markdown > p")
    assert paragraphs.count() == LONG.count("Item")
    assert "Item 129 of the list" in paragraphs.last.inner_text()
