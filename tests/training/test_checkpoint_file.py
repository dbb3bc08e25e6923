"""A checkpoint file is the one that was written, byte for byte, or it is refused in one line."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tessera.training.checkpoint_file import (
    CheckpointError,
    SaveError,
    half_written,
    read_checkpoint,
    write_checkpoint,
)
from tessera.training.module import TesseraModule
from tests.full_disk import files_of_at_most
from tests.runs import fit, tessera

# Written before checkpoints had a seal.
UNSEALED = Path(__file__).parent / "data" / "before_the_digest.ckpt"

CONTENT = {
    "hyper_parameters": {"d_model": 8},
    "state_dict": {"w": torch.arange(500.0), "b": torch.ones(3)},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    write_checkpoint(CONTENT, path)
    return path


def is_same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        assert isinstance(other, dict)
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        assert isinstance(other, list | tuple)
        return len(one) == len(other) and all(map(is_same, one, other))
    return one == other


def damaged(whole: bytes, place: int, change: int) -> bytes:
    return whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :]


def num_refused(file: Path, cases: int) -> int:
    """Of so many files, each with another byte of one place, those that are refused in one line."""
    whole, refused = file.read_bytes(), 0
    draw = random.Random(0)
    for _ in range(cases):
        file.write_bytes(damaged(whole, draw.randrange(len(whole)), draw.randrange(1, 256)))
        try:
            read_checkpoint(file)
        except CheckpointError as error:
            refused += "\n" not in str(error)
    file.write_bytes(whole)
    return refused


def test_any_wrong_byte_is_found(file: Path) -> None:
    assert num_refused(file, 500) == 500
    # Every byte of the seal, and of the end of the archive before it.
    whole = file.read_bytes()
    for place in range(len(whole) - 200, len(whole)):
        file.write_bytes(damaged(whole, place, 0x20))
        with pytest.raises(CheckpointError):
            read_checkpoint(file)
    file.write_bytes(whole)
    assert is_same(read_checkpoint(file), CONTENT)


@pytest.mark.slow
def test_20000_wrong_bytes_are_found(file: Path) -> None:
    """``pytest tests/training/test_checkpoint_file.py -m slow -s`` prints the figure."""
    cases = 20_000
    refused = num_refused(file, cases)
    print(f"\nof {cases} files with one wrong byte {refused} were refused")
    assert refused == cases


@pytest.mark.parametrize("is_sealed", [True, False], ids=["sealed", "unsealed"])
def test_one_wrong_bit_in_the_directory_of_the_archive_is_found(
    file: Path, is_sealed: bool
) -> None:
    whole = file.read_bytes() if is_sealed else UNSEALED.read_bytes()
    entry = whole.rindex(b"archive/data/0PK") - 46
    assert whole[entry : entry + 4] == b"PK\1\2"
    # The mark of a folder: torch then reads nothing, and takes the memory as it is.
    file.write_bytes(damaged(whole, entry + 38, 0x10))
    torch.load(file, weights_only=True)
    with pytest.raises(CheckpointError, match="is damaged"):
        read_checkpoint(file)


def test_damage_of_an_unsealed_file_is_refused_or_has_no_effect(tmp_path: Path) -> None:
    whole, content = UNSEALED.read_bytes(), read_checkpoint(UNSEALED)
    with zipfile.ZipFile(UNSEALED) as archive:
        directory = archive.start_dir
    draw, path, refused = random.Random(0), tmp_path / "old.ckpt", 0
    for number in range(300):
        # Two of three in the directory, which has no checksum.
        place = draw.randrange(directory if number % 3 else 0, len(whole))
        path.write_bytes(damaged(whole, place, 1 << draw.randrange(8)))
        try:
            assert is_same(read_checkpoint(path), content), place
        except CheckpointError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 150


def test_a_file_from_before_there_were_seals_is_measured_and_trained_on(
    folder: Path, capfd: pytest.CaptureFixture
) -> None:
    (folder / "old.ckpt").write_bytes(UNSEALED.read_bytes())
    assert tessera("validate", "--ckpt_path", "old.ckpt", "--data.val_batches", 1) == 0
    assert "\nloss " in capfd.readouterr().out
    model = ["--model.d_model", 4, "--model.d_state", 2]
    assert fit("--ckpt_path", "old.ckpt", *model, "--trainer.max_steps", 4) == 0
    assert read_checkpoint("checkpoints/small/version_0/last.ckpt")["global_step"] == 4


@pytest.mark.parametrize("value", [True, False])
def test_a_file_with_a_setting_that_there_is_no_more_is_trained_on(
    folder: Path, value: bool
) -> None:
    assert fit("--trainer.max_steps", 1) == 0
    last = "checkpoints/small/version_0/last.ckpt"
    earlier = read_checkpoint(last)
    earlier["hyper_parameters"]["compile"] = value
    write_checkpoint(earlier, last)
    assert TesseraModule.load_from_checkpoint(last).hparams.d_model == 8
    assert fit("--trainer.max_steps", 2, "--ckpt_path", "last") == 0
    resumed = read_checkpoint(last)
    assert resumed["global_step"] == 2 and "compile" not in resumed["hyper_parameters"]


def test_other_programs_read_a_sealed_file(file: Path) -> None:
    for options in ({}, {"mmap": True}):
        assert is_same(torch.load(file, weights_only=True, **options), CONTENT)
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
    assert b"SHA-256 of everything before this line: " in file.read_bytes().splitlines()[-1]


class Execute:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("executed",)


def other_files() -> Iterator[tuple[str, str]]:
    """Files that are no checkpoints, by name, and what is said of each."""
    Path("folder").mkdir()
    yield "folder", "it is a folder"
    yield "/dev/null", "it is no regular file"
    os.mkfifo("pipe")
    yield "pipe", "it is no regular file"
    yield "none", "there is no such file"
    yield "small.yaml/none", "there is no such file"
    os.symlink("loop", "loop")
    yield "loop", "cannot be read (Too many levels of symbolic links)"
    Path("empty").touch()
    yield "empty", "torn or no checkpoint"
    Path("random").write_bytes(random.Random(0).randbytes(5000))
    yield "random", "torn or no checkpoint"
    with open("huge", "wb") as file:
        file.truncate(10**12)  # takes no room
    yield "huge", "torn or no checkpoint"
    torch.save(CONTENT, "legacy", _use_new_zipfile_serialization=False)
    yield "legacy", "torn or no checkpoint"
    with zipfile.ZipFile("archive", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("text", "of something else " * 100)
    yield "archive", "damaged or no checkpoint of Tessera"
    with zipfile.ZipFile("stored", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Execute()))
    yield "stored", "no checkpoint of Tessera"
    torch.save({**CONTENT, "run": Execute()}, "execute")
    yield "execute", "no checkpoint of Tessera"
    write_checkpoint({**CONTENT, "run": Execute()}, "sealed")
    yield "sealed", "no checkpoint of Tessera"
    torch.save([CONTENT], "list")
    yield "list", "no checkpoint of Tessera"


def test_other_files_are_refused_in_one_line_before_anything_is_made(
    folder: Path, capfd: pytest.CaptureFixture
) -> None:
    for number, (name, reason) in enumerate(other_files()):
        before = sorted(folder.rglob("*"))
        # All commands read it the same way, each the next one.
        command = ("fit", "validate", "test", "predict")[number % 4]
        assert tessera(command, "--ckpt_path", name) == 2, name
        out, err = capfd.readouterr()
        assert out == "" and err.count("\n") == 1, err
        assert err.startswith(f"tessera: {name} ") and reason in err
        assert sorted(folder.rglob("*")) == before


def test_what_does_not_fit_on_the_disk_leaves_the_old_file(file: Path) -> None:
    before = file.read_bytes()
    # In torch's first write, between two, in the archive's end, in the seal, in its last byte.
    for size in (0, 1, len(before) // 2, len(before) - 300, len(before) - 50, len(before) - 1):
        with files_of_at_most(size), pytest.raises(SaveError) as error:
            write_checkpoint({**CONTENT, "more": 1}, file)
        told = f"{file} cannot be written (File too large); the one before it is untouched"
        assert str(error.value) == told
        assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("open", "cannot be written"),
        ("fsync", "cannot be written"),
        ("replace", "cannot be written"),
        ("fsync of the folder", "was written, but may not outlive a power cut"),
    ],
)
def test_every_fault_of_the_disk_is_one_line(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str, what: str
) -> None:
    before = file.read_bytes()
    calls = []

    def fail(*arguments: object) -> None:
        calls.append(arguments)
        if name != "fsync of the folder" or len(calls) == 2:
            raise OSError(5, "Input/output error")

    if name == "open":
        monkeypatch.setattr("tessera.training.checkpoint_file._SealedFile", fail)
    else:
        monkeypatch.setattr(os, "fsync" if "fsync" in name else name, fail)
    with pytest.raises(SaveError, match=what) as error:
        write_checkpoint({**CONTENT, "more": 1}, file)
    assert str(file) in str(error.value) and "(Input/output error)" in str(error.value)
    assert list(file.parent.iterdir()) == [file] and not half_written(file.parent)
    assert (file.read_bytes() == before) == (name != "fsync of the folder")


def test_a_killed_process_s_files_are_known_by_their_names(tmp_path: Path) -> None:
    theirs = {".last.ckpt.12", ".step_0000003.safetensors.7"}
    for name in (*theirs, "last.ckpt", "last.ckpt.12", ".writer", ".last.ckpt", ".notes.txt.7"):
        (tmp_path / name).touch()
    assert {file.name for file in half_written(tmp_path)} == theirs


def test_one_write_that_failed_is_enough(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, failures = file.read_bytes(), [OSError(28, "No space left on device")]

    class Full(io.FileIO):
        def write(self, data: Any, /) -> int:
            # By the next write somebody has made room.
            if failures:
                raise failures.pop()
            return super().write(data)

    monkeypatch.setattr(io, "FileIO", Full)
    # So much that torch's writer goes on after it.
    content = {**CONTENT, "more": [torch.ones(5000), torch.ones(5000)]}
    with pytest.raises(SaveError, match="No space left on device"):
        write_checkpoint(content, file)
    assert not failures
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        (OSError(5, "Input/output error"), 2, "last.ckpt cannot be read (Input/output error)."),
        (RuntimeError("can't allocate memory"), 1, "out of memory while reading last.ckpt."),
        (MemoryError(), 1, "out of memory while reading last.ckpt."),
    ],
)
def test_a_fault_of_the_machine_while_reading_is_called_by_its_name(
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
    fault: Exception,
    code: int,
    message: str,
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise fault

    monkeypatch.chdir(file.parent)
    monkeypatch.setattr(torch, "load", fail)
    assert tessera("validate", "--ckpt_path", "last.ckpt") == code
    assert capfd.readouterr().err == f"tessera: {message}\n"


def test_a_run_that_cannot_save_ends_in_one_line_with_its_last_checkpoint(
    folder: Path, capfd: pytest.CaptureFixture
) -> None:
    path = Path("checkpoints/small/version_0/last.ckpt")
    quiet = ["--trainer.logger", "false", "--trainer.enable_progress_bar", "false"]
    with files_of_at_most(6000):
        assert fit(*quiet) == 1
    assert capfd.readouterr().err == (
        f"tessera: {path} cannot be written (File too large); there is none before it. "
        "Mend that, then start again.\n"
    )
    assert fit(*quiet, "--trainer.max_steps", 3, "--run_name", "more") == 0
    path = Path("checkpoints/more/version_0/last.ckpt")
    before = path.read_bytes()
    capfd.readouterr()
    with files_of_at_most(6000):
        assert fit(*quiet, "--run_name", "more", "--ckpt_path", "last") == 1
    assert capfd.readouterr().err == (
        f"tessera: {path} cannot be written (File too large); the one before it is untouched. "
        f"Mend that, then go on with --ckpt_path {path}.\n"
    )
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
