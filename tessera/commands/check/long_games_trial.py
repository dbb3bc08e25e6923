"""Criterion 5 of ``tessera check``: batches of long games in which a model chooses the moves.

Shapes: B games, P = n² points, V tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tessera.commands.check.criteria import MAX_STATE_NORM
from tessera.commands.check.trials import PlayedBatch, described
from tessera.go import GPUGoEngine
from tessera.go.randomness import MOVE, draw, random_words
from tessera.model import MambaModel, ModelState
from tessera.model.mixers.state_space import StateSpaceState
from tessera.vocabulary import num_tokens


def new_model(board_size: int, d_model: int, device: torch.device, seed: int) -> MambaModel:
    """A model with fresh weights, the same for the same seed on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MambaModel(num_tokens(board_size), d_model).to(device).eval()


def play_long_games(
    model: MambaModel,
    device: torch.device,
    *,
    seed: int,
    board_size: int,
    num_batches: int,
    num_games: int,
    plies: int,
    tell: Callable[[int], None] = lambda done: None,
) -> list[PlayedBatch]:
    """Batches of games that a model plays against itself, one move at a time, its state carried.

    Args:
        model: on the device; reads moves one by one through ``step``.
        device: where the games are played, by the code that a run on it would use.
        seed: of the moves.
        board_size: n.
        num_batches: how many.
        num_games: games in each.
        plies: moves in each place of a batch. A game that ends before, because nothing was legal
            any more, makes room for a new one; at least one game of a batch has to get that far.
        tell: is called with the number of batches that are done.
    """
    batches = []
    for batch in range(num_batches):
        first = batch * num_games
        numbers = torch.arange(first, first + num_games, device=device)
        figures: dict[str, float] = {}
        try:
            engine = GPUGoEngine(num_games, device, board_size)
            witness = _Witness(engine)
            with torch.inference_mode():
                _play(model, engine, witness, numbers, seed, plies, num_batches * num_games)
            faults, figures = witness.faults(plies), witness.figures()
        except Exception as error:  # whatever it is, it is this batch's fault and no other's
            faults = [described(error)]
        played = num_games * plies if figures else 0
        batches.append(PlayedBatch(f"batch {batch + 1}", num_games, played, tuple(faults), figures))
        tell(batch + 1)
    return batches


def _play(
    model: MambaModel,
    engine: GPUGoEngine,
    witness: _Witness,
    numbers: Tensor,
    seed: int,
    plies: int,
    stride: int,
) -> None:
    """Play so many moves in every place; ``stride`` leads to the number of the next game there."""
    eos, num_points = engine.vocabulary.eos_token, engine.vocabulary.num_points
    tokens = torch.full_like(numbers, eos)
    state = model.init_state(len(numbers), engine.device)
    for _ in range(plies):
        logits, state = model.step(tokens, state)
        witness.see_model(logits, state)
        points = engine.get_legal_mask()[:, :num_points]
        is_forced = ~points.any(1)
        # A pass only where nothing else is legal.
        legal = torch.cat([points, is_forced.unsqueeze(1)], 1)
        words = random_words(seed, numbers, engine.move_number, MOVE)
        tokens = sample(logits[:, : num_points + 1], legal, words)
        engine.play_batch(tokens, check=True)
        over = witness.see_games(is_forced)
        engine.reset(over)
        state = state.reset(over)
        numbers = numbers + over * stride
        tokens = torch.where(over, eos, tokens)


def sample(logits: Tensor, legal: Tensor, words: Tensor) -> Tensor:
    """A legal move in each game, drawn from the model's distribution over the legal ones.

    Args:
        logits: (B, P + 1), any dtype; where one is not a number, 0 is taken for it.
        legal: (B, P + 1) bool, True where a move may be drawn; at least one in each game.
        words: (B,) int64, 64 random bits for each game.

    Returns:
        (B,) int64 tokens.
    """
    shares = logits.double().nan_to_num().masked_fill(~legal, -torch.inf).softmax(1)
    return draw(shares, legal, words)


class _Witness:
    """What has been seen in the games of an engine, kept on its device until it is asked for."""

    def __init__(self, engine: GPUGoEngine) -> None:
        self._engine = engine
        self._norm = torch.zeros(engine.batch_size, device=engine.device)
        none = torch.zeros_like(engine.turn, dtype=torch.bool)
        self._is_finite, self._agrees, self._ends_well = ~none, ~none, ~none
        self._was_forced = none
        counter = torch.zeros_like(engine.turn)
        self._passes, self._restarts, self._longest = counter, counter, counter

    def see_model(self, logits: Tensor, state: ModelState) -> None:
        """Look at what the model gave: logits (B, V) and its new state."""
        tensors = [tensor for layer in state.layers for tensor in layer]
        for tensor in (logits, *tensors):
            self._is_finite = self._is_finite & tensor.flatten(1).isfinite().all(1)
        for ssm in (layer.ssm for layer in state.layers if isinstance(layer, StateSpaceState)):
            self._norm = torch.maximum(self._norm, ssm.flatten(1).norm(dim=1))

    def see_games(self, is_forced: Tensor) -> Tensor:
        """Look at the games after a ply.

        Args:
            is_forced: (B,) bool, True where the ply could only be a pass.

        Returns:
            (B,) bool, True where the game is over and a new one will stand in its place.
        """
        engine = self._engine
        self._passes = self._passes + is_forced
        stones = engine.boards[:, :2].flatten(1).sum(1)
        expected = engine.move_number - self._passes - engine.captured.sum(1)
        self._agrees = self._agrees & (stones == expected)
        over = engine.is_game_over()
        at_limit = engine.move_number >= engine.max_moves
        self._ends_well = self._ends_well & (~over | at_limit | is_forced & self._was_forced)
        self._longest = torch.maximum(self._longest, engine.move_number)
        self._restarts = self._restarts + over
        self._passes = self._passes * ~over
        self._was_forced = is_forced & ~over
        return over

    def faults(self, plies: int) -> list[str]:
        """What was wrong, a line each; nothing if all games were sound."""
        checks = {
            "a logit or a state is not finite": self._is_finite,
            f"the SSM state's norm is above {MAX_STATE_NORM:g}": self._norm <= MAX_STATE_NORM,
            "stones are not plies less passes and captures": self._agrees,
            "the game ended although moves were legal": self._ends_well,
        }
        counts = {what: int((~holds).sum()) for what, holds in checks.items()}
        lines = [f"{what} ({count} games)" for what, count in counts.items() if count]
        longest = int(self._longest.max())
        return lines if longest >= plies else [*lines, f"no game got beyond move {longest}"]

    def figures(self) -> dict[str, float]:
        """What was measured."""
        return {
            "max_ssm_state_norm": float(self._norm.max()),
            "num_restarts": int(self._restarts.sum()),
            "num_unbroken_games": int((self._restarts == 0).sum()),
            "longest_game": int(self._longest.max()),
        }
