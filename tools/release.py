"""Checks a release and prints its notes. Needs only the standard library.

python tools/release.py check TAG    fail unless TAG, the package and CHANGELOG.md agree on the version
python tools/release.py notes        print the notes of the package's version, from CHANGELOG.md
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEADING = re.compile(r"^## (?P<version>\S+) (?:- (?P<date>\d{4}-\d{2}-\d{2})|\(unreleased\))$", re.MULTILINE)


class ReleaseError(Exception):
    """The tag, the package's version and the change log do not agree."""


def package_version(root: Path) -> str:
    """Return the version in server/__init__.py."""
    text = (root / "server" / "__init__.py").read_text()
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise ReleaseError('server/__init__.py: there is no line __version__ = "..."')
    return found[1]


def section(root: Path, version: str) -> tuple[str | None, str]:
    """Return a version's date and text in CHANGELOG.md.

    The date is None if the version is unreleased.
    """
    text = (root / "CHANGELOG.md").read_text()
    headings = list(HEADING.finditer(text))
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        if heading["version"] == version:
            return heading["date"], text[heading.end() : following.start() if following else None].strip()
    raise ReleaseError(f"CHANGELOG.md: there is no heading '## {version} - YYYY-MM-DD'")


def check(root: Path, tag: str) -> None:
    """Raise ReleaseError unless `tag` matches the package and CHANGELOG.md."""
    version = package_version(root)
    if tag != f"v{version}":
        raise ReleaseError(
            f"the tag is {tag}, but server/__init__.py has {version}: tag v{version}, or change the file"
        )
    date, text = section(root, version)
    if date is None:
        raise ReleaseError(f"CHANGELOG.md: {version} is unreleased: write '## {version} - YYYY-MM-DD'")
    if not text:
        raise ReleaseError(f"CHANGELOG.md: {version} has no text")


def main(arguments: list[str], root: Path = ROOT) -> int:
    try:
        match arguments:
            case ["check", tag]:
                check(root, tag)
                print(f"{tag} can be released.")
            case ["notes"]:
                print(section(root, package_version(root))[1])
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except ReleaseError as error:
        print(f"release.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
