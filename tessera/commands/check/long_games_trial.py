"""Criterion 5 of ``tessera check``: batches of long games in which a model chooses the moves.

They are played as those of self-play in training are: by the same player, in the same loop.

Shapes: B games, V tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.commands.check.criteria import MAX_STATE_NORM
from tessera.commands.check.trials import PlayedBatch, Scale, Tell, described
from tessera.go import Choice, GameLoop, GPUGoEngine
from tessera.go.bitboard import popcount
from tessera.model import MambaModel
from tessera.play.model_player import ModelPlayer
from tessera.vocabulary import num_tokens


def new_model(board_size: int, d_model: int, device: torch.device, seed: int) -> MambaModel:
    """A model with fresh weights, the same for the same seed on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MambaModel(num_tokens(board_size), d_model).to(device).eval()


def play_long_games(model: MambaModel, scale: Scale, seed: int, tell: Tell) -> list[PlayedBatch]:
    """Batches of games that a model plays against itself, a pass only where nothing else is legal.

    They are played where the model is, by the code that a run there would use. A game that ends
    before ``scale.plies``, because nothing was legal any more, makes room for a new one; at least
    one game of a batch has to get that far.
    """
    batches = []
    device, plies = model.device, scale.plies
    num_batches, num_games = scale.num_batches, scale.long_games
    # More games than end in so many plies: two passes are the shortest.
    games = num_games * (plies // 2 + 1)
    place = torch.arange(games, device=device)
    numbers = place % num_games + place // num_games * (num_batches * num_games)
    for batch in range(num_batches):
        figures: dict[str, float] = {}
        try:
            witness = _Witness(ModelPlayer(model, passes_last=True))
            size = scale.board_size
            loop = GameLoop(
                witness, games, num_games, board_size=size, device=device, seed=seed, tables={}
            )
            loop.begin(numbers + batch * num_games)
            for _ in range(plies):
                loop.play_ply()
            faults, figures = witness.faults(plies), witness.figures()
        except Exception as error:  # whatever it is, it is this batch's fault and no other's
            faults = [described(error)]
        played = num_games * plies if figures else 0
        batches.append(PlayedBatch(f"batch {batch + 1}", num_games, played, tuple(faults), figures))
        tell((batch + 1) / num_batches)
    return batches


class _Witness:
    """A player that plays as another one does, and what it has seen meanwhile.

    It is kept on the device until it is asked for, and changed in place: a ply may be captured in a
    CUDA graph.
    """

    def __init__(self, player: ModelPlayer) -> None:
        self.player, self.name = player, player.name

    def begin(self, engine: GPUGoEngine) -> None:
        """Forget what was seen; see ``Player``."""
        self.player.begin(engine)
        self._norm = torch.zeros(engine.batch_size, device=engine.device)
        none = torch.zeros_like(engine.turn, dtype=torch.bool)
        self._is_finite, self._is_legal, self._agrees, self._ends_well = (~none for _ in range(4))
        self._was_forced = none
        self._passes, self._restarts, self._longest = (
            torch.zeros_like(engine.turn) for _ in range(3)
        )

    def choose(self, engine: GPUGoEngine, words: Tensor) -> Choice:
        """The move of the player, and a look at what the model gave."""
        logits, state = self.player.read(engine), self.player.state
        for tensor in (logits, *(tensor for layer in state.layers for tensor in layer)):
            self._is_finite &= tensor.flatten(1).isfinite().all(1)
        for (ssm,) in self.player.model.blocks.watched(state.layers):
            torch.maximum(self._norm, ssm.flatten(1).norm(dim=1), out=self._norm)
        choice = self.player.draw(logits, engine, words)
        legal = engine.get_legal_mask().gather(1, choice.moves.unsqueeze(1)).squeeze(1)
        self._is_legal &= legal
        return choice

    def observe(self, engine: GPUGoEngine, moves: Tensor, over: Tensor) -> None:
        """Look at the games after a ply."""
        self.player.observe(engine, moves, over)
        is_forced = moves == engine.vocabulary.pass_token
        self._passes += is_forced
        stones = popcount(engine.position.own | engine.position.opponent).sum(0)
        self._agrees &= stones == engine.move_number - self._passes - engine.captured.sum(1)
        at_limit = engine.move_number >= engine.max_moves
        self._ends_well &= ~over | at_limit | is_forced & self._was_forced
        torch.maximum(self._longest, engine.move_number, out=self._longest)
        self._restarts += over
        self._passes.masked_fill_(over, 0)
        self._was_forced.copy_(is_forced & ~over)

    def faults(self, plies: int) -> list[str]:
        """What was wrong, a line each; nothing if all games were sound."""
        checks = {
            "a logit or a state is not finite": self._is_finite,
            f"the SSM state's norm is above {MAX_STATE_NORM:g}": self._norm <= MAX_STATE_NORM,
            "a move was illegal": self._is_legal,
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
