"""Measures whether the playground stays responsive in a long conversation.

    python -m benchmarks.playground [--limit MILLISECONDS]

A scripted model answers in the browser while text is typed. Prints the browser's longest tasks above 50 ms. The exit
code is 1 if one exceeds the limit. Needs requirements/playground.txt, Debian's chromium and a quiet machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from server.settings import Settings
from tests.playground.long_conversation import hold_long_conversation
from tests.playground.page import Playground, start_browser
from tests.playground.scripts import MODEL, SCRIPTS
from tests.scripted import scripted
from tests.serving import serving


def main() -> int:
    """Hold the conversation, and return the exit code."""
    from playwright.sync_api import sync_playwright  # not part of the development environment

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=100, help="longest allowed task in ms (default: 100)")
    limit = parser.parse_args().limit
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        model = scripted(Path(folder) / MODEL, SCRIPTS, positions=16384)
        with serving(Settings(model=str(model), threads=1)) as server:
            browser = start_browser(playwright)
            playground = Playground(browser.new_page(viewport={"width": 1440, "height": 900}), server.url)
            playground.open()
            playground.wait_until_ready()
            seen = hold_long_conversation(playground)
            browser.close()
    longest = max(seen.long_tasks, default=0)
    shown = ", ".join(f"{task:.0f}" for task in sorted(seen.long_tasks, reverse=True)[:10])
    print(
        f"{seen.tokens:,} tokens; {len(seen.long_tasks)} tasks above 50 ms, longest {longest:.0f} ms: {shown or 'none'}"
    )
    return int(longest > limit)


if __name__ == "__main__":
    sys.exit(main())
