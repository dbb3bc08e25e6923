"""``tessera scaling fit``: what it prints, writes and refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from tests.commands.scaling.synthetic import FLOOR, SIZES, lines, runs, write, write_lines
from tests.pages import ROOT
from tests.runs import python_path, tessera

FEW = ("--replicates", "40")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_fits_are_printed_and_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder / "runs.csv", mamba=runs(seeds=2, noise=0.01), board=runs(4e4, 0.85))
    files = ("--json", "fits.json", "--picture", "fits.svg", "--picture", "fits.png")
    assert (
        tessera("scaling", "fit", "runs.csv", "--floor", "known", "free", "2.9", *FEW, *files) == 0
    )
    page = capsys.readouterr().out
    assert "## mamba: 9×9, uniform\n" in page and "## board: 9×9, uniform\n" in page
    assert f"the known floor: {FLOOR:.4f} nats" in page
    # Markdown: in each table every line has the same bars.
    tables = [block for block in page.split("\n\n") if block.startswith("|")]
    assert len(tables) == 6
    assert all(len({line.count("|") for line in table.splitlines()}) == 1 for table in tables)
    mamba, board = json.loads((folder / "fits.json").read_text())["rows"]
    assert mamba["player_loss"] == pytest.approx(FLOOR)
    assert [law["floor"] for law in board["laws"]] == ["known", "free", "2.9"]
    known, free, guess = board["laws"]
    assert known["beta"] == pytest.approx(0.85, 1e-3) and known["grade"] == "exact"
    assert "l_infinity" in free["intervals"] and "l_infinity" not in known["intervals"]
    assert guess["off"] == pytest.approx(2.9 - FLOOR) and "too low" in guess["grade"]
    assert "alpha" not in known
    assert {line["of"] for line in mamba["lines"]} == {"excess", "loss", "perplexity"}
    assert all(len(line["windows"]) == 4 for line in mamba["lines"])
    root = ElementTree.fromstring((folder / "fits.svg").read_text())
    words = [element.text or "" for element in root.iter() if element.tag.endswith("text")]
    assert {"mamba", "board", "a floor of 2.9 + B/D^beta", f"known floor {FLOOR:.4f}"} <= {*words}
    with Image.open(folder / "fits.png") as picture:
        assert picture.width == 600


def test_what_does_not_fall_with_tokens_has_no_b(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = [
        run._replace(loss=FLOOR + 0.05 * rung, excess_nats=0.05 * rung)
        for rung, run in enumerate(runs(), 1)
    ]
    write(folder / "runs.csv", mamba=some)
    assert tessera("scaling", "fit", "runs.csv", "--replicates", 0, "--floor", "free") == 0
    (law,) = (line for line in capsys.readouterr().out.splitlines() if "| free " in line)
    assert "| B = 0 |" in law


def test_a_png_has_only_letters_that_its_font_has(folder: Path) -> None:
    write(folder / "runs.csv", mamba=runs(a=20.0, sizes=SIZES))
    assert tessera("scaling", "fit", "runs.csv", "--replicates", 0, "--picture", "a.svg") == 0
    root = ElementTree.fromstring((folder / "a.svg").read_text())
    words = "".join(element.text or "" for element in root.iter() if element.tag.endswith("text"))
    assert words.isascii() and "N = 300k" in words and "A/N^alpha" in words


def test_sizes_are_fitted_together_from_three_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, laws in ((4, [4]), (2, [1, 1])):
        write(folder / "runs.csv", mamba=runs(a=20.0, sizes=SIZES[:number]))
        command = ("scaling", "fit", "runs.csv", "--floor", "known", "--json", "-")
        assert tessera(*command, "--replicates", "0") == 0
        (row,) = json.loads(capsys.readouterr().out)["rows"]
        assert [len(law["N"]) for law in row["laws"]] == laws
        assert all(("alpha" in law) == (number == 4) for law in row["laws"])
        assert all(law["intervals"] == {} for law in row["laws"])


def test_what_is_not_done_or_was_a_search_is_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = runs(), runs(b=5.0)
    some = lines("mamba", good) + lines("mamba", bad, phase="grid", loss="")
    some += lines("mamba", bad, status="failed", D="") + lines("mamba", bad, tested_on="rules")
    write_lines(folder / "runs.csv", some)
    command = ("scaling", "fit", "runs.csv", "--json", "-", "--replicates", "0")
    assert tessera(*command) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert len(row["runs"]) == len(good)
    assert row["laws"][0]["beta"] == pytest.approx(0.5, 1e-3)
    assert tessera(*command, "--tested_on", "rules") == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["laws"][0]["b"] == pytest.approx(5.0, 0.01)


GOOD = lines("mamba", runs())


def without(column: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name != column} for line in GOOD]


@pytest.mark.parametrize(
    ("some", "options", "message"),
    [
        (without("D"), [], "runs.csv lacks the columns D; needed are row, N, D, loss, excess_nats"),
        (without("player"), [], "runs.csv lacks the columns player;"),
        (
            GOOD[:3],
            [],
            "runs.csv: mamba must have at least 4 token budgets at 1,000,000 parameters",
        ),
        (
            GOOD + lines("other", runs(), board_size=19),
            [],
            "runs.csv holds runs on 9×9, uniform and on 19×19, uniform, whose losses are never",
        ),
        (
            [*GOOD, *lines("mamba", runs(), player="rules")],
            [],
            "runs.csv holds runs on 9×9, uniform and on 9×9, rules, whose losses are never pooled",
        ),
        (
            [*GOOD, *lines("mamba", runs(), features="board")],
            [],
            "runs.csv: mamba must read one features, got 'none' and 'board'.",
        ),
        (GOOD, ["--board_size", "19"], "--board_size must be one of 9, got 19."),
        (GOOD, ["--player", "me"], "--player must be one of uniform, got me."),
        (GOOD, ["--row", "you"], "--row must be one of mamba, got you."),
        (GOOD, ["--tested_on", "moon"], "--tested_on must be one of same, got moon."),
        ([*GOOD[1:], {**GOOD[0], "D": "many"}], [], "line 8: D must be more than 0"),
        ([*GOOD[1:], {**GOOD[0], "D": ""}], [], "got nothing."),
        ([*GOOD[1:], {**GOOD[0], "excess_nats": -0.1}], [], "excess_nats must be more than 0, or"),
        ([*GOOD[1:], {**GOOD[0], "loss": "nan"}], [], "loss must be more than 0"),
        # Figures of which no law can be computed.
        *(
            ([*GOOD[1:], {**GOOD[0], name: value}], [], f"line 8: {name} must be {must}")
            for name, value, must in (
                ("loss", 800, "1e-09 to 500, got 800."),
                ("loss", 1e308, "1e-09 to 500, got 1e+308."),
                ("excess_nats", 1e-320, "1e-09 to 500"),
                ("D", 1e308, "1 to 1e+18"),
                ("D", 0.4, "1 to 1e+18, got 0.4."),
                ("N", 1e-9, "1 to 1e+18"),
                ("excess_se", -1, "a number, 0 or more, got -1."),
            )
        ),
        (GOOD, ["--floor=-1e308"], "--floor must be -1000 to 1000 nats, got -1e308."),
        (GOOD, ["--json", "runs.csv"], "--json must be another file than RUNS.CSV, got runs.csv."),
        ([*GOOD[1:], {**GOOD[0], "excess_nats": 9}], [], "excess_nats must be less than the loss"),
        (
            [{**line, "status": "planned"} for line in GOOD],
            [],
            "runs.csv holds no run that is done.",
        ),
        (
            GOOD,
            ["--floor", "3.9"],
            "--floor must be below 3.0430, the least loss of mamba, got 3.9.",
        ),
        (GOOD, ["--floor", "low"], "--floor must be known, free or a number of nats, got low."),
        (GOOD, ["--replicates", "-1"], "--replicates must be 0 to 10,000, got -1."),
        (GOOD, ["--picture", "a.pdf"], "--picture must end in .png or .svg, got a.pdf."),
        (GOOD, ["--json", "none/a.json"], "--json: there is no folder none."),
    ],
)
def test_a_mistake_is_one_line(
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    some: list[dict[str, Any]],
    options: list[str],
    message: str,
) -> None:
    write_lines(folder / "runs.csv", some)
    assert tessera("scaling", "fit", "runs.csv", *options) == 2
    out, err = capfd.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert message in err
    assert [path.name for path in folder.iterdir()] == ["runs.csv"]


def test_a_file_that_is_cut_off_is_refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_lines(folder / "runs.csv", GOOD)
    whole = (folder / "runs.csv").read_text()
    (folder / "runs.csv").write_text(whole[: whole.rstrip().rindex(",")])
    assert tessera("scaling", "fit", "runs.csv") == 2
    assert capfd.readouterr().err.endswith("runs.csv, line 8: fewer cells than columns.\n")


def test_a_cell_may_hold_what_ends_lines_elsewhere(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "one\u2028row\x0c\x85"
    write_lines(folder / "runs.csv", lines(name, runs()))
    assert tessera("scaling", "fit", "runs.csv", "--json", "-", "--replicates", 0) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["row"] == name


def test_games_can_be_chosen_where_there_are_several(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = lines("mamba", runs(b=90.0), player="rules", board_size=19)
    write_lines(folder / "runs.csv", GOOD + other)
    for option, b in ((("--board_size", 9), 900.0), (("--player", "rules"), 90.0)):
        command = ("scaling", "fit", "runs.csv", "--json", "-", "--replicates", 0, *option)
        assert tessera(*command) == 0
        (row,) = json.loads(capsys.readouterr().out)["rows"]
        assert row["laws"][0]["b"] == pytest.approx(b, 0.01)


def test_fits_are_drawn_without_torch(folder: Path) -> None:
    write(folder / "runs.csv", mamba=runs())
    program = "import sys; from tessera.cli import main; assert main(sys.argv[1:]) == 0; "
    program += "assert not {'torch', 'lightning'} & {*sys.modules}"
    command = ["scaling", "fit", "runs.csv", "--replicates", "9", "--picture", "fits.svg"]
    environment = {**os.environ, "PYTHONPATH": python_path(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program, *command], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "fits.svg").exists()


@pytest.mark.parametrize("name", ["none.csv", ".", "", "n" * 300, "bytes.csv"])
def test_a_file_that_is_none_is_one_line(
    folder: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    (folder / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    assert tessera("scaling", "fit", name) == 2
    assert len(capfd.readouterr().err.splitlines()) == 1
