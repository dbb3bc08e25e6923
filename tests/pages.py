"""The pages that people read, and the blocks of commands and examples on them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
CONTRIBUTING = ROOT / ".github" / "CONTRIBUTING.md"
READMES = [README, *sorted((ROOT / "tessera").rglob("README.md"))]
# What a room's README leads to.
INNER_PAGES = sorted(set((ROOT / "tessera").rglob("*.md")) - set(READMES))
PAGES = [*READMES, *INNER_PAGES, CONTRIBUTING]


def name_of(page: Path) -> str:
    """The page's path in the repository, for a test's name."""
    return str(page.relative_to(ROOT))


def _fenced(page: Path) -> list[tuple[str, str, str]]:
    """Each fenced block: NAME if it follows a line ``<!-- ci:NAME -->``, its language, its text."""
    fence = r"(?:^<!-- ci:(\w+) -->\n)?^```(\w*)\n(.*?)^```$"
    return re.findall(fence, page.read_text(), re.M | re.S)


def marked_blocks(page: Path) -> dict[str, str]:
    """The commands of each block that .ci/run finds by its name."""
    return {name: text for name, _, text in _fenced(page) if name}


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each other block."""
    return [(language, text) for name, language, text in _fenced(page) if not name]


def lines(page: Path, language: str) -> list[str]:
    """The lines of all these blocks of one language."""
    texts = [text for name, text in blocks(page) if name == language]
    return [line for text in texts for line in text.strip().splitlines()]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
