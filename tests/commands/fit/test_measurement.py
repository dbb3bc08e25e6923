"""``tessera validate`` and ``test`` as they are typed: the table, the file, and what fails."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from tessera.commands.fit.measurement import Measurement
from tessera.training.calibration import CALIBRATION_METRICS
from tessera.training.checkpoint_file import read_checkpoint, write_checkpoint
from tessera.training.metrics import metric_names
from tests.full_disk import files_of_at_most
from tests.runs import SMALL, fit, tessera

LAST = "checkpoints/small/version_0/last.ckpt"
HEADS = ["metric", "all", "captures 0", "1–4", "5–19", "20+"]
HEADS += ["ply 0–31", "32–63", "64–127", "128–255", "256+"]
ROWS = ["loss", "floor_nats", "excess_nats", "top1", "top5", "legal_mass", "legal_top1"]
ROWS += CALIBRATION_METRICS


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with a model of 3×3 games of at most 12 moves, after 5 steps."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.yaml").write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert fit("--trainer.max_steps", 5) == 0
        yield folder


def test_nobody_is_warned_of_a_limit_of_time_that_a_measurement_has_not(folder: Path) -> None:
    assert fit("--trainer.max_steps", 1, "--trainer.max_time", "00:01:00:00") == 0
    assert "Timer" in read_checkpoint(LAST)["callbacks"]
    # A warning is an error here.
    for command in ("validate", "test"):
        assert measure(command) == 0
    Path("games.txt").write_text("A1")
    assert measure("predict", "--games", "games.txt") == 0
    assert fit("--trainer.max_steps", 2, "--ckpt_path", "last") == 0


def measure(command: str, *options: object) -> int:
    return tessera(command, "--ckpt_path", "last", "--run_name", "small", *options)


def cells(lines: list[str]) -> dict[tuple[str, str], str]:
    """The table's cells, by row and column; none of them is empty."""
    (start,) = (row for row, line in enumerate(lines) if line.startswith("metric "))
    end = lines.index("", start) if "" in lines[start:] else len(lines)
    assert lines[start].replace(" ", "") == "".join(HEADS).replace(" ", "")
    return {
        (name, head): cell
        for name, *others in map(str.split, lines[start + 1 : end])
        for head, cell in zip(HEADS[1:], others, strict=True)
    }


