"""A batch as large as the memory allows: found by steps that leave nothing, kept when resumed."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from tessera.commands.bench.memory_count import Living
from tessera.data import GameDataModule, NoRoomForGamesError
from tessera.data.batch_size import sizes_of
from tessera.training.batch_size import CudaRoom, Found, batch_size_that_fits, largest_that_fits
from tessera.training.checkpoint_content import read_checked
from tessera.training.objectives.next_move import NextMove
from tests.runs import fit, tessera
from tests.training.two_processes import fit as fit_elsewhere

AUTO = ("--data.batch_size", "auto")
LAST = "checkpoints/small/version_0/last.ckpt"
MIB = 2**20


class Planted:
    """A memory of so many bytes, of which a run may take what the tensors it makes need."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def free(self) -> int:
        return self.limit

    def most_of(self, run: Callable[[], None]) -> int:
        with Limited(self.limit) as living:
            run()
        return living.most


class Limited(Living):
    """Runs out of memory."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def __torch_dispatch__(self, *arguments: Any, **more: Any) -> Any:
        result = super().__torch_dispatch__(*arguments, **more)
        if self.now > self.limit:
            raise torch.OutOfMemoryError("planted")
        return result


class Rooms(Callback):
    """Lets each process have so much memory, and asks for it only once."""

    def __init__(self, *limits: int, limits_mib: list[float] | None = None) -> None:
        self.limits = [limit * MIB for limit in limits_mib or limits]

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        room = Planted(int(self.limits[trainer.global_rank]))
        pl_module.batch_size_that_fits = lambda trials: batch_size_that_fits(
            pl_module, trials, room
        )


def rooms(*mib: float) -> list[str]:
    arguments = {"limits_mib": list(mib)}
    told = [{"class_path": "tests.training.test_batch_size.Rooms", "init_args": arguments}]
    return ["--trainer.callbacks", json.dumps(told)]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said of the size, nothing if it was not looked for."""
    lines = [line for line in capsys.readouterr().err.splitlines() if "batch_size is" in line]
    return "\n".join(lines)


def weights(path: str = LAST) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def kept(path: str = LAST) -> dict[str, Any]:
    return torch.load(path, weights_only=True)["GameDataModule"]


def test_sizes_grow_until_one_does_not_fit() -> None:
    sizes = [1, 2, 4, 8, 16]
    assert largest_that_fits(sizes, lambda size: 10 * size, lambda: 85) == Found(8, 80, 85)
    assert largest_that_fits(sizes, lambda size: 10 * size, lambda: 1000) == Found(16, 160, 1000)
    assert largest_that_fits(sizes, lambda size: 10 * size, lambda: 9).size == 0


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("x"), NoRoomForGamesError("x"), RuntimeError("can't allocate memory")],
)
def test_memory_that_runs_out_ends_the_search(error: Exception) -> None:
    def needed(size: int) -> int:
        if size > 2:
            raise error
        return size

    assert largest_that_fits([1, 2, 4, 8], needed, lambda: 100).size == 2


def test_another_fault_is_no_lack_of_memory() -> None:
    def needed(size: int) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        largest_that_fits([1], needed, lambda: 100)


def test_batches_are_whole_whatever_their_size() -> None:
    given = GameDataModule(board_size=3, batch_size=1, games_per_chunk=30, windows_per_game=7)
    assert sizes_of(given.settings, False) == (1, 2, 5, 10, 21, 42, 105, 210)
    assert sizes_of(given.settings, True)[:5] == (1, 2, 4, 8, 16)
    for games in (30, None):
        module = GameDataModule(
            board_size=3, batch_size=None, games_per_chunk=games, windows_per_game=7
        )
        assert module.settings.batch_size == (42 if games else 64)
        assert module.settings.rows_per_chunk % module.settings.batch_size == 0


