"""Self-play learning: it trains, and goes on where it was with the same games."""

from __future__ import annotations

import copy
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from tessera.data import GameDataModule
from tessera.play.match_table import Fixture, PlayedGame
from tessera.training.checkpoint_content import read_checked
from tessera.training.checkpoint_file import CheckpointError, read_checkpoint
from tessera.training.objectives.expert_iteration import ExpertIteration
from tessera.training.objectives.expert_settings import ExpertIterationSettings
from tessera.training.objectives.version_pool import RULES
from tests.runs import fit
from tests.training.test_expert_losses import objective
from tests.training.test_resume import STOPPER, stop_at

SMALL = """
trainer: {max_steps: 12, val_check_interval: 6, log_every_n_steps: 1, accelerator: cpu}
data: {board_size: 3, komi: 0.5, max_moves: 20, batch_size: 16, context: 1, games_per_chunk: 16,
  windows_per_game: 1, val_batches: 1}
model:
  objective: expert_iteration
  expert_iteration: {slots: 6, simulations: 4, fast_simulations: 0, considered: 3, rows: 20,
    first_rows: 4, opening_plies: 2, temperature_plies: 2, playout_steps: 4, playouts: 2,
    full_share: 0.5, reuse: 2.0, ema_decay: 0.5}
  features: board
  board: {channels: 4, depth: 2, colour: true, pooled: 1}
  mixer: identity
  d_model: 8
  head: points
  outcome: win_and_score
  win_and_score: {ownership_weight: 1.5}
  warmup_steps: 3
  decay_steps: 12
checkpoint_every_n_steps: 5
picture_every_n_validations: 0
cpu_threads: 1
"""


@pytest.fixture(autouse=True)
def small(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "small.yaml").write_text(SMALL)
    (folder / "stopper.py").write_text(STOPPER)
    monkeypatch.syspath_prepend(folder)


def state(name: str = "small") -> dict[str, Any]:
    return torch.load(f"checkpoints/{name}/version_0/last.ckpt", weights_only=True)


def curves(name: str = "small") -> dict[str, dict[int, float]]:
    """What the log shows of the losses and games, by tag and step; not how long that took."""
    events = EventAccumulator(f"lightning_logs/{name}/version_0").Reload()
    shown = (tag for tag in events.Tags()["scalars"] if tag.startswith(("train/", "selfplay/")))
    return {
        tag: {event.step: event.value for event in events.Scalars(tag)}
        for tag in shown
        if not tag.endswith("_per_s")
    }


def tensors(part: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(part, Tensor):
        yield name, part
    elif isinstance(part, dict | list):
        items = part.items() if isinstance(part, dict) else enumerate(part)
        for key, value in items:
            yield from tensors(value, f"{name} {key}")


POOLED = ("--model.expert_iteration.match_pairs", 1, "--model.expert_iteration.pool_share", 0.5)
POOLED += ("--model.expert_iteration.match_simulations", 0, "--trainer.max_steps", 13)
POOLED += ("--trainer.log_every_n_steps", 2)  # so that some checkpoints are of steps in between


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run has kept that was not stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("whole"))
        Path("small.yaml").write_text(SMALL)
        assert fit(*POOLED) == 0
        return {**state(), "curves": curves()}


# The version that begins batch 6 is in the pool from then on; a checkpoint of step 6 is written
# before the validation that plays its matches. Behind an even step figures were just to be logged,
# behind an odd one they are kept for the next.
@pytest.mark.parametrize("stop", [2, 5, 6])
def test_a_run_that_is_stopped_and_resumed_plays_the_same_games(
    folder: Path, stop: int, whole: dict[str, Any]
) -> None:
    assert fit(*POOLED, *stop_at(stop, signal.SIGTERM)) == 143
    assert state()["objective"]["games"]["plies"] < whole["objective"]["games"]["plies"]
    assert fit(*POOLED, "--ckpt_path", "last") == 0
    resumed = state()
    # The same past versions, which games are against, and the same results between them.
    pools = [found["objective"]["pool"] for found in (whole, resumed)]
    assert pools[0]["numbers"] == pools[1]["numbers"] == [6, 12]
    assert pools[0]["results"] == pools[1]["results"] != []
    assert resumed["objective"]["games"]["plies"] == whole["objective"]["games"]["plies"]
    for part in ("state_dict", "objective"):
        expected = dict(tensors(whole[part]))
        found = dict(tensors(resumed[part]))
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(found[name].nan_to_num(7), tensor.nan_to_num(7)), name
    assert whole["objective"]["games"]["ring_wins"].isfinite().any()
    assert curves() == whole["curves"]


