"""``tessera doctor`` says what is there, what is not, and what runs because of that."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest
import torch

from tessera.commands import doctor


def test_versions_are_those_that_are_installed_and_the_file_says_the_same(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "doctor.json"
    assert doctor.main(["--json", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    findings = {finding["what"]: finding for finding in json.loads(file.read_text())}
    assert len(lines) == len(findings)
    for name in ("torch", "lightning"):
        (line,) = [line for line in lines if line.split()[0] == name]
        assert importlib.metadata.version(name) in line
        assert findings[name]["found"] == importlib.metadata.version(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_why_the_plain_code_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert doctor.main([]) == 0
    lines = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "everything runs on the CPU" in lines["cuda"]
    assert "torch on cpu" in lines["engine"] and "need" in lines["engine"]
    for scan in ("selective scan", "mamba2 scan"):
        assert "torch on cpu" in lines[scan] and "CUDA" in lines[scan]


@pytest.mark.gpu
def test_on_a_gpu_it_names_the_card_and_the_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main([]) == 0
    printed = capsys.readouterr().out
    assert torch.cuda.get_device_name(0) in printed
    assert "triton on cuda:0" in printed


def test_what_is_missing_is_said_with_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = importlib.metadata.version

    def without(name: str) -> str:
        if name in ("torchmetrics", "mamba-ssm"):
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    assert doctor.main([]) == 1
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "not installed (pip install tessera)" in lines["torchmetrics"]
    assert "--no-build-isolation 'tessera[cuda]'" in lines["mamba-ssm"]


def test_a_wrong_argument_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--gpu"], ["--json", "/no/such/folder/x.json"]):
        with pytest.raises(SystemExit) as ended:
            doctor.main(arguments)
        assert ended.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
