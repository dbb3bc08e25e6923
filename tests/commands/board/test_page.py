"""The page in a real browser: played on by mouse, by keyboard and by finger, and read aloud."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tessera.play import drawing, shapes
from tests.commands.board.browser import Tab
from tests.commands.board.conftest import NewSite, Site
from tests.play.conftest import OWNERS


def percent(chance: float) -> str:
    return f"{100 * chance:.1f} %"


def test_a_click_plays_and_the_map_follows(tab: Tab, site: Site) -> None:
    for moves in ([], ["C3"], ["C3", "B2"]):
        if moves:
            tab.play(moves[-1])
        found = site.ask("map", moves=moves)
        chances = found["probabilities"]
        stones = {"C3": "black", "B2": "white"}
        for row in range(5):
            for column in range(5):
                vertex = f"{'ABCDE'[column]}{5 - row}"
                said = tab.label(vertex)
                if vertex in moves:
                    last = ", last move" if vertex == moves[-1] else ""
                    assert said == f"{vertex}, {stones[vertex]}{last}"
                else:
                    assert said == f"{vertex}, empty, {percent(chances[vertex])}"
        order = sorted(chances, key=lambda vertex: -chances[vertex])
        likeliest = [vertex for vertex in order if vertex != "pass"]
        rows = [button.text.split("\n") for button in tab.all("#likeliest li:not([hidden]) button")]
        assert [" ".join(row) for row in rows] == [
            f"{vertex} {percent(chances[vertex])}" for vertex in [*likeliest[:10], "pass"]
        ]
        assert len(tab.all("#picture .stone")) == len(moves)
        assert len(tab.all("#picture .ring")) == bool(moves)
        highest = chances[order[0]]
        drawn = [vertex for vertex in likeliest if chances[vertex] >= 0.05**2 * highest]
        assert len(tab.all("#picture circle[fill]")) == len(drawn)
        player = "BW"[len(moves) % 2]
        assert tab.text("#title").startswith(f"{'Black' if player == 'B' else 'White'} to play")
        win = found["win"] if player == "B" else 1 - found["win"]
        assert percent(max(win, 1 - win)) in tab.text("#model-says")
    assert tab.text("#spoken").startswith(f"White B2. Black to play. Likeliest: {order[0]} ")


def test_the_keyboard_alone_does_it(tab: Tab) -> None:
    for _ in range(30):
        tab.press("\ue004")  # Tab
        if tab.script("return document.activeElement.getAttribute('role')") == "gridcell":
            break
    focused = "return document.activeElement.dataset.vertex"
    assert tab.script(focused) == "C3"
    up, down, left, right, enter = "\ue013", "\ue015", "\ue012", "\ue014", "\ue007"
    tab.press(up, left, left, left)
    assert tab.script(focused) == "A4"  # the edge holds
    assert tab.text("#point").startswith("A4, empty, ")
    tab.press(enter)
    tab.wait_for("A4")
    assert tab.text("#point") == "A4, black, last move"
    tab.press(right, down, " ")
    tab.wait_for("A4 B3")
    tab.press("p")
    tab.wait_for("A4 B3 pass")
    assert tab.text("#spoken").startswith("Black passes. ")
    tab.press("b")
    tab.wait_for("A4 B3")
    tab.press("\ue00e")  # Page Up
    tab.wait_for("")
    tab.press("\ue00f")  # Page Down
    tab.wait_for("A4 B3 pass")
    tab.press("b", "\ue010", enter)  # End
    tab.wait_for("A4 B3 E3")
    tab.press("v")
    tab.wait_for("A4 B3 pass")
    tab.press("u")
    tab.wait_for("A4 B3")
    tab.press("r")
    tab.wait_for("A4 B3 pass")
    tab.press("b", "v", "f", "v")
    tab.wait_for("A4 B3 E3")
    tab.press("m")
    tab.wait(lambda: len(tab.line) == 4)
    tab.press("o")
    tab.wait(lambda: tab.text("#playouts-say"))
    assert tab.script(focused) == "E3"
    tab.press("n")
    tab.wait_for("")
    assert tab.script(focused) == "E3" and tab.label("E3").startswith("E3, empty, ")


def test_everything_has_a_name_for_a_screen_reader(tab: Tab, driver: Any) -> None:
    tab.play("C3")
    nodes = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    shown = [node for node in nodes if not node.get("ignored")]
    roles = [node["role"]["value"] for node in shown]
    assert (roles.count("grid"), roles.count("row"), roles.count("gridcell")) == (1, 5, 25)
    pressed = {"button", "gridcell", "slider", "radio", "combobox", "MenuListPopup", "grid"}
    for node in shown:
        if node["role"]["value"] in pressed - {"MenuListPopup"}:
            assert node["name"]["value"], node
    levels = [int(heading.tag_name[1]) for heading in tab.all("h1, h2, h3")]
    assert levels == [1, 2, 2, 2, 2, 2] and tab.one("html").get_attribute("lang") == "en"
    assert len(tab.all("#grid [tabindex='0']")) == 1
    assert tab.one("#spoken").get_attribute("aria-live") == "polite"
    assert tab.one("#picture").get_attribute("aria-hidden") == "true"


def test_an_illegal_point_is_marked_and_refused(tab: Tab, driver: Any) -> None:
    tab.play("A2", "C3", "B1")
    assert tab.label("A1") == "A1, illegal" and tab.label("E5").startswith("E5, empty, ")
    assert len(tab.all("#picture .illegal")) == 1
    for vertex, why in (("A1", "Move 4: A1 is suicide"), ("C3", "Move 4: C3 is occupied.")):
        tab.click(f"[data-vertex={vertex}]")
        tab.wait(lambda why=why: tab.text("#message-text").startswith(why))  # type: ignore[misc]
        assert tab.line == ["A2", "C3", "B1"]
        complaints = tab.complaints()
        assert len(complaints) == 1 and "422" in complaints[0]
    tab.play("D4")
    assert not tab.one("#message").is_displayed()


def test_another_line_keeps_the_one_before(tab: Tab) -> None:
    tab.play("C3", "B2", "D4")
    tab.click("#back")
    tab.wait_for("C3 B2")
    tab.click("#back")
    tab.wait_for("C3")
    tab.play("A1")
    assert tab.line == ["C3", "A1"]
    names = [button.get_attribute("aria-label") for button in tab.all("#moves button")]
    assert names == [None, "1, black C3", "2, white B2", "2, white A1", "3, black D4"]
    tab.click("#moves [aria-label='3, black D4']")
    tab.wait_for("C3 B2 D4")
    assert tab.label("D4") == "D4, black, last move"
    tab.click("#first")
    tab.wait_for("")
    tab.click("#last")
    tab.wait_for("C3 B2 D4")
    tab.click("#moves [aria-label='2, white B2']")
    tab.wait_for("C3 B2")
    tab.play("D4")  # known already
    assert len(tab.all("#moves button")) == 5
    tab.click("#undo")
    tab.wait_for("C3 B2")
    assert tab.text("#message-text") == "Move 3, D4 taken back."
    tab.click("#put-back")
    tab.wait_for("C3 B2 D4")
    tab.click("#new")
    tab.wait_for("")
    assert len(tab.all("#moves button")) == 1
    tab.play("E5")
    tab.click("#put-back")
    tab.wait_for("C3 B2 D4")
    assert len(tab.all("#moves button")) == 5
    tab.click("#put-back")  # the two games change places
    tab.wait_for("E5")


def test_the_model_plays_the_colours_it_is_given(tab: Tab, site: Site) -> None:
    tab.script("document.getElementById('temperature').value = 0")
    tab.click("#sides [value=white]")
    tab.play("C3")
    tab.wait(lambda: len(tab.line) == 2)
    assert tab.line == ["C3", site.ask("move", moves=["C3"])["move"]]
    tab.click("#back")
    tab.wait_for("C3")  # it answers moves, not looking back
    tab.click("#forward")
    tab.wait(lambda: len(tab.line) == 2)
    tab.click("#sides [value=black]")  # at once, where it is its turn
    tab.wait(lambda: len(tab.line) == 3)
    tab.click("#sides [value=both]")
    tab.wait(lambda: len(tab.line) >= 5)
    tab.click("#sides [value=neither]")
    line = tab.line
    assert site.ask("move", moves=line[:4])["move"] == line[4]


def test_a_game_ends_with_two_passes_and_can_go_on(tab: Tab) -> None:
    tab.play("C3")
    for _ in range(2):
        before = len(tab.line)
        tab.click("#pass")
        tab.wait(lambda before=before: len(tab.line) > before)  # type: ignore[misc]
    assert tab.text("#title") == "The game is over: B+17.5 with dead stones taken off"
    assert tab.text("#model-says") == "Nobody is asked: the game is over."
    assert not tab.one("#by-model .share").is_displayed()
    tab.click("#play-out")
    said = tab.wait(lambda: tab.text("#playouts-say"))
    assert said == "Without dead stones Black wins 100.0 %, score B+17.5"
    assert tab.label("A1").endswith(", black’s")
    tab.play("B2")
    assert tab.text("#title") == "Black to play after 4 moves"


def test_playouts_are_shown_with_their_interval_and_hold_nobody_up(tab: Tab, site: Site) -> None:
    tab.play("C3")
    owners = tab.one("[value=owners]")
    assert not owners.is_enabled() and not tab.one("#by-playouts").is_displayed()
    tab.script("document.querySelector('#num-games [value=\"100\"]').selected = true")
    tab.click("#play-out")
    found = tab.wait(lambda: tab.text("#playouts-say"))
    told = site.ask("playouts", moves=["C3"], num_games=100)  # white's
    ends = told["win_interval"]
    leader, share = ("White", told["win"]) if told["win"] > 0.5 else ("Black", 1 - told["win"])
    low, high = ends if leader == "White" else sorted(1 - end for end in ends)
    score = f"{'W' if told['score'] > 0 else 'B'}+{abs(told['score']):.1f}"
    interval = f"({100 * low:.1f} to {100 * high:.1f})"
    assert found == (
        f"100 playouts: {leader} wins {percent(share)} {interval}, "
        f"score {score} ± {told['score_error']:.1f}"
    )
    tab.click("[value=owners]")
    drawn = [abs(owner) >= 0.05 for row in told["ownership"] for owner in row]
    assert 0 < len(tab.all("#picture .mark")) <= sum(drawn)
    assert re.search(r"black’s in \d+\.\d % of the playouts", tab.label("C2"))
    tab.script("document.querySelector('#num-games [value=\"10000\"]').selected = true")
    tab.click("#play-out")
    assert tab.text("#play-out") == "Stop"
    tab.play("D4")  # meanwhile; nobody wants the playouts any more
    assert tab.text("#play-out") == "Play them out"
    assert not tab.one("#by-playouts").is_displayed()
    assert tab.one("[value=map]").is_selected()


def test_a_model_that_says_it_shows_whose_the_points_will_be_at_once(
    driver: Any, new_site: NewSite
) -> None:
    own = new_site(OWNERS)
    tab = Tab(driver, own.address)
    tab.play("C3")  # white is to move
    ownership = own.ask("map", moves=["C3"])["ownership"]
    assert not re.search("’s", tab.label("A1")) and not tab.all("#picture .mark")
    assert not tab.one("[value=played]").is_displayed()
    tab.click("[value=owners]")
    legend = "whose the point will be, says the model, larger where it is surer"
    assert tab.text("#legend") == legend
    said = {}
    for place, owner in enumerate(owner for row in ownership for owner in row):
        vertex = f"{'ABCDE'[place % 5]}{5 - place // 5}"
        words = f", {'black' if owner > 0 else 'white'}’s with {percent((1 + abs(owner)) / 2)}"
        is_said = abs(owner) >= 0.05
        assert (f"{words}, says the model" in tab.label(vertex)) is is_said
        said[vertex] = is_said and not (vertex == "C3" and owner > 0)  # not on its own stone
    assert len(tab.all("#picture .mark")) == sum(said.values()) > 10
    for colour, sign in (("black", 1), ("white", -1)):
        marks = [sign * owner >= 0.05 for row in ownership for owner in row]
        marks[12] &= colour != "black"
        assert len(tab.all(f"#picture .mark.{colour}")) == sum(marks)
    tab.script("document.querySelector('#num-games [value=\"100\"]').selected = true")
    tab.click("#play-out")
    tab.wait(lambda: tab.text("#playouts-say"))
    assert tab.text("#legend") == legend  # the playouts' are beside it
    tab.click("[value=played]")
    assert tab.text("#legend").startswith("whose the point is after the playouts")
    assert " of the playouts" in tab.label("C2")
    tab.play("D4")
    assert tab.one("[value=owners]").is_selected() and tab.text("#legend") == legend


def test_nothing_is_wider_than_the_screen(driver: Any, new_site: NewSite) -> None:
    tab = Tab(driver, new_site("board", 19).address)
    tab.play("C3", "Q16", "D4")
    tab.click("summary")
    tab.click("[data-vertex=C3]")
    tab.wait(lambda: tab.one("#message").is_displayed())
    for width in (320, 375, 600, 1200):
        tab.resize(width, 800)
        board = tab.wait(lambda: fitting_board(tab))
        room = tab.script("return document.documentElement.clientWidth")
        assert width - 20 <= room <= width
        assert tab.script("return document.documentElement.scrollWidth") == room
        fonts = [float(each.get_attribute("font-size")) for each in tab.all("#picture text")[:40]]
        assert min(fonts) >= 9  # pixels
        assert board["width"] >= min(room - 20, 500) and abs(board["width"] - board["height"]) < 1
    assert len(tab.complaints()) == 1  # of the stone on a stone


def fitting_board(tab: Tab) -> Any:
    """Where the board is, once it is drawn in its size."""
    board = tab.one("#board").rect
    drawn = float(tab.one("#picture").get_dom_attribute("viewBox").split()[2])
    return board if abs(board["width"] - drawn) < 1 else None


def test_a_finger_chooses_a_small_point_before_it_plays(driver: Any, new_site: NewSite) -> None:
    tab = Tab(driver, new_site("board", 19).address)
    tab.resize(375, 800, touch=True)
    try:
        tap(tab, "Q16")
        tab.wait(lambda: tab.one("#play-here").is_displayed())
        assert tab.text("#play-here") == "Play Q16" and tab.line == []
        tap(tab, "D4")
        tab.wait(lambda: tab.text("#play-here") == "Play D4")
        tap(tab, "D4")
        tab.wait_for("D4")
        tap(tab, "Q16")
        tab.wait(lambda: tab.text("#play-here") == "Play Q16")
        tab.click("#play-here")
        tab.wait_for("D4 Q16")
        assert not tab.one("#play-here").is_displayed()
        assert tab.complaints() == []
    finally:
        tab.resize(1200, 900)


def tap(tab: Tab, vertex: str) -> None:
    rect = tab.one(f"[data-vertex={vertex}]").rect
    scroll = tab.script("return window.scrollY")
    at = {"x": rect["x"] + rect["width"] / 2, "y": rect["y"] + rect["height"] / 2 - scroll}
    send = tab.driver.execute_cdp_cmd
    send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at]})
    send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_model_without_an_outcome_says_so(driver: Any, new_site: NewSite) -> None:
    tab = Tab(driver, new_site("moves").address)
    assert tab.text("#model-says") == "This model does not say who wins; playouts do."
    assert not tab.one("#by-model .share").is_displayed() and tab.complaints() == []


def test_it_is_said_that_the_program_has_ended(driver: Any, new_site: NewSite) -> None:
    own = new_site()
    tab = Tab(driver, own.address)
    own.close()
    tab.click("[data-vertex=C3]")
    tab.wait(lambda: "The program does not answer: has it ended?" in tab.text("#message-text"))
    assert tab.line == []


def test_the_page_has_the_colours_of_the_pictures(repository: Path) -> None:
    folder = repository / "tessera" / "commands" / "board" / "page"
    style, script = (folder / "board.css").read_text(), (folder / "drawing.js").read_text()
    light = dict(re.findall(r"--([\w-]+): rgb\((\d+ \d+ \d+)\);", style.split("@media")[0]))
    wanted = {
        "paper": shapes.PAPER,
        "ink": drawing.INK,
        "wood": drawing._WOOD,
        "settled": drawing._SETTLED,
        "black": drawing._STONES[1],
        "white": drawing._STONES[-1],
        "settled-black": drawing._SETTLED_STONES[1],
        "settled-white": drawing._SETTLED_STONES[-1],
        "likely": drawing._LIKELY,
    }
    assert {name: tuple(map(int, light[name].split())) for name in wanted} == wanted
    for name, value in (("UNLIKELY", drawing._UNLIKELY), ("LIKELY", drawing._LIKELY)):
        assert f"const {name} = {json.dumps(value)};" in script
    for name in ("LEAST_STRENGTH", "MOST_LABELS", "LEAST_LABEL"):
        assert f"const {name} = {getattr(drawing, f'_{name}')};" in script