def test_a_run_that_goes_on_after_its_end_tells_of_no_game_twice(
    folder: Path, whole: dict[str, Any]
) -> None:
    # The checkpoint is of a step that is logged, and written before its figures are read.
    assert fit(*POOLED, "--trainer.max_steps", 8, "--checkpoint_every_n_steps", 4) == 0
    assert fit(*POOLED, "--ckpt_path", "last") == 0
    assert curves() == whole["curves"]


def test_a_checkpoint_gives_the_average_and_keeps_what_is_learned(folder: Path) -> None:
    assert fit("--trainer.max_steps", 5, "--export_every_n_steps", 5) == 0
    checkpoint = state()
    own = checkpoint["objective"]
    version = read_checkpoint("checkpoints/small/version_0/step_0000005.safetensors")
    for name, weight in own["player"].items():
        assert torch.equal(version["state_dict"][f"model.{name}"], weight), name
        assert torch.equal(checkpoint["state_dict"][f"model.{name}"], weight), name
    assert any((own["learner"][name] != weight).any() for name, weight in own["player"].items())
    assert fit("--run_name", "newest", "--model.expert_iteration.ema_decay", 0) == 0
    checkpoint = state("newest")
    for name, weight in checkpoint["objective"]["learner"].items():
        assert torch.equal(checkpoint["state_dict"][f"model.{name}"], weight), name


def test_damaged_memory_is_refused(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert fit("--trainer.max_steps", 5) == 0
    checkpoint, last = state(), "checkpoints/small/version_0/last.ckpt"
    own = checkpoint["objective"]
    games, ring = own["games"], own["games"]["ring_rows"]
    pool = {"numbers": [3], "weights": [own["player"]], "results": [[3, 0, 2, 1.0]]}

    def with_games(name: str, value: Any) -> dict[str, Any]:
        return {**games, name: value}

    for name, value, told in (
        ("games", with_games("plies", -1), "games plies cannot be used, got -1."),
        ("games", with_games("plies", "7"), "games plies cannot be used, got '7'."),
        ("games", with_games("plies", 2**63), "games plies cannot be used, got 92233720368547758"),
        ("games", with_games("written", 10**30), "games written cannot be used, got 1000000000"),
        ("games", with_games("written", 10**9), f"must be {games['written']}, got 1000000000."),
        ("games", with_games("more", ring), "games more cannot be used, got tensor("),
        ("games", with_games("ring_rows", ring[:5]), "have the shape (20, 6, 5, 3), got (5, 6, 5"),
        ("games", with_games("ring_rows", ring.long()), "the dtype torch.int16, got torch.int64."),
        ("games", with_games("game_0", 1), "objective games game_0 must be a tensor, got 1."),
        ("games", {"plies": 1, "written": 1}, "objective games lack numbers."),
        ("pool", {**pool, "numbers": [3, 3]}, "objective pool numbers must rise, got [3, 3]."),
        ("pool", {**pool, "numbers": [0]}, "numbers must be a whole number of at least 1, got 0."),
        ("pool", {**pool, "numbers": [10**30]}, "objective pool numbers must be less than 2^63, "),
        ("pool", {**pool, "results": [[3, 0, 10**400, 1.0]]}, "and black's points, got [3, 0, 10"),
        ("pool", {**pool, "weights": []}, "weights must be those of 1 versions, got 0."),
        ("pool", {**pool, "weights": [{}]}, "objective pool weights 3 lacks "),
        ("pool", {**pool, "results": [[3, 0, 2, 3.0]]}, "black's points, got [3, 0, 2, 3.0]."),
        ("pool", {**pool, "results": [[3, 6, 2, 1.0]]}, "the rule-based player, got 3 who has not"),
        ("pool", {**pool, "results": 1}, "objective pool results must be a list, got 1."),
        ("pool", [], "objective pool must hold numbers, results, weights."),
    ):
        checkpoint["objective"] = {**own, name: value}
        torch.save(checkpoint, last)
        with pytest.raises(CheckpointError) as caught:
            read_checked(last, is_fit=True)
        assert told in str(caught.value) and str(caught.value).count("\n") == 0
    capsys.readouterr()
    assert fit("--ckpt_path", "last") == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1
    # What an earlier version kept beside them is no fault, and nothing of it is needed.
    checkpoint["objective"] = {**own, "watch": {"elo": 1.0, "weights": own["player"]}}
    torch.save(checkpoint, last)
    assert fit("--ckpt_path", "last", "--trainer.max_steps", 6) == 0
    assert set(state()["objective"]) == {"player", "learner", "games"}


@pytest.mark.parametrize("never", ["limit_val_batches=0", "val_check_interval=00:00:01:00"])
def test_a_share_against_versions_that_never_come_is_refused(
    folder: Path, capsys: pytest.CaptureFixture, never: str
) -> None:
    before = sorted(folder.rglob("*"))
    share = ("--model.expert_iteration.pool_share", 0.5)
    assert fit(f"--trainer.{never}", *share) == 2
    must = "pool_share must be 0 unless past versions come with validations, trainer.val_check_inte"
    line = capsys.readouterr().err
    assert f"tessera: model.expert_iteration.{must}" in line and line.count("\n") == 1
    assert sorted(folder.rglob("*")) == before
    assert fit(f"--trainer.{never}", "--trainer.max_steps", 1) == 0


def test_kept_games_are_gone_on_with_on_their_own_board_and_in_their_own_slots(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    # Of which no weight depends on the board.
    options = ("--model.board.summary", "pooled", "--model.embedding", "kinds")
    assert fit(*options, "--trainer.max_steps", 1) == 0
    for key, value, had in (("data.board_size", 5, 3), ("model.expert_iteration.slots", 4, 6)):
        capsys.readouterr()
        more = (*options, "--trainer.max_steps", 2, "--ckpt_path", "last")
        assert fit(*more, f"--{key}", value) == 2
        err = capsys.readouterr().err
        assert f"{key} must be {had} to go on from" in err and err.count("\n") == 1, err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--model.mixer", "mamba"), "model.mixer must be identity, for a search"),
        (("--model.outcome", "none"), "model.outcome must be win_and_score, for a search"),
        (
            ("--model.expert_iteration.slots", 0),
            "model.expert_iteration.slots must be at least 1, got 0",
        ),
        (("--model.expert_iteration.full_share", 0), "full_share must be 0.001 to 1, got 0"),
        (
            (*("--model.expert_iteration.pool", 0), *("--model.expert_iteration.pool_share", 0.2)),
            "model.expert_iteration.pool must be at least 1 with a pool_share, got 0",
        ),
        (("--data.selfplay_share", 1), "data.selfplay_share must be 0 for objective"),
    ],
)
def test_what_cannot_be_learned_is_said_in_a_line(
    folder: Path, capsys: pytest.CaptureFixture, options: tuple[object, ...], told: str
) -> None:
    assert fit(*options) == 2
    found = capsys.readouterr().err
    assert told in found and found.count("\n") == 1
    assert not (folder / "checkpoints").exists()


