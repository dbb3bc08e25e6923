"""``tessera doctor`` says what is there, what is not, and what runs because of that."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path

import pytest
import torch

from tessera.commands import doctor
from tessera.commands.bench.engine_speed import Timing
from tessera.commands.bench.rivals import NotMeasuredError, mamba_ssm, time_open_spiel, time_pgx

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


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


def test_a_dash_for_a_file_is_standard_output_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert doctor.main(["--json", "-"]) == 0
    assert {finding["what"] for finding in json.loads(capsys.readouterr().out)} >= {"torch"}
    assert not list(tmp_path.iterdir())


def test_the_versions_of_python_that_were_tested_are_those_of_the_package(
    capsys: pytest.CaptureFixture[str], repository: Path
) -> None:
    classifiers = tomllib.loads((repository / "pyproject.toml").read_text())["project"][
        "classifiers"
    ]
    python = [line.rpartition(" ")[2] for line in classifiers if "Python" in line]
    assert doctor.main([]) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.endswith(f"(tested on {', '.join(python)})")


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


# What the module of each package does when it is imported, and what is said of it.
BROKEN = {
    ("pgx", "pgx"): ("import jax_that_is_missing", "No module named 'jax_that_is_missing'"),
    ("open_spiel", "pyspiel"): (
        "print('hello'); import ctypes; ctypes.CDLL('libnone.so')",
        "OSError: libnone.so: cannot open shared object file: No such file or directory",
    ),
    ("mamba_ssm", "mamba_ssm"): (
        "raise ImportError('x.so: undefined symbol:\\n_ZN3c105ErrorE')",
        "x.so: undefined symbol: _ZN3c105ErrorE",
    ),
    ("causal_conv1d", "causal_conv1d"): (
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "the import ends Python with SIGSEGV",
    ),
}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every optional package is installed, and none can be imported."""
    for (distribution, module), (program, _) in BROKEN.items():
        (tmp_path / f"{module}.py").write_text(program)
        metadata = tmp_path / f"{distribution}-2.0.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Name: {distribution}\nVersion: 2.0\n")
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("broken")
def test_a_package_that_cannot_be_imported_is_listed_with_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert doctor.main([]) == 0
    printed = capsys.readouterr()
    lines = {line.split()[0].replace("-", "_"): line for line in printed.out.splitlines()}
    for (distribution, _), (_, reason) in BROKEN.items():
        line = lines[distribution]
        assert f"2.0, which cannot be imported ({reason}; pip install" in line
    assert printed.err == ""


@pytest.mark.usefixtures("broken")
def test_bench_says_why_a_rival_cannot_be_imported() -> None:
    timing = Timing(torch.device("cpu"), 1e-9, runs=1)
    for time_rival, reason in (
        (time_pgx, r"cannot be imported: No module named 'jax_that_is_missing'; pip install"),
        (time_open_spiel, r"cannot be imported: OSError: libnone.so: cannot open shared object"),
    ):
        with pytest.raises(NotMeasuredError, match=reason):
            time_rival(9, timing)
    with pytest.raises(NotMeasuredError, match=r"cannot be imported: x.so: undefined symbol"):
        mamba_ssm(torch.device("cuda"), 16)


def test_a_needed_package_that_cannot_be_imported_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert doctor.main([]) == 1
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("tensorboard")]
    assert "which cannot be imported (import of torch.utils.tensorboard halted" in line


def test_a_wrong_argument_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--gpu"], ["--json", "/no/such/folder/x.json"], ["--json", ""]):
        with pytest.raises(SystemExit) as ended:
            doctor.main(arguments)
        assert ended.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
