"""How fast training goes: a bare loop around the model, beside the same stack of mamba_ssm.

A step is forward, cross-entropy, backward and AdamW, under bfloat16 autocast on a GPU, where ours
is replayed as CUDA graphs. Tokens are drawn before; what playing games adds is measured apart.

Shapes: B sequences, L positions.
"""

from __future__ import annotations

import gc
import itertools
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tessera.commands.bench.board_speed import (
    ConvolutionSpeed,
    board_model,
    board_stream,
    fused_flops,
    time_convolutions,
)
from tessera.commands.bench.ceilings import BytesMoved, Ceilings, measure_ceilings
from tessera.commands.bench.engine_speed import Timing, now
from tessera.commands.bench.report import measured, say
from tessera.commands.bench.rivals import RivalModel, mamba_ssm
from tessera.commands.machine import machine_name
from tessera.commands.table import Cell, table
from tessera.data import GameBatch, GameStream, StreamSettings
from tessera.data.chunk_size import games_that_fit, whole_batches
from tessera.model import GameModel, MambaModel
from tessera.training.optimizer import GraphedAdamW
from tessera.vocabulary import Vocabulary

D_MODEL = 256
SHAPES_ON_A_GPU = ((512, 64), (4096, 64), (512, 512))
SHAPES_ON_A_CPU = ((16, 64), (8, 128))
NUM_BLOCKS = (1, 4)
OURS = "Tessera"
WITH_BOARD = "Tessera, board"

_COLUMNS = {
    **{"layers": None, "blocks": "d", "sequences": "", "tokens/s": ",.0f"},
    **{"slowest to fastest run": "", "peak MiB": ",.0f"},
    **{"FLOP/s": ".0%", "bytes/s": ".0%", "generation": ".2%"},
}
_WARM_UP_STEPS = 5  # the third captures what the second left
_STEPS_AT_ONCE = 4
_FED_STEPS = 200  # at least on a GPU, in whole chunks of games
_GAMES_ON_A_CPU = 64  # at once


@dataclass(frozen=True, slots=True)
class TrainSpeed:
    """One measured row.

    Attributes:
        name: whose layers were trained.
        num_blocks: Mamba blocks.
        sequences, length: B and L.
        tokens_per_s: the median of the runs.
        slowest, fastest: of the runs, tokens a second.
        peak_mb: the most memory that torch took of the card, in MiB; None on a CPU.
        flops: of the matrix products of a step, counted by torch.
        bytes_moved: bytes of all tensors that the operations of a step read and wrote, without what
            passes between the kernels of one operation; None where torch does not see them all.
        generation_ratio: share of the time of a step fed with games that feeding it takes, as it
            was measured; None on a CPU, where it is lost in the noise, and of other rows.
    """

    name: str
    num_blocks: int
    sequences: int
    length: int
    tokens_per_s: float
    slowest: float
    fastest: float
    peak_mb: float | None
    flops: int
    bytes_moved: int | None
    generation_ratio: float | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Blocks, B and L."""
        return self.num_blocks, self.sequences, self.length

    @property
    def shown_generation(self) -> Cell:
        """``generation_ratio``, or that it is lost in the noise.

        The runs differ by the fastest less the slowest, as a share of the median; what is no larger
        is noise. So is what is below 0, by however much: games cost no negative time.
        """
        ratio, spread = self.generation_ratio, (self.fastest - self.slowest) / self.tokens_per_s
        return "in the noise" if ratio is not None and ratio <= spread else ratio

    @property
    def steps_per_s(self) -> float:
        """Optimizer steps in a second."""
        return self.tokens_per_s / (self.sequences * self.length)


@dataclass(frozen=True, slots=True)
class TrainReport:
    """Everything one run of ``bench train`` measured."""

    machine: str
    board_size: int
    speeds: tuple[TrainSpeed, ...]
    missing: dict[str, str]
    ceilings: Ceilings
    convolutions: ConvolutionSpeed | None = None

    def lines(self) -> list[str]:
        """The report as a person reads it."""
        ceilings = self.ceilings
        rows = [*map(self._row, self.speeds), *self.missing.items()]
        return [
            self.machine,
            "",
            *table(rows, _COLUMNS),
            "",
            *self._comparisons(),
            *self._of_convolutions(),
            f"FLOP/s and bytes/s are shares of what this device reached in the same run:"
            f" {ceilings.flops_per_s / 1e12:,.3g} TFLOP/s in a matrix product,"
            f" {ceilings.bytes_per_s / 1e9:,.4g} GB/s in a copy.",
            "FLOP/s counts the matrix products of a step, bytes/s every tensor that an operation"
            " reads or writes, Tessera's mixer as one; generation is the part of a step's time that"
            " playing its games adds, in the noise where the runs differ by as much.",
        ]

    def _row(self, s: TrainSpeed) -> tuple[Cell, ...]:
        moved = s.bytes_moved
        return (
            s.name,
            s.num_blocks,
            f"{s.sequences}×{s.length}",
            s.tokens_per_s,
            f"{s.slowest:,.0f} to {s.fastest:,.0f}",
            s.peak_mb,
            s.flops * s.steps_per_s / self.ceilings.flops_per_s,
            None if moved is None else moved * s.steps_per_s / self.ceilings.bytes_per_s,
            s.shown_generation,
        )

    def _comparisons(self) -> Iterator[str]:
        """A line for each of our rows and each of a rival's of the same depth and shape."""
        for ours, theirs in itertools.product(self.speeds, self.speeds):
            if ours.name != OURS or theirs.name == OURS or ours.shape != theirs.shape:
                continue
            assert ours.peak_mb is not None and theirs.peak_mb is not None
            yield (
                f"{ours.name}, {_blocks(ours.num_blocks)},"
                f" {ours.sequences}×{ours.length}: {ours.tokens_per_s / theirs.tokens_per_s:.2f}"
                f" times as fast as {theirs.name}, with {ours.peak_mb / theirs.peak_mb:.2f} times"
                " its memory."
            )

    def _of_convolutions(self) -> Iterator[str]:
        if self.convolutions is not None:
            rate = self.convolutions.flops_per_s
            yield (
                f"{WITH_BOARD}: whole games and their boards, PAD not counted; its convolutions"
                f" alone reach {rate / 1e12:,.3g} TFLOP/s,"
                f" {rate / self.ceilings.flops_per_s:.0%} of the matrix product."
            )

    def as_json(self) -> dict[str, object]:
        """The report as plain values."""
        return asdict(self)