@pytest.mark.parametrize(
    ("games", "mib", "most"),
    [("32", 0.15, 32), pytest.param("null", 4, 1024, marks=pytest.mark.slow)],
)
def test_the_largest_that_fits_is_found_and_leaves_no_trace(
    folder: Path, capsys: pytest.CaptureFixture[str], games: str, mib: float, most: int
) -> None:
    options = ["--data.games_per_chunk", games]
    assert fit(*AUTO, *rooms(mib), *options) == 0
    size = kept()["batch_size"]
    assert f"data.batch_size is {size}: its steps take" in said(capsys)
    assert 1 < size < most
    # The same run, told the number.
    options += ["--run_name", "told", "--data.batch_size", str(size)]
    options[1] = str(kept()["games_that_fit"])
    assert fit(*options) == 0
    told = weights("checkpoints/told/version_0/last.ckpt")
    assert all(torch.equal(weight, told[name]) for name, weight in weights().items())


@pytest.mark.slow
def test_more_memory_holds_more(folder: Path) -> None:
    sizes = []
    for nth, mib in enumerate((0.1, 0.4, 100)):
        assert fit(*AUTO, *rooms(mib), "--trainer.max_steps", 1) == 0
        sizes.append(kept(f"checkpoints/small/version_{nth}/last.ckpt")["batch_size"])
    assert sizes == sorted(set(sizes)) and sizes[-1] == 32


def test_what_a_run_holds_beside_its_steps_is_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NextMove, "bytes_to_come", lambda *given: MIB)
    assert fit(*AUTO, *rooms(0.15)) == 1  # which is room enough without


def test_no_room_at_all_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(*AUTO, *rooms(0.01)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tessera: out of memory: there is no room for a batch of one sequence: ")
    assert not Path("checkpoints").exists()


def test_a_resumed_run_keeps_the_number_and_the_bits(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(*AUTO, *rooms(0.15)) == 0
    whole, size = weights(), kept()["batch_size"]
    part = ["--run_name", "part", *AUTO]
    assert fit(*part, *rooms(0.15), "--trainer.max_steps", 9) == 0
    capsys.readouterr()
    # There would be room for more now.
    assert fit(*part, *rooms(100), "--ckpt_path", "last") == 0
    assert said(capsys) == ""
    path = "checkpoints/part/version_0/last.ckpt"
    assert kept(path)["batch_size"] == size
    assert all(torch.equal(weight, whole[name]) for name, weight in weights(path).items())


@pytest.mark.slow
def test_a_measurement_and_another_number_go_on_from_it(folder: Path) -> None:
    assert fit(*AUTO, *rooms(0.15)) == 0
    assert tessera("test", "--config", "small.yaml", *AUTO, "--ckpt_path", LAST) == 0
    more = ["--data.batch_size", 2, "--trainer.max_steps", 21]
    assert fit(*more, "--ckpt_path", LAST) == 0 and kept()["batch_size"] == 2


def test_a_cpu_takes_the_usual_number(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data.games_per_chunk", "null", "--trainer.max_steps", 1]
    assert fit("--data.batch_size", "null", *options) == 0
    assert said(capsys) == "tessera: data.batch_size is 64: on a CPU the memory is not asked."
    assert kept()["batch_size"] == 64


EXPERT = """
trainer: {max_steps: 2, val_check_interval: 2}
data: {board_size: 3, max_moves: 12, batch_size: auto, context: 1, games_per_chunk: 16,
  windows_per_game: 1, val_batches: 1}
model: {objective: expert_iteration, expert_iteration: {slots: 4, simulations: 2,
  fast_simulations: 1, considered: 2, rows: 8, first_rows: 2, playout_steps: 1, playouts: 2},
  features: board, board: {channels: 4, depth: 1}, mixer: identity, d_model: 8, head: points,
  outcome: win_and_score}
cpu_threads: 1
"""


@pytest.mark.slow
def test_an_objective_of_its_own_data_is_tried_with_its_own_batches(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("expert.yaml").write_text(EXPERT)
    assert tessera("fit", "--config", "expert.yaml", *rooms(0.2)) == 0
    size = kept("checkpoints/expert/version_0/last.ckpt")["batch_size"]
    assert 1 < size < 16 and f"batch_size is {size}: its steps take" in said(capsys)


def test_a_sweep_over_contexts_is_tried_and_forgotten(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data.context", "null", "--trainer.max_steps", 6, "--model.d_model", 8]
    options += ["--model.mixer", "context_token", "--model.objective", "fixed_point"]
    options += ["--model.fixed_point.context_steps", 3, "--model.fixed_point.sweeps", 2]
    options += ["--model.fixed_point.cached_games", 8, "--model.fixed_point.token_batch", 16]
    assert fit(*options, *AUTO, *rooms(0.15)) == 0
    size = kept()["batch_size"]
    assert 1 < size < 32 and f"batch_size is {size}: its steps take" in said(capsys)
    assert fit(*options, "--run_name", "told", "--data.batch_size", size) == 0
    told = weights("checkpoints/told/version_0/last.ckpt")
    assert all(torch.equal(weight, told[name]) for name, weight in weights().items())


def test_a_checkpoint_whose_number_is_none_is_refused(folder: Path) -> None:
    assert fit("--trainer.max_steps", 1) == 0
    checkpoint = torch.load(LAST, weights_only=True)
    checkpoint["GameDataModule"]["batch_size"] = 0
    torch.save(checkpoint, LAST)
    with pytest.raises(ValueError, match="GameDataModule batch_size must be"):
        read_checked(LAST, True)


@pytest.mark.parametrize(
    ("value", "must"),
    [
        ("many", "be a whole number, one of auto or null, got many."),
        ("1.5", "be a whole number, one of auto or null, got 1.5."),
        ("0", "be at least 1, got 0."),
    ],
)
def test_other_values_are_refused_in_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str], value: str, must: str
) -> None:
    assert fit("--data.batch_size", value) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"tessera: data.batch_size must {must}"


def test_python_is_told_the_same() -> None:
    with pytest.raises(ValueError, match="batch_size must be a whole number, auto or null, got x"):
        GameDataModule(batch_size="x")  # type: ignore[arg-type]


def test_what_torch_holds_unused_is_free_and_what_others_hold_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"memory_reserved": 50, "memory_allocated": 30}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))  # 850 of others
    assert CudaRoom(torch.device("cuda")).free() == 120


