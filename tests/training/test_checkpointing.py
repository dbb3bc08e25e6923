"""Checkpoint files are whole or refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tessera.training import AtomicCheckpointIO, CheckpointError
from tessera.training.checkpoint_file import read_checkpoint
from tessera.training.run_folder import RunFolder, discard, find_checkpoint, new_run, run_of

CONTENT = {"hyper_parameters": {"d_model": 8}, "state_dict": {"w": torch.arange(5000.0)}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(CONTENT, path)
    return path


def test_a_checkpoint_is_read_as_it_was_written(file: Path) -> None:
    content = AtomicCheckpointIO().load_checkpoint(file)
    assert content["hyper_parameters"] == {"d_model": 8}
    assert torch.equal(content["state_dict"]["w"], CONTENT["state_dict"]["w"])
    assert [path.name for path in file.parent.iterdir()] == ["last.ckpt"]


def test_a_write_that_fails_half_way_leaves_the_old_file_and_nothing_else(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        AtomicCheckpointIO().save_checkpoint({**CONTENT, "bad": lambda: None}, file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["last.ckpt"]


def test_the_old_file_stays_whole_for_who_has_it_open(file: Path) -> None:
    before = file.read_bytes()
    with open(file, "rb") as reader:
        AtomicCheckpointIO().save_checkpoint({**CONTENT, "more": 1}, file)
        assert reader.read() == before
    assert read_checkpoint(file)["more"] == 1


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_torn_file_is_refused_in_one_line(file: Path, share: float) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match="torn or no checkpoint") as error:
        read_checkpoint(file)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_one_wrong_byte_among_the_weights_is_found(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[content.find(torch.arange(1000.0, 1008.0).numpy().tobytes())] ^= 1
    file.write_bytes(content)
    torch.load(file, weights_only=True)  # torch itself does not notice
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(file)


def test_other_files_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.ckpt"
    for content in ({"weights": 1}, {**CONTENT, "object": Path("x")}):
        torch.save(content, other)
        with pytest.raises(CheckpointError, match="no checkpoint of Tessera"):
            read_checkpoint(other)
    with pytest.raises(CheckpointError, match="there is no such file"):
        read_checkpoint(tmp_path / "none.ckpt")


def test_every_new_run_has_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [new_run("a"), new_run("a"), new_run("b")] == [
        RunFolder("a", 0),
        RunFolder("a", 1),
        RunFolder("b", 0),
    ]
    # Whose checkpoints were removed still has logs.
    RunFolder("a", 2).logs.mkdir(parents=True)
    assert new_run("a") == RunFolder("a", 3)
    shutil.rmtree("checkpoints/a/version_3")
    discard(new_run("c"))
    assert not Path("checkpoints/c").exists()
    assert Path("checkpoints/b/version_0").exists()


def test_last_is_the_newest_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"there is no checkpoints/a/version_\*/last.ckpt"):
        find_checkpoint("last", "a")
    for run in (new_run("a"), new_run("a"), new_run("b")):
        AtomicCheckpointIO().save_checkpoint(CONTENT, run.checkpoints / "last.ckpt")
    assert find_checkpoint("last", "a") == Path("checkpoints/a/version_1/last.ckpt")
    with pytest.raises(CheckpointError, match=r"; give run_name \(b, a\), or the file; "):
        find_checkpoint("last", "c")
    AtomicCheckpointIO().save_checkpoint(CONTENT, "checkpoints/a/version_0/last.ckpt")
    assert find_checkpoint("last", "a") == Path("checkpoints/a/version_0/last.ckpt")
    assert run_of(find_checkpoint("last", "a")) == RunFolder("a", 0)
    assert run_of(tmp_path / "last.ckpt") is None


def test_a_run_name_is_no_path() -> None:
    with pytest.raises(ValueError, match=r"run_name must be letters.*got '\.\./x'"):
        RunFolder("../x", 0)