def measure(board_size: int, timing: Timing) -> TrainReport:
    """Train every shape with one block and with four, mamba_ssm's layers beside ours."""
    is_gpu = timing.device.type == "cuda"
    say("the ceilings of the device")
    ceilings = measure_ceilings(timing.device)
    rows: list[tuple[str, str, Callable[[], TrainSpeed]]] = []
    for sequences, length in SHAPES_ON_A_GPU if is_gpu else SHAPES_ON_A_CPU:
        for blocks in NUM_BLOCKS:
            time_row = partial(_time, board_size, blocks, sequences, length, timing)
            rows.append((f"{sequences}×{length}, {_blocks(blocks)}", OURS, partial(time_row, OURS)))
            rows.append(("", "mamba_ssm", partial(time_row, "mamba_ssm")))
    found: list[ConvolutionSpeed] = []
    rows.append((WITH_BOARD, WITH_BOARD, partial(_time_board, board_size, timing, found)))
    speeds, missing = measured(rows)
    convolutions = found[0] if found else None
    machine = machine_name(timing.device)
    return TrainReport(machine, board_size, speeds, missing, ceilings, convolutions)


def _time_board(board_size: int, timing: Timing, found: list[ConvolutionSpeed]) -> TrainSpeed:
    """Training a model that reads the board, on whole games; its convolutions go to ``found``."""
    device = timing.device
    is_gpu = device.type == "cuda"
    model, stream = board_model(board_size, is_gpu).to(device), board_stream(board_size, device)
    sequences = stream.settings.batch_size
    taken = [stream.batch(index) for index in range(stream.settings.batches_per_chunk)]
    batches = [_arguments(batch) for batch in taken]
    counts = [int((batch.targets != model.pad_token).sum()) for batch in taken]
    flops = FlopCounterMode(display=False, custom_mapping=fused_flops())
    with flops:
        training_step(model, device)(*batches[0])
    step = training_step(model, device, is_graphed=True)
    if is_gpu:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(_WARM_UP_STEPS if is_gpu else 1):
        for batch in batches:
            step(*batch)
    peak_mb = torch.cuda.max_memory_reserved(device) / 2**20 if is_gpu else None

    def some(_: int) -> int:
        for batch in batches:
            step(*batch)
        return sum(counts)

    rates = [run.num_done / run.seconds for run in timing.repeat(some)]
    generation = None
    if is_gpu:
        alone_s = sum(counts) / len(counts) / statistics.median(rates)
        stream = board_stream(board_size, device, ahead=True)
        generation = 1 - alone_s / _fed_s(lambda batch: step(*_arguments(batch)), stream)
    length = max(tokens.shape[1] for tokens, *_ in batches)
    found.append(time_convolutions(model, sequences * length, board_size, timing))
    return TrainSpeed(
        name=WITH_BOARD,
        num_blocks=model.settings.n_layers,
        sequences=sequences,
        length=length,
        tokens_per_s=statistics.median(rates),
        slowest=min(rates),
        fastest=max(rates),
        peak_mb=peak_mb,
        flops=round(flops.get_total_flops() * sequences * length * len(counts) / sum(counts)),
        bytes_moved=None,
        generation_ratio=generation,
    )


