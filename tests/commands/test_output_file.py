"""Files that options name: what they may not take the place of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tessera.commands.output_file import file_problems
from tests.runs import tessera


@pytest.mark.parametrize("name", ["last.ckpt", "model.safetensors", "link.json"])
def test_only_a_model_takes_a_models_place(name: str, tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "model.safetensors")
    file = str(tmp_path / name)
    assert file_problems(file, "--log") == [f"--log must be no model's file, got {file}."]
    assert file_problems(file, "--output", is_model=True) == []
    assert file_problems(str(tmp_path / "found.json")) == []


@pytest.mark.parametrize(
    "command", ["arena model rules --games 2", "map --moves C3 --ckpt_path model"]
)
def test_what_a_command_reads_is_not_written_over(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model").write_text("mine")
    assert tessera(*command.split(), "--json", "model") == 2
    err = capsys.readouterr().err
    assert "--json must be another file than" in err and err.count("\n") == 1
    assert Path("model").read_text() == "mine"
