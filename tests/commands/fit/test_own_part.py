"""Parts of a user's own through the real commands: used like ours, or refused in one line."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.pages import READMES, blocks
from tests.runs import fit, tessera

PACKAGE = (Path(__file__).parent / "own_parts.py").read_text()
MODULES = {
    "own_parts": PACKAGE,
    "own_failing": "raise RuntimeError('boom')\n",
    "own_torn": "def (\n",
    "own_asking": "import no_such_package\n",
    "own_wanting": "from own_parts import NoSuch\n",
    "own_leaving": "import sys\nsys.exit(3)\n",
    # Leaves a mark when it is imported.
    "own_marked": "open('imported', 'w').close()\nfrom own_parts import Fading as Marked\n",
}

FADING = ("--model.mixer", "own_parts.Fading")
WIDE = ("--model.own", "{own_parts.Fading: {rank: 6}}")
# Every part is the user's, and one mixer of two ours.
ALL = (
    *("--model.mixer", "[mamba, own_parts.Fading]", "--model.n_layers", 3),
    *("--model.feed_forward", "own_parts.Gated", "--model.embedding", "own_parts.LowRank"),
    *("--model.head", "own_parts.Narrow"),
)
ARGUMENTS = (
    "--model.own",
    "{own_parts.Fading: {rank: 5}, own_parts.Gated: {width: 3}, own_parts.LowRank: {rank: 2}}",
)
LAST = Path("checkpoints/small/version_0/last.ckpt")


@pytest.fixture(autouse=True)
def package(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A package in a folder of its own that is in the path of modules."""
    place = tmp_path_factory.mktemp("package")
    for name, text in MODULES.items():
        (place / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(place)
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


def state(name: str = "small") -> dict:
    return torch.load(f"checkpoints/{name}/version_0/last.ckpt", weights_only=True)


def refusal(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line in which a command is refused that leaves nothing behind."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    capfd.readouterr()
    assert tessera(*arguments) == 2
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before
    return captured.err.removeprefix("tessera: ").rstrip("\n")


def test_a_run_with_parts_of_the_users_own_is_resumed_bit_for_bit() -> None:
    share = ("--data.selfplay_share", 0.5)
    assert fit(*ALL, *ARGUMENTS, *share, "--run_name", "whole") == 0
    assert fit(*ALL, *ARGUMENTS, *share, "--trainer.max_steps", 9) == 0
    # The arguments are those of the checkpoint; the classes have to be named.
    assert fit(*ALL, *share, "--ckpt_path", "last") == 0
    whole, resumed = state("whole"), state()
    assert resumed["global_step"] == 20
    assert resumed["hyper_parameters"]["own"]["own_parts.Fading"] == {"rank": 5}
    weights = whole["state_dict"]
    assert weights["model.blocks.mixers.1.down.weight"].shape == (5, 8)
    assert weights["model.blocks.feed_forwards.2.up.weight"].shape == (3, 8)
    assert weights["model.embedding.table.weight"].shape == (12, 2)
    assert weights["model.head.down.weight"].shape == (4, 8)
    for name, weight in weights.items():
        assert torch.equal(weight, resumed["state_dict"][name]), name


def test_it_is_measured_and_predicts(capfd: pytest.CaptureFixture[str]) -> None:
    assert fit(*FADING, *WIDE, "--trainer.max_steps", 4) == 0
    capfd.readouterr()
    for command in ("validate", "test"):
        assert tessera(command, "--config", "small.yaml", "--ckpt_path", "last", *FADING) == 0
        assert "excess_nats" in capfd.readouterr().out
    # The settings of the run, which were written down beside its curves, name the class as well.
    written = "lightning_logs/small/version_0/config.yaml"
    assert tessera("test", "--config", written, "--ckpt_path", "last") == 0
    Path("games.txt").write_text("B2 A1\n")
    capfd.readouterr()
    assert tessera("predict", "--ckpt_path", LAST, *FADING, "--games", "games.txt") == 0
    plies = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert len(plies) == 3


def test_a_class_that_cannot_be_built_without_memory_is_trained_and_resumed() -> None:
    own = ("--model.mixer", "own_parts.ReadsItsWeights")
    assert fit(*own, "--run_name", "whole", "--trainer.max_steps", 5) == 0
    assert fit(*own, "--trainer.max_steps", 3) == 0
    assert fit(*own, "--trainer.max_steps", 5, "--ckpt_path", "last") == 0
    whole, resumed = state("whole")["state_dict"], state()["state_dict"]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_trying_a_part_draws_no_random_numbers() -> None:
    """The weights are those that the module itself gives with the same seed."""
    from tessera.training.module import TesseraModule

    assert fit(*FADING, "--trainer.max_steps", 1, "--model.lr", 1e-30) == 0
    torch.manual_seed(0)
    module = TesseraModule(vocab_size=12, d_model=8, mixer="own_parts.Fading", mamba={"d_state": 4})
    for name, weight in module.state_dict().items():
        torch.testing.assert_close(state()["state_dict"][name], weight)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("own_parts.Fadng", "own_parts has no Fadng. Did you mean own_parts.Fading?"),
        ("own_parts.Zzz", "own_parts has no Zzz."),
        ("own_part.Fading", "own_part.Fading cannot be imported: is own_part installed, or its"),
        ("own_asking.Any", "own_asking.Any cannot be imported: is no_such_package installed, or"),
        ("own_wanting.Any", "own_wanting raised ImportError: cannot import name 'NoSuch' from"),
        ("own_failing.Any", "own_failing raised RuntimeError: boom (own_failing.py, line 1)."),
        ("own_torn.Any", "own_torn raised SyntaxError: invalid syntax (own_torn.py, line 1)."),
        ("own_leaving.Any", "own_leaving raised SystemExit: 3 (own_leaving.py, line 2)."),
        ("own_parts.NoPart", "own_parts.NoPart must be a class derived from tessera.model.Mixer."),
        ("own_parts.a_function", "own_parts.a_function must be a class derived from"),
        ("own_parts.Gated", "own_parts.Gated must be a class derived from tessera.model.Mixer."),
        ("own_parts.Unfinished", "own_parts.Unfinished must define advance, init_state, mix."),
        ("own_parts.FailsAtOnce", "own_parts.FailsAtOnce raised KeyError: 'nothing' (own_parts.py"),
        ("own_parts.Forgetful", "raised AttributeError: cannot assign module before"),
        ("own_parts.FailsInMix", "own_parts.FailsInMix raised RuntimeError (own_parts.py, line"),
        ("own_parts.FailsInState", "raised AttributeError: 'FailsInState' object has no attribute"),
        ("own_parts.FailsInStep", "own_parts.FailsInStep raised AssertionError: no steps (own_par"),
        ("own_parts.Leaves", "own_parts.Leaves raised SystemExit: bye (own_parts.py, line"),
        ("own_parts.Huge", "own_parts.Huge must fit into the memory; this machine has "),
        ("own_parts.HugeInMix", "own_parts.HugeInMix must fit into the memory; this machine has "),
        ("own_parts.MixesAlone", "mix must return a tuple of two, got shape (2, 3, 8)."),
        ("own_parts.MixesNarrowly", "mix must return a tensor (2, 3, 8) here, got shape (2, 3, 7)"),
        ("own_parts.StatesNothing", "advance must return a NamedTuple as its state, got NoneType."),
    ],
)
def test_a_class_that_is_no_mixer_is_refused_in_one_line(
    name: str, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    told = refusal(capfd, "fit", "--config", "small.yaml", "--model.mixer", name)
    assert told.startswith("model.mixer: ") and line in told


def test_what_it_refuses_when_a_model_is_made_of_it_is_told_of_the_model(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert fit("--model.mixer", "own_parts.WantsTwoGames") == 2
    told = "tessera: model: one game is too few.\ntessera: model: Play more.\n"
    assert capfd.readouterr() == ("", told)


def test_the_line_names_the_place_in_the_users_code(capfd: pytest.CaptureFixture[str]) -> None:
    for name, comment in (("FailsAtOnce", "# here it fails"), ("Forgetful", "# before the base")):
        told = refusal(capfd, "fit", "--config", "small.yaml", "--model.mixer", f"own_parts.{name}")
        number = [comment in text for text in PACKAGE.splitlines()].index(True) + 1
        assert told.endswith(f"(own_parts.py, line {number}).")


@pytest.mark.parametrize("kind", ["mixer", "feed_forward", "embedding", "head"])
def test_each_kind_is_refused_by_its_name(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    told = refusal(capfd, "fit", "--config", "small.yaml", f"--model.{kind}", "own_parts.NoPart")
    base = {"mixer": "Mixer", "feed_forward": "FeedForward", "embedding": "Embedding"}
    wanted = f"tessera.model.{base.get(kind, 'Head')}"
    assert told == f"model.{kind}: own_parts.NoPart must be a class derived from {wanted}."


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            "{own_parts.Fading: {rnk: 8}}",
            "model.mixer: arguments of own_parts.Fading: got an",
        ),
        (
            "{own_parts.Fading: {d_model: 8}}",
            "model.mixer: arguments of own_parts.Fading: multi",
        ),
        ("{own_parts.Fading: {rank: 9}}", "own_parts.Fading: rank must be at most 8, got 9."),
        ("{own_parts.Fading: {rank: six}}", "model.mixer: own_parts.Fading raised TypeError: "),
        ("{own_parts.Fading: 8}", "model.own must be settings by name, got 8."),
        ("{own_parts.Fadin: {rank: 8}}", "model.own must hold arguments of a part that is chosen"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    arguments: str, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    own = (*FADING, "--model.own", arguments)
    assert line in refusal(capfd, "fit", "--config", "small.yaml", *own)


def test_other_arguments_cannot_go_on_from_a_checkpoint(capfd: pytest.CaptureFixture[str]) -> None:
    assert fit(*FADING, *WIDE, "--trainer.max_steps", 2) == 0
    for other in ("{own_parts.Fading: {rank: 5}}", "{}"):
        own = (*FADING, "--model.own", other, "--ckpt_path", "last")
        assert refusal(capfd, "fit", "--config", "small.yaml", *own) == (
            f"model.own must be {{own_parts.Fading: {{rank: 6}}}} to go on from {LAST}, "
            f"got {other}."
        )


def test_a_class_that_only_the_checkpoint_names_is_not_imported(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert fit("--model.mixer", "own_marked.Marked", "--trainer.max_steps", 2) == 0
    Path("imported").unlink()
    Path("games.txt").write_text("B2 A1\n")
    commands = [
        ["fit", "--config", "small.yaml"],
        ["fit", "--config", "small.yaml", *FADING],
        ["test", "--config", "small.yaml", "--model.mixer", "attention"],
        ["validate"],
        ["predict", "--games", "games.txt"],
    ]
    for command in commands:
        sys.modules.pop("own_marked")
        told = refusal(capfd, *command, "--ckpt_path", LAST)
        assert "its own_marked.Marked is used only if the command line or a file names it" in told
        assert "own_marked" not in sys.modules and not Path("imported").exists()
        sys.modules["own_marked"] = sys
    sys.modules.pop("own_marked")
    named = ("--model.mixer", "own_marked.Marked")
    assert tessera("test", "--config", "small.yaml", "--ckpt_path", LAST, *named) == 0
    assert Path("imported").exists()


def test_lightning_loads_a_class_only_if_the_caller_names_it() -> None:
    from tessera.training.module import TesseraModule

    mixer = "own_marked.Marked"
    assert fit("--model.mixer", mixer, "--trainer.max_steps", 2) == 0
    Path("imported").unlink()
    line = f"{mixer} is named by the checkpoint alone: pass it too, such as mixer={mixer}."
    for passed in ({}, {"lr": 0.1}):
        sys.modules.pop("own_marked", None)
        with LAST.open("rb") as file:
            for place in (LAST, file):
                with pytest.raises(ValueError) as error:
                    TesseraModule.load_from_checkpoint(place, **passed)
                assert str(error.value) == line
        assert "own_marked" not in sys.modules and not Path("imported").exists()
    with LAST.open("rb") as file:
        for place in (LAST, file):
            module = TesseraModule.load_from_checkpoint(place, mixer=mixer)
            assert type(module.model.blocks.mixer(0)).__name__ == "Fading"
    for name, weight in module.state_dict().items():
        assert torch.equal(weight, state()["state_dict"][name]), name


def test_what_it_raises_in_the_middle_of_a_run_is_its_own_traceback() -> None:
    """A fault of the user's code is to be found by the user, so nothing of it is hidden."""
    with pytest.raises(ZeroDivisionError, match="too long") as error:
        fit("--model.mixer", "own_parts.FailsOnLongGames")
    assert error.traceback[-1].path.name == "own_parts.py"
    assert not Path("checkpoints/small").exists()


def test_the_mixer_of_the_page_is_checked_and_trained(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (page,) = (page for page in READMES if page.parent.name == "model")
    (text,) = (text for language, text in blocks(page) if "class Mean(Mixer)" in text)
    body = text.partition("class MeanState")[2].partition("if __name__")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 25
    (folder / "my_package.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    try:
        from my_package import Mean

        from tessera.model.testing import check_mixer

        check_mixer(Mean)
        check_mixer(lambda d_model: Mean(d_model, width=5), 8, num_parameters=2 * 5 * 8)
        mixed = ("--model.mixer", "[mamba, my_package.Mean]", "--model.n_layers", 2)
        own = ("--model.own", "{my_package.Mean: {width: 32}}")
        assert fit(*mixed, *own, "--data.selfplay_share", 0.5, "--model.lr", 0.01) == 0
        losses = re.findall(r"validation at step \d+: loss (\S+)", capfd.readouterr().err)
        assert float(losses[-1]) < float(losses[0])
    finally:
        sys.modules.pop("my_package", None)
