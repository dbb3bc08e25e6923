"""``tessera compare report``: what it writes says what the runs were, and trains nothing."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from tessera.commands.compare.report import write_report
from tessera.commands.compare.report_hparams import FILE, METRICS
from tessera.commands.compare.report_pictures import charts_of
from tessera.commands.compare.report_runs import read_comparison
from tessera.commands.compare.report_summary import groups_of
from tests.commands.compare.comparisons import ROWS, TOKENS, Made, write_comparison, write_lines
from tests.runs import tessera

FAILED = Made("hyperbolic_ssm", fails="the loss is nan | at step 12")
PICTURES = ("compute", "state", "seconds", "lr", "captures")


def cells_of(report: str, title: str) -> dict[str, list[str]]:
    """The rows of a table of the report, by their first cell."""
    _, _, rest = report.partition(f"**{title}**\n\n")
    found = {}
    for line in rest.partition("\n\n")[0].splitlines():
        first, *cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        found[first] = cells
    return found


def test_tables_say_what_the_runs_were(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    lines = write_comparison(folder, (*ROWS, FAILED))
    shown = write_report(folder)
    report = (folder / "report.md").read_text()
    learned = cells_of(report, "Excess on the games of training (9×9, rules)")
    assert list(learned) == ["row", "---", *(row.name for row in ROWS), FAILED.name]
    heading = learned["row"]
    seeds = [
        line["excess_nats"]
        for line in lines
        if (line["row"], line["phase"], line["tested_on"]) == ("attention", "report", "same")
    ]
    mean = sum(seeds) / 3
    spread = math.sqrt(sum((x - mean) ** 2 for x in seeds) / 2)
    at = heading.index("excess_nats ± spread")
    assert learned["attention"][at] == f"{mean:.4f} ± {spread:.4f}"
    difference = heading.index("difference from mamba")
    assert learned["mamba"][difference] == "baseline"
    value, low, high = map(float, re.findall(r"[+-][\d.]+", learned["attention"][difference]))
    truth = ROWS[1].excess(TOKENS) - ROWS[0].excess(TOKENS)
    assert low < truth < high < 0 and low < value < high
    assert learned[FAILED.name][1] == "failed: the loss is nan \\| at step 12"
    assert cells_of(report, "Runs that are not done")[FAILED.name][3:] == [
        *("failed", "the loss is nan \\| at step 12"),
    ]
    learning = cells_of(report, "Learning rates and speed-up at equal excess")
    assert learning["gated_delta"][0] == "0.003 (edge)" and learning["mamba"][0] == "0.001"
    lost = ROWS[0].excess(TOKENS) / 2
    assert learning["mamba"][1:3] == [f"+{lost:.4f}"] * 2
    # 0.6 of the excess at the same tokens, which fall by the root.
    factor = float(learning["attention"][3].split()[0])
    assert factor == pytest.approx(0.6**-2, rel=0.1)
    assert learning["bk_core"][3:] == ["not reached"] * 2
    costs = cells_of(report, "What it takes")
    assert "peak MiB" not in costs["row"]  # nobody measured it
    assert costs["attention"][2] == "200,000"
    captured = cells_of(report, "Excess by captured stones, in nats")
    assert captured["captured"] == ["0", "1-4", "5+"] and captured["positions"] == ["500"] * 3
    assert captured["attention"][0] == f"{mean:.4f}"
    elsewhere = cells_of(report, "Excess on other games, those of uniform (trained on 9×9, rules)")
    assert elsewhere["attention"][at] == f"{1.5 * mean:.4f} ± {1.5 * spread:.4f}"
    for words in ("attention", "not reached", "failed: the loss is nan | at step 12", "2.3"):
        assert words in shown


def test_pictures_have_a_mark_for_every_row_and_are_there_in_both_forms(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    write_comparison(folder, (*ROWS, FAILED), others=())
    write_report(folder)
    report = (folder / "report.md").read_text()
    for name in PICTURES:
        file = folder / f"excess_over_{name}"
        assert f"({file.name}.svg)" in report
        with Image.open(f"{file}.png") as picture:
            assert picture.size == (600, 400)
        groups = ElementTree.parse(f"{file}.svg").iter("{http://www.w3.org/2000/svg}g")
        rows = {group.get("data-vertex") for group in groups}
        # The failed row has runs of the grid.
        assert rows == {row.name for row in ROWS} | ({FAILED.name} if name == "lr" else set())


def test_the_front_is_of_final_excess_and_curves_lead_there(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    write_comparison(folder, others=())
    (group,) = groups_of(read_comparison(folder))
    charts = dict(charts_of(group))
    costs = {row.name: 3 * row.cost * TOKENS for row in ROWS}
    compute = charts["excess_over_compute"]
    assert [x for x, _ in compute.front] == sorted(costs.values())  # each better than the last
    for series in compute.series:
        assert series.marks[-1].x == costs[series.name]
        assert [mark.x for mark in series.marks[:2]] == [
            costs[series.name] * s / 10 for s in (1, 2)
        ]
        assert series.marks[-1].spread is not None
    best = {x.name: [m.x for m in x.marks if m.is_ringed] for x in charts["excess_over_lr"].series}
    assert best == {row.name: [3e-3 if row.best == 2 else 1e-3] for row in ROWS}


def test_the_hparams_page_has_every_finished_run(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    lines = write_comparison(folder, (ROWS[0], FAILED), seeds=(0, 4))
    write_report(folder)
    files = sorted((folder / "runs").glob(f"*/{FILE}"))
    same = [line for line in lines if line["tested_on"] == "same"]
    done = {line["run_id"]: line for line in same if line["status"] == "done"}
    assert [file.parent.name for file in files] == sorted(done)
    for file in files:
        run = done[file.parent.name]
        events = EventAccumulator(str(file)).Reload()
        for name in METRICS:
            (scalar,) = events.Scalars(f"compare/{name}")
            assert scalar.value == pytest.approx(run[name])
        looks = [] if run["phase"] == "grid" else list(range(1, 11))
        if looks:  # nothing is said of curves that are not there
            assert [event.step for event in events.Scalars("val/excess_nats")] == looks
        contents = events.PluginTagToContent(metadata.PLUGIN_NAME)
        start = metadata.parse_session_start_info_plugin_data(
            contents[metadata.SESSION_START_INFO_TAG]
        ).hparams
        assert start["row"].string_value == run["row"] and start["lr"].number_value == run["lr"]
        assert start["seed"].number_value == run["seed"]
        experiment = metadata.parse_experiment_plugin_data(contents[metadata.EXPERIMENT_TAG])
        assert [each.name.tag for each in experiment.metric_infos] == [
            f"compare/{name}" for name in METRICS
        ]
        (row,) = (each for each in experiment.hparam_infos if each.name == "row")
        assert list(row.domain_discrete) == ["mamba", FAILED.name]
        assert metadata.SESSION_END_INFO_TAG in contents


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    write_comparison(folder)
    found = []
    for _ in range(2):
        write_report(folder)
        found.append({path: path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert found[0] == found[1] and len(found[0]) > 30


def test_learning_rates_are_judged_by_validation_games_alone(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    write_comparison(folder, ROWS[:2])
    own, other = groups_of(read_comparison(folder))
    assert other.tested_on == "uniform" and set(own.grids) == {row.name for row in ROWS[:2]}
    # Theirs was chosen on the games of training, and says nothing of others.
    assert not other.grids and all(row.rates is None for row in other.rows)
    for rows in zip(own.rows, other.rows, strict=True):
        assert rows[0].lr == rows[1].lr and rows[0].rates is not None


def test_boards_and_players_are_never_pooled(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    lines = write_comparison(folder, ROWS[:2], others=())
    for line in lines:
        if line["row"] == "attention":
            line["board_size"] = 13
    write_lines(folder, lines)
    write_report(folder)
    report = (folder / "report.md").read_text()
    nine, thirteen = (
        cells_of(report, f"Excess on the games of training ({n}×{n}, rules)") for n in (9, 13)
    )
    assert list(nine)[2:] == ["mamba"] and list(thirteen)[2:] == ["attention"]
    assert "–" in thirteen["attention"]  # no baseline on these games
    assert (folder / "excess_over_state_same_13x13_rules.svg").is_file()


def test_one_seed_and_runs_to_come_are_said(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    lines = write_comparison(folder, ROWS[:2], seeds=(0, 1), others=())
    for line in lines:
        if line["row"] == "attention" and (line["phase"], line["seed"]) == ("report", 1):
            line |= {"status": "planned", "excess_nats": "", "lr": "", "run_id": ""}
    write_lines(folder, lines)
    shown = write_report(folder)
    assert "1 of 2" in shown and "†" in shown and "planned" in shown
    for line in lines:
        line |= {"status": "planned", "excess_nats": ""}
    write_lines(folder, lines)
    assert "Excess" not in write_report(folder)


def test_a_mean_is_of_what_every_run_has(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    lines = write_comparison(folder, ROWS[:2], others=())
    of_mamba = [line for line in lines if (line["row"], line["phase"]) == ("mamba", "report")]
    for number, line in enumerate(of_mamba):
        line |= {"legal_mass": 0.9 + number / 100, "legal_top1": "" if number == 1 else 0.5}
    write_lines(folder, lines)
    (group,) = groups_of(read_comparison(folder))
    figures = group.rows[0].figures
    # Of two runs of three it would be a mean of other seeds than the rest of the line.
    assert figures["legal_mass"] == pytest.approx(0.91) and "legal_top1" not in figures
    assert "legal_top1" in group.rows[1].figures


def test_seconds_that_were_not_measured_make_nobody_sooner(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    lines = write_comparison(folder, ROWS[:2], others=())
    for line in lines:
        line |= {"seconds": "", "tokens_per_s": ""}  # as where runs share a GPU
    write_lines(folder, lines)
    write_report(folder)
    learning = cells_of(
        (folder / "report.md").read_text(), "Learning rates and speed-up at equal excess"
    )
    assert learning["attention"][3].startswith("2.") and learning["attention"][4] == "–"
    assert not (folder / "excess_over_seconds.svg").exists()


def test_torch_is_not_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    write_comparison(folder, ROWS[:2])
    program = (
        "import sys\nfrom tessera.cli import main\n"
        f"code = main(['compare', 'report', {str(folder)!r}])\n"
        "sys.exit(code or 'torch' in sys.modules or 'lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "report.md: these tables." in done.stdout and done.stderr == ""


def broken(folder: Path, name: str) -> None:
    """Do to the folder what the case is named after."""
    result = next((folder / "runs").glob("*report*/result.json"))
    csv = folder / "runs.csv"
    if name == "no lines":
        csv.write_text(csv.read_text().splitlines()[0] + "\n")
    elif name == "no column":
        csv.write_text("run_id,row\n1,2\n")
    elif name == "no number":
        csv.write_text(csv.read_text().replace("0.0003,", "small,", 1))
    elif name == "more cells":
        csv.write_text(csv.read_text().replace("grid", "grid" + "," * 40, 1))
    elif name == "no text":
        csv.write_bytes(b"\xff\xfe\x00")
    elif name == "broken plan":
        (folder / "plan.json").write_text('{"rows": [')
    elif name == "other plan":
        (folder / "plan.json").write_text("[]")
    elif name == "half a result":
        result.write_text(result.read_text()[:-30])
    elif name == "another result":
        result.write_text(json.dumps({"per_game": {"tokens": [1, 2]}}))
    elif name == "uneven games":
        result.write_text(json.dumps({"per_game": {"tokens": [1, 2], "excess_sum": [0.5]}}))
    elif name == "words in a curve":
        result.write_text(json.dumps({"curve": [{"tokens": 1, "excess_nats": "low"}]}))
    elif name == "no end in a curve":
        result.write_text('{"curve": [{"step": 1e999, "tokens": 1, "excess_nats": 1}]}')
    elif name == "endless digits":
        result.write_text(f'{{"curve": [{{"tokens": {10**400}, "excess_nats": 1}}]}}')
    elif name == "more digits":
        result.write_text("9" * 5000)
    elif name == "no tokens":
        result.write_text(json.dumps({"per_game": {"tokens": [0, 0], "excess_sum": [1, 1]}}))
    elif name == "huge excess":
        result.write_text(
            '{"captures": [{"captured_from": 0, "captured_to": 0, "positions": 9, '
            '"excess_nats": 1e300}]}'
        )
    elif name == "long id":
        csv.write_text(csv.read_text().replace(result.parent.name, "n" * 300))
    elif name == "another folder":
        csv.write_text(csv.read_text().replace(result.parent.name, "../runs"))
    elif name == "negative":
        csv.write_text(csv.read_text().replace("0.0003,", "-1,", 1))
    elif name == "huge":
        csv.write_text(csv.read_text().replace("0.0003,", "1e300,", 1))
    elif name == "cut off":
        csv.write_text(csv.read_text().rstrip().rpartition(",")[0])
    elif name == "no result":
        result.unlink()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no lines", "runs.csv holds no run yet."),
        ("no column", "runs.csv must have the columns run_id, row, phase, seed"),
        ("no number", "runs.csv, line 2: lr must be a number, got small."),
        ("more cells", "runs.csv, line 2: more cells than columns."),
        ("no text", "runs.csv must be UTF-8 text."),
        ("broken plan", "plan.json is no JSON: "),
        ("other plan", "plan.json must hold an object, got list."),
        ("half a result", "result.json is no JSON: "),
        ("another result", "result.json is no result of a run: 'excess_sum' is missing."),
        ("uneven games", "result.json is no result of a run: per_game must have a finite"),
        ("words in a curve", "result.json is no result of a run: could not convert"),
        ("no end in a curve", "result.json is no result of a run: cannot convert float infinity"),
        ("endless digits", "result.json is no result of a run: int too large"),
        ("more digits", "result.json is no JSON of ours: a number is too long."),
        ("no tokens", "result.json is no result of a run: per_game must have the tokens"),
        ("huge excess", "result.json is no result of a run: a number must be -1e+30 to 1e+30"),
        ("long id", "run_id must be a folder of runs, got nnn"),
        ("another folder", "run_id must be a folder of runs, got ../runs."),
        ("negative", "runs.csv, line 2: lr must be 0 to 1e+30, got -1."),
        ("huge", "runs.csv, line 2: lr must be 0 to 1e+30, got 1e300."),
        ("cut off", ": fewer cells than columns."),
        ("no result", "is done, but there is no"),
    ],
)
def test_what_is_broken_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, says: str
) -> None:
    folder = tmp_path / "made"
    write_comparison(folder, ROWS[:1], seeds=(0,))
    broken(folder, name)
    assert tessera("compare", "report", folder) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == "" and line.startswith("tessera: ") and says in line
    assert not (folder / "report.md").exists()
