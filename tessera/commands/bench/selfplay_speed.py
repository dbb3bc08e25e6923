"""How fast a model plays itself, and how fast it only reads: moves a second, by the clock."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from tessera.commands.bench.engine_speed import Speed, Timing
from tessera.commands.bench.report import Report, measured
from tessera.commands.bench.rivals import RivalModel, mamba_ssm, time_pgx
from tessera.commands.machine import machine_name
from tessera.go import GameLoop
from tessera.model import MambaModel
from tessera.play.model_player import ModelPlayer
from tessera.vocabulary import Vocabulary

_WARM_UP_PLIES = 3
_PLIES_AT_ONCE = 16
_NUM_BLOCKS = (1, 4)
_D_MODEL = 256


def time_selfplay(board_size: int, n_layers: int, batch_size: int, timing: Timing) -> Speed:
    """Whole plies of self-play, slots refilled: mask, step, draw, play and record.

    Only games that go on are counted; with one new game for every slot there are enough of them.
    """
    model = _model(board_size, n_layers, timing.device)
    is_gpu = timing.device.type == "cuda"
    player = ModelPlayer(model, dtype=torch.bfloat16 if is_gpu else torch.float32)
    numbers = torch.zeros(4 * batch_size, dtype=torch.int64, device=timing.device)
    loop = GameLoop(player, len(numbers), batch_size, board_size=board_size, device=timing.device)
    loop.begin(numbers)
    for _ in range(_WARM_UP_PLIES):
        loop.play_ply()
    held = loop.engine.num_bytes() / batch_size + player.state.bytes_per_game

    def play(_: int) -> int:
        if loop.is_done():
            loop.begin(numbers)
        before = int(loop.plies_played)
        for _ in range(_PLIES_AT_ONCE):
            loop.play_ply()
        return int(loop.plies_played) - before

    what = f"self-play, {_blocks(n_layers)}"
    return Speed("Tessera", what, board_size, batch_size, timing.repeat(play), held)


def time_decoding(board_size: int, n_layers: int, batch_size: int, timing: Timing) -> Speed:
    """The model's step alone, in a CUDA graph where there is CUDA."""
    device = timing.device
    model = _model(board_size, n_layers, device)
    state = model.init_state(batch_size)
    is_new = torch.zeros(batch_size, dtype=torch.bool, device=device)

    def step(tokens: torch.Tensor) -> None:
        model.step_in_place(tokens, state, is_new)

    what = f"step of the model alone, {_blocks(n_layers)}"
    runs = _time_steps(step, board_size, batch_size, timing)
    held = state.bytes_per_game
    return Speed("Tessera", what, board_size, batch_size, runs, held, f"step {n_layers}")


def time_mamba_ssm(board_size: int, n_layers: int, batch_size: int, timing: Timing) -> Speed:
    """The same with mamba_ssm's layers and their own step, the state in float32.

    Raises:
        NotMeasuredError: if it is not installed, or there is no GPU.
    """
    name, layer = mamba_ssm(timing.device, _D_MODEL)
    model = RivalModel(Vocabulary(board_size).size, _D_MODEL, n_layers, layer).to(timing.device)
    mixers: list[Any] = list(model.mixers)
    caches = (x.allocate_inference_cache(batch_size, 1, dtype=torch.bfloat16) for x in mixers)
    states = [(conv, ssm.float()) for conv, ssm in caches]

    def mix(index: int, hidden: torch.Tensor) -> torch.Tensor:
        # Its convolution wants its input in the state's dtype.
        return mixers[index].step(hidden.to(torch.bfloat16), *states[index])[0]

    def step(tokens: torch.Tensor) -> None:
        with torch.no_grad():
            model.logits(tokens[:, None], mix)

    runs = _time_steps(step, board_size, batch_size, timing)
    held = sum(t.nbytes for state in states for t in state) / batch_size
    what = f"its own step, {_blocks(n_layers)}"
    return Speed(name, what, board_size, batch_size, runs, held, f"step {n_layers}")


def measure(board_size: int, batch_size: int, timing: Timing) -> Report:
    """Time Tessera with one block and with four, mamba_ssm's step beside it, and PGX."""
    kinds = {"self-play": time_selfplay, "step": time_decoding, "mamba_ssm": time_mamba_ssm}
    rows = {
        f"{name}, {_blocks(blocks)}": partial(time_row, board_size, blocks, batch_size, timing)
        for blocks in _NUM_BLOCKS
        for name, time_row in kinds.items()
    }
    rows["PGX"] = partial(time_pgx, board_size, timing)
    return Report(machine_name(timing.device), *measured((x, x, row) for x, row in rows.items()))


def _time_steps(
    step: Callable[[torch.Tensor], None], board_size: int, batch_size: int, timing: Timing
) -> tuple[Any, ...]:
    """Runs of a step of all games, on drawn tokens."""
    device = timing.device
    generator = torch.Generator(device).manual_seed(0)
    tokens = torch.randint(board_size**2, (batch_size,), generator=generator, device=device)
    with torch.autocast(device.type, torch.bfloat16, device.type == "cuda"):
        for _ in range(_WARM_UP_PLIES):
            step(tokens)
        replay: Callable[[], None] = lambda: step(tokens)  # noqa: E731
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step(tokens)
            replay = graph.replay

        def play(_: int) -> int:
            for _ in range(_PLIES_AT_ONCE):
                replay()
            return _PLIES_AT_ONCE * batch_size

        return timing.repeat(play)


def _model(board_size: int, n_layers: int, device: torch.device) -> MambaModel:
    torch.manual_seed(0)
    model = MambaModel(Vocabulary(board_size).size, _D_MODEL, n_layers=n_layers)
    return model.to(device).eval().requires_grad_(False)


def _blocks(n_layers: int) -> str:
    return "one block" if n_layers == 1 else f"{n_layers} blocks"