@pytest.mark.slow
def test_several_processes_agree_on_the_smallest(folder: Path) -> None:
    done = fit_elsewhere("both", 2, *AUTO, *rooms(100, 0.15), "--trainer.max_steps", "2")
    assert done.returncode == 0, done.stderr
    size = kept("checkpoints/both/version_0/last.ckpt")["batch_size"]
    assert 1 < size < 32
    told = f"data.batch_size is {size}, which is what fits into the memory of every process."
    assert done.stderr.count(told) == 1


@pytest.fixture
def small_card(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of the GPU, which other tests use too, torch gives 8 GiB, and says that no more are free."""
    gc.collect()
    torch.cuda.empty_cache()
    limit = torch.cuda.memory_reserved() + 8 * 2**30
    _, total = torch.cuda.mem_get_info()

    def left(device: torch.device) -> tuple[int, int]:
        return limit - torch.cuda.memory_reserved(device), total

    monkeypatch.setattr(torch.cuda, "mem_get_info", left)
    torch.cuda.set_per_process_memory_fraction(limit / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.gpu
@pytest.mark.parametrize("graph", ["true", "false"])
def test_a_gpu_is_filled_and_the_run_goes_through(
    folder: Path, small_card: None, capsys: pytest.CaptureFixture[str], graph: str
) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(9 * 2**30, dtype=torch.uint8, device="cuda")
    config = ["--data.context", "64", "--data.board_size", "9", "--data.max_moves", "64"]
    config += ["--data.games_per_chunk", "null", "--model.cuda_graph", graph]
    options = [*config, "--model.d_model", "256", "--trainer.accelerator", "gpu"]
    assert fit(*AUTO, *options) == 0
    assert kept()["batch_size"] >= 64 and "GiB that are free" in said(capsys)