class Counted:
    """Stands for games, and notes what is asked of them."""

    def __init__(self) -> None:
        self.plies, self.written, self.happened = 0, 0, list[str]()
        self.drawn: list[tuple[list[int], int, int]] = []
        self.ring = self

    def play_out(self) -> None:
        self.plies, self.written = self.plies + 1, self.written + 1
        self.happened.append("playouts")

    def end_playouts(self) -> None:
        self.happened.append("end")

    def play(self) -> None:
        self.plies, self.written = self.plies + 1, self.written + 1
        self.happened.append("search")

    def sample(self, words: Tensor, written: int, window: int) -> None:
        self.drawn.append((words.tolist(), written, window))


def test_playouts_end_once_and_each_batch_draws_anew_from_the_newest_part() -> None:
    own, model = objective(
        **{"playout_steps": 3, "first_rows": 4, "full_share": 1.0, "ema_decay": 0.75},
        **{"reuse": 1.0, "slots": 8, "rows": 9, "window_share": 0.5},
    )
    player = copy.deepcopy(model)
    own.games, own._players = games, [player] = Counted(), [player]  # type: ignore[assignment]
    stream = GameDataModule(board_size=3, batch_size=8, games_per_chunk=8, windows_per_game=1)
    asked = SimpleNamespace(settings=stream.settings, rank=0, device=torch.device("cpu"))
    for index in range(16):
        with torch.no_grad():
            for weight in model.parameters():
                weight.fill_(index)
        before = [weight.clone() for weight in player.parameters()]
        share = 0.75 if games.written else 0.0  # the average begins with the first rows
        own.positions(index, asked)  # type: ignore[arg-type]
        for weight, old in zip(player.parameters(), before, strict=True):
            torch.testing.assert_close(weight, share * old + (1 - share) * index)
    assert games.happened == ["playouts"] * 6 + ["end"] + ["search"] * 13
    words, written, windows = zip(*games.drawn, strict=True)
    assert list(written) == list(range(4, 20))
    assert windows[:6] == (4, 4, 4, 4, 4, 4) and windows[-1] == 9
    assert len({tuple(each) for each in words}) == 16