@pytest.mark.parametrize(("command", "games"), [("validate", "val"), ("test", "test")])
@pytest.mark.usefixtures("trained")
def test_the_table_and_the_file_are_what_is_logged(
    command: str, games: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", command]
    assert measure(command, "--json", f"{command}.json", *options) == 0
    lines = capsys.readouterr().out.splitlines()
    written = json.loads(Path(f"{command}.json").read_text())
    assert lines[0] == f"{LAST}, step 5"
    (file,) = Path(command).rglob("metrics.csv")
    (logged,) = csv.DictReader(file.read_text().splitlines())
    bins = written.pop(f"{games}/calibration")
    known = {f"{games}/{name}" for name in (*metric_names(), *CALIBRATION_METRICS)}
    assert known & set(logged) == known & set(written)
    assert {name: float(logged[name]) for name in known & set(logged)} == {
        name: value for name, value in written.items() if name in known
    }
    assert {name: written[name] for name in set(written) - known} == {"ckpt_path": LAST, "step": 5}

    shown = cells(lines)
    assert list(dict.fromkeys(name for name, _ in shown)) == ROWS
    for name in ROWS:
        if name in CALIBRATION_METRICS:
            assert 0 < written[f"{games}/{name}"] < 1
        groups = ["", *(f"_by_captures/{x}" for x in ("0", "1-4", "5-19", "20_or_more"))]
        groups += [f"_by_ply/{x}" for x in ("0-31", "32-63", "64-127", "128-255", "256_or_more")]
        for head, group in zip(HEADS[1:], groups, strict=True):
            value = written.get(f"{games}/{name}{group}")
            assert shown[name, head] == ("–" if value is None else f"{value:.4f}")
    heads = {"moves": "legal moves given", "tops": "likeliest moves given"}
    assert len(lines) == 3 + len(ROWS) + sum(2 + len(bins[name]) for name in heads)
    for name, head in heads.items():
        (start,) = (row for row, line in enumerate(lines) if line.startswith(head))
        for each, line in zip(bins[name], lines[start + 1 :], strict=False):
            assert f" {each['forecasts']:,} " in line
            assert f" {100 * each['played'] / each['forecasts']:.3f} " in line
    # Games of 12 moves have no 32nd one.
    assert shown["excess_nats", "32–63"] == "–" != shown["excess_nats", "ply 0–31"]


def test_what_was_measured_as_nothing_is_no_absent_value() -> None:
    lines = Measurement("x.ckpt", 3, "val", {"val/legal_top1": 0.0, "val/loss": float("nan")})
    shown = cells(lines.lines())
    assert shown["legal_top1", "all"] == "0.0000" and shown["loss", "all"] == "nan"
    assert shown["legal_mass", "all"] == "–" == shown["legal_top1", "captures 0"]


@pytest.mark.usefixtures("trained")
def test_a_dash_is_standard_output_in_place_of_the_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sorted(Path().iterdir())
    assert measure("test", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["test/loss"] > 0
    assert sorted(Path().iterdir()) == before


@pytest.mark.usefixtures("trained")
def test_without_verbose_only_the_file_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert measure("test", "--verbose", "false", "--json", "quiet.json") == 0
    assert capsys.readouterr().out == ""
    assert json.loads(Path("quiet.json").read_text())["step"] == 5


@pytest.mark.usefixtures("trained")
def test_a_file_that_cannot_be_written_is_said_before_anything_is_computed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, why in (
        ("none/x.json", "--json: there is no folder none."),
        (".", "--json: . cannot be written."),
        ("small.yaml/x", "--json: there is no folder small.yaml."),
        ("", "--json must name a file, got none."),
    ):
        assert measure("validate", "--json", name, "--data.val_batches", 0) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.splitlines() == [
            "tessera: data.val_batches must be at least 1, got 0.",
            f"tessera: {why}",
        ]


@pytest.mark.usefixtures("trained")
def test_the_picture_of_the_calibration_is_written_as_its_name_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert measure("validate", "--reliability", "found.png") == 0
    with Image.open("found.png") as picture:
        assert picture.format == "PNG" and picture.width == 600
    capsys.readouterr()
    options = ("--verbose", "false", "--json", "-", "--reliability", "found.SVG")
    assert measure("validate", *options) == 0
    found = json.loads(capsys.readouterr().out)
    texts = [text for text in ElementTree.parse("found.SVG").getroot().itertext() if text.strip()]
    error, noise = (100 * found[f"val/move_ece{which}"] for which in ("", "_noise"))
    said = f"move_ece {error:.2f} %; true probabilities would have {noise:.2f} % by chance"
    assert said in texts


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["x.jpg"], "--reliability must end in .png or .svg, got x.jpg."),
        (["none/x.png"], "--reliability: there is no folder none."),
        ([""], "--reliability must name a file, got none."),
        (
            ["./x.svg", "--json", "x.svg"],
            "--reliability must be another file than --json, got ./x.svg.",
        ),
    ],
)
def test_a_picture_that_cannot_be_written_is_said_before_anything_is_computed(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(Path().iterdir())
    assert measure("test", "--reliability", *options) == 2
    assert capsys.readouterr() == ("", f"tessera: {message}\n")
    assert sorted(Path().iterdir()) == before


@pytest.mark.usefixtures("trained")
def test_on_a_full_disk_the_table_is_printed_and_the_old_file_is_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("kept.json").write_text("old")
    before = sorted(Path().iterdir())
    with files_of_at_most(500):
        assert measure("test", "--json", "kept.json") == 1
    shown = capsys.readouterr()
    assert shown.err == "tessera: kept.json: File too large.\n"
    assert cells(shown.out.splitlines())["loss", "all"] != "–"
    assert Path("kept.json").read_text() == "old" and sorted(Path().iterdir()) == before


@pytest.mark.usefixtures("trained")
def test_a_checkpoint_that_does_not_say_its_step_is_measured_all_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = read_checkpoint(LAST)
    del content["global_step"]
    write_checkpoint(content, "weights.ckpt")
    assert tessera("test", "--ckpt_path", "weights.ckpt", "--json", "weights.json") == 0
    assert capsys.readouterr().out.startswith("weights.ckpt, step –\n")
    assert json.loads(Path("weights.json").read_text())["step"] is None


@pytest.mark.usefixtures("trained")
def test_the_file_that_a_link_leads_to_is_written(tmp_path: Path) -> None:
    file, link = tmp_path / "there.json", Path("link.json")
    link.symlink_to(file)
    assert measure("test", "--json", link) == 0
    assert link.is_symlink() and json.loads(file.read_text())["ckpt_path"] == LAST
