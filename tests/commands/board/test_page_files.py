"""SGF files in a real browser: saved, loaded, with variations and positions that are set up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.commands.board.browser import Tab
from tests.commands.board.conftest import NewSite


def test_a_game_is_saved_and_loaded_with_its_variations(tab: Tab, downloads: Path) -> None:
    tab.play("C3", "B2")
    tab.click("#back")
    tab.wait_for("C3")
    tab.play("A1", "E5")
    tab.click("#save")
    file = tab.wait(lambda: next(downloads.glob("tessera-*.sgf"), None))
    text = tab.wait(file.read_text)
    assert "(;W[bd])" in text and "(;W[ae];B[ea])" in text
    tab.click("#new")
    tab.wait_for("")
    tab.one("#file").send_keys(str(file))
    tab.wait_for("C3 B2")
    names = [button.get_attribute("aria-label") for button in tab.all("#moves button")]
    assert names[1:] == ["1, black C3", "2, white B2", "2, white A1", "3, black E5"]
    other = downloads / "other.sgf"
    other.write_text("(;SZ[9];B[aa])")
    tab.one("#file").send_keys(str(other))
    tab.wait(lambda: "the model’s" in tab.text("#message-text").replace("'", "’"))
    assert tab.line == ["C3", "B2"] and "422" in tab.complaints()[0]


def test_a_game_from_a_position_that_is_set_up_is_loaded_played_on_and_saved(
    tab: Tab, downloads: Path
) -> None:
    given = downloads / "given.sgf"
    given.write_text("(;SZ[5]AB[bb]AW[dd]PL[W](;W[cc])(;W[aa]))")
    tab.play("E5")
    tab.one("#file").send_keys(str(given))
    tab.wait_for("C3")
    assert tab.text("#title") == "Black to play after 1 move, set up before"
    assert tab.label("B4") == "B4, black" and tab.label("D2") == "D2, white"
    assert tab.label("C3") == "C3, white, last move" and tab.label("E5").startswith("E5, empty")
    tab.play("D3")
    names = [button.get_attribute("aria-label") for button in tab.all("#moves button")]
    assert names[1:] == ["1, white C3", "1, white A5", "2, black D3"]
    tab.click("#first")
    tab.wait_for("")
    assert tab.text("#title") == "White to play, set up"
    files = set(downloads.glob("tessera-*.sgf"))
    for file in files:
        file.unlink()
    tab.click("#save")
    saved = tab.wait(lambda: next(downloads.glob("tessera-*.sgf"), None))
    text = tab.wait(saved.read_text)
    assert "AB[bb]" in text and "AW[dd]" in text and "PL[W]" in text
    tab.click("#new")
    tab.wait(lambda: tab.text("#title") == "Black to play, empty board")
    tab.one("#file").send_keys(str(saved))
    tab.wait_for("C3 D3")
    tab.click("#put-back")  # the game before the new one, which had no move
    tab.wait(lambda: tab.text("#title") == "White to play, set up")
    given.write_text("(;SZ[5]HA[2]AB[bb][dd];W[cc])")
    tab.one("#file").send_keys(str(given))
    tab.wait_for("C3")
    assert tab.text("#title") == "Black to play after 1 move and 2 handicap stones"
    given.write_text("(;SZ[5];B[bb];AW[dd];W[cc])")
    tab.one("#file").send_keys(str(given))
    tab.wait(lambda: "set up in the middle of the game" in tab.text("#message-text"))
    assert tab.line == ["C3"] and "422" in tab.complaints()[0]


def test_a_model_of_moves_alone_refuses_a_position_that_is_set_up(
    driver: Any, new_site: NewSite, downloads: Path
) -> None:
    tab = Tab(driver, new_site("moves").address)
    given = downloads / "given.sgf"
    given.write_text("(;SZ[5]AB[bb]PL[W];W[cc])")
    tab.one("#file").send_keys(str(given))
    tab.wait(lambda: "does not see a board" in tab.text("#message-text"))
    assert tab.line == [] and "422" in tab.complaints()[0]
    given.write_text("(;SZ[5]HA[2]AB[bb][dd];W[cc])")
    tab.one("#file").send_keys(str(given))
    tab.wait_for("C3")
    assert tab.complaints() == []
