"""What the pages point at is there: links, headings, files; and the front door stays short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages import CONTRIBUTING, PAGES, README, READMES, ROOT, name_of, prose


def anchors(page: Path) -> list[str]:
    """The names under which a page's headings can be linked to."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


def missing(page: Path, text: str) -> list[str]:
    """The targets of links that are not there, as seen from the page."""
    wrong = []
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        is_there = file.exists() and file.is_relative_to(ROOT)
        if not is_there or (anchor and anchor not in anchors(file)):
            wrong.append(target)
    return wrong


def table_rows(text: str) -> list[list[str]]:
    """The cells of the rows of tables that begin with a name."""
    rows = re.findall(r"^\|( `.*)\|$", text, re.M)
    return [[cell.strip() for cell in row.split("|")] for row in rows]


def test_a_link_to_nothing_is_found() -> None:
    assert not missing(README, "[a](README.md) ![b](.github/map.png) [c](#commands) [d](configs)")
    for target in ("NONE.md", "#none", "README.md#none", "../..", "tessera/go/README.md#commands"):
        assert missing(README, f"[text]({target})") == [target]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    assert not missing(page, prose(page))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_headings_have_names_of_their_own(page: Path) -> None:
    names = anchors(page)
    assert names and len(set(names)) == len(names)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_and_folders_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    whole = re.findall(r"(?<![\w./-])((?:tessera|tests|configs|\.github|\.ci)/[\w./-]*\w)", text)
    assert not [path for path in whole if not (ROOT / path).exists()]
    named = re.findall(r"`([\w./-]+(?:\.(?:py|yaml|yml|md|toml)|/))`", text)
    places = (ROOT, ROOT / "tessera", page.parent)
    assert not [path for path in named if not any((place / path).exists() for place in places)]


def test_the_models_page_has_the_figures_of_the_comparison_of_mixers() -> None:
    heading = "## All mixers beside each other"
    section = (ROOT / "tessera/model/README.md").read_text().partition(heading)[2]
    compared = (ROOT / "tessera/model/mixers/comparison.md").read_text()
    with_board, from_moves = (
        {row[0]: row[1:] for row in table_rows(part)}
        for part in compared.partition("## With the board")[2].split("## From moves alone")
    )
    rows = table_rows(section.partition("\n## ")[0])
    assert [row[0] for row in rows] == list(from_moves) and set(from_moves) == set(with_board)
    for mixer, board, moves, *others in rows:
        assert board == with_board[mixer][0]
        assert [moves, *others] == [from_moves[mixer][1], *from_moves[mixer][4:]]


def test_the_front_door_leads_to_every_room_that_has_a_page() -> None:
    text = README.read_text()
    rooms = [page for page in READMES[1:] if page.parent.parent == ROOT / "tessera"]
    assert all(f"]({name_of(page)})" in text for page in [*rooms, CONTRIBUTING])
    # A page inside a room is led to by the room's.
    inside = [page for page in READMES[1:] if page not in rooms]
    for page in inside:
        above = page.parent.parent / "README.md"
        assert f"]({page.relative_to(above.parent)})" in above.read_text()
    rooms = [path.name for path in (ROOT / "tessera").iterdir() if (path / "__init__.py").exists()]
    assert all(f"`{room}/`" in text for room in rooms)


def test_the_front_door_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 200
    assert len(CONTRIBUTING.read_text().splitlines()) <= 60