def _arguments(batch: GameBatch) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    return batch.inputs, batch.targets, batch.features("board")


def _blocks(number: int) -> str:
    return f"{number} block{'s' if number > 1 else ''}"


def _time(
    board_size: int, num_blocks: int, sequences: int, length: int, timing: Timing, name: str
) -> TrainSpeed:
    device, vocab_size = timing.device, Vocabulary(board_size).size
    torch.manual_seed(0)
    model: nn.Module
    is_ours = name == OURS
    if is_ours:
        model = MambaModel(vocab_size, D_MODEL, n_layers=num_blocks)
    else:
        name, layer = mamba_ssm(device, D_MODEL)
        model = RivalModel(vocab_size, D_MODEL, num_blocks, layer)
    model.to(device)
    generator = torch.Generator(device).manual_seed(0)
    drawn = torch.randint(
        board_size**2, (sequences, length + 1), generator=generator, device=device
    )
    tokens, targets = drawn[:, :-1], drawn[:, 1:]
    flops, moved = FlopCounterMode(display=False), BytesMoved()
    counted = training_step(model, device)
    with flops:
        counted(tokens, targets)
    with moved:
        counted(tokens, targets)
    step = training_step(model, device, is_graphed=is_ours)
    if device.type == "cuda":
        gc.collect()  # the graphs of the row before are part of a cycle
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(_WARM_UP_STEPS):
        step(tokens, targets)
    is_gpu = device.type == "cuda"
    # What torch has taken of the card: what a graph holds is not allocated while it is replayed.
    peak_mb = torch.cuda.max_memory_reserved(device) / 2**20 if is_gpu else None

    def some(_: int) -> int:
        for _ in range(_STEPS_AT_ONCE):
            step(tokens, targets)
        return _STEPS_AT_ONCE * sequences * length

    runs = timing.repeat(some)
    rates = [run.num_done / run.seconds for run in runs]
    generation = None
    if name == OURS and is_gpu:
        alone_s = sequences * length / statistics.median(rates)
        generation = 1 - alone_s / seconds_with_games(step, board_size, sequences, length, device)
    return TrainSpeed(
        name=name,
        num_blocks=num_blocks,
        sequences=sequences,
        length=length,
        tokens_per_s=statistics.median(rates),
        slowest=min(rates),
        fastest=max(rates),
        peak_mb=peak_mb,
        flops=flops.get_total_flops(),
        bytes_moved=moved.total if name == OURS else None,
        generation_ratio=generation,
    )


def training_step(
    model: nn.Module, device: torch.device, is_graphed: bool = False
) -> Callable[..., None]:
    """One optimizer step on a model's arguments, tokens and targets (B, L) first, as the bare loop
    takes it.

    Args:
        model: gives losses of tokens and targets; a ``GameModel`` if it is to be graphed.
        device: of the model.
        is_graphed: replay the step on a CUDA device, as ``tessera fit`` does.
    """
    is_gpu = device.type == "cuda"
    weights = list(model.parameters())
    optimizer: torch.optim.Optimizer
    if is_graphed and is_gpu:
        assert isinstance(model, GameModel)
        model.graph_training()
        optimizer = GraphedAdamW([{"params": weights}], lr=1e-3)
    else:
        optimizer = torch.optim.AdamW(weights, lr=1e-3, fused=is_gpu)

    def step(*batch: Any) -> None:
        with torch.autocast(device.type, torch.bfloat16, is_gpu):
            losses = model(*batch)
        losses.mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def seconds_with_games(
    step: Callable[[Tensor, Tensor], None],
    board_size: int,
    sequences: int,
    length: int,
    device: torch.device,
) -> float:
    """Seconds of a step that is fed with windows of rule-based games, over whole chunks of them."""
    settings = StreamSettings(board_size=board_size, batch_size=1, context=length)
    settings = replace(settings, batch_size=sequences, games_per_chunk=sequences)
    games = whole_batches(_GAMES_ON_A_CPU, sequences, settings.num_windows)
    if device.type == "cuda":
        games = games_that_fit(settings, device)
    settings = replace(settings, games_per_chunk=games)
    stream = GameStream(settings, device=device)
    return _fed_s(lambda batch: step(batch.inputs, batch.targets), stream)


def _fed_s(step: Callable[[GameBatch], None], stream: GameStream) -> float:
    """Seconds of a step on a batch, the games that are played for it included."""
    device, batches = stream.device, stream.settings.batches_per_chunk

    def train(chunk: int) -> None:
        for index in range(chunk * batches, (chunk + 1) * batches):
            step(stream.batch(index))

    train(0)  # the first games are played before there is anything to do meanwhile
    chunks = math.ceil((_FED_STEPS if device.type == "cuda" else 1) / batches)
    began = now(device)
    for chunk in range(1, 1 + chunks):
        train(chunk)
    return (now(device) - began) / (chunks * batches)