def test_of_several_processes_only_the_first_goes_on_with_the_games_that_were_kept() -> None:
    few = {"slots": 4, "rows": 8, "first_rows": 2, "full_share": 1.0, "simulations": 2}
    few |= {"fast_simulations": 0, "considered": 2}
    stream = GameDataModule(board_size=3, batch_size=4, games_per_chunk=4, windows_per_game=1)
    device = torch.device("cpu")

    def played(rank: int, state: dict[str, Any] | None = None) -> ExpertIteration:
        own, _ = objective(**few)
        own.restore(state or {})
        backend = stream.settings.backend
        asked = SimpleNamespace(settings=stream.settings, rank=rank, device=device, backend=backend)
        own.positions(0 if state is None else 1, asked)  # type: ignore[arg-type]
        return own

    state = copy.deepcopy(played(0).saved())
    numbers = []
    for rank in (0, 1, 2):
        games = played(rank, state).games
        assert games is not None
        numbers.append(set(games.numbers.tolist()))
    assert min(numbers[1]) > 2**30 and min(numbers[2]) > max(numbers[1])
    assert max(numbers[0]) < 2**30


def test_a_version_enters_the_pool_once_and_one_of_them_is_whom_games_are_against() -> None:
    few = {"slots": 4, "rows": 8, "first_rows": 2, "full_share": 1.0, "simulations": 2}
    few |= {"fast_simulations": 0, "considered": 2, "match_pairs": 1, "pool_share": 0.5}
    stream = GameDataModule(board_size=3, batch_size=4, games_per_chunk=4, windows_per_game=1)
    asked: Any = SimpleNamespace(settings=stream.settings, rank=0, device=torch.device("cpu"))
    asked.backend = stream.settings.backend
    compared = []

    def compare(games: object, player: object, number: int) -> None:
        compared.append(number)
        own.pool.record(number, RULES, [PlayedGame(Fixture(0, True, ()), (), 1.0, 1.0, "")])

    def found(objective: ExpertIteration) -> tuple[bool, float, float]:
        """Whether somebody is there, its weights, and those of the player, which are all alike."""
        assert objective.games is not None and objective.games.rival is not None
        models = (*objective._opponents, *objective._players)
        weights = (float(next(model.parameters()).flatten()[0]) for model in models)
        return bool(objective.games.rival.is_there), *weights

    own, model = objective(**few)
    own._pool_every, own._watches = 2, [SimpleNamespace(compare=compare)]  # type: ignore[list-item]
    for index in range(5):
        with torch.no_grad():
            next(model.parameters()).fill_(index)
        own.positions(index, asked)
        assert found(own)[0] == (index >= 2)
        if index == 1:
            own.after_validation(None)  # type: ignore[arg-type]
    # Of the run that stopped between the third batch and its validation the latter comes later.
    assert compared == [2, 4] and own.pool.numbers == [2, 4]
    assert found(own) == (True, own.pool.drawn(stream.settings.seed) - 1, 4)
    other, _ = objective(**few)
    other.restore(copy.deepcopy(own.saved()))
    other.positions(4, asked)
    assert found(other)[:2] == found(own)[:2]


def test_a_share_of_the_slots_is_at_least_one_of_them() -> None:
    shares = {0.0: 0, 0.01: 1, 0.3: 2, 0.5: 4}
    for share, slots in shares.items():
        assert ExpertIterationSettings(slots=8, pool_share=share).num_against == slots


def test_memory_is_set_aside_for_every_model_that_is_kept() -> None:
    asked: Any = SimpleNamespace(settings=SimpleNamespace(board_size=3))
    needs = []
    for more in ({"pool": 1}, {"pool": 3}, {"pool": 3, "pool_share": 0.5}):
        own, model = objective(**more)
        needs.append(own.bytes_to_come(model, asked))
    one = sum(weight.nbytes for weight in model.parameters())
    assert [need - needs[0] for need in needs] == [0, 2 * one, 3 * one]


def test_plies_are_played_at_a_rate_and_never_fewer() -> None:
    own, _ = objective(playout_steps=5, first_rows=4, full_share=0.25)
    due = [own.plies_due(step, 0.5) for step in range(12)]
    # Half a row for each of the first steps; later two plies, of which a quarter is kept.
    assert due[:5] == [4, 4, 5, 5, 6] and due[5:] == [8, 10, 12, 14, 16, 18, 20]
    own, _ = objective(first_rows=4, full_share=0.5)
    assert [own.plies_due(step, 1.0) for step in range(3)] == [10, 12, 14]


def test_a_policy_gradient_is_trained_and_gone_on_with(folder: Path) -> None:
    options = ("--model.objective", "policy_gradient", "--model.policy_gradient.slots", 6)
    options += ("--model.policy_gradient.first_rows", 8, "--model.policy_gradient.rows", 20)
    assert fit("--run_name", "whole", *options) == 0
    assert fit(*options, *stop_at(7, signal.SIGTERM)) == 143
    assert fit("--ckpt_path", "last", *options) == 0
    whole, resumed = state("whole"), state()
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], tensor), name
    assert whole["objective"]["games"]["written"] == whole["objective"]["games"]["plies"]
