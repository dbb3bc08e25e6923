"""What a search asks of a position: which moves are likely, and who will win.

Shapes: B games, P = n² points, V tokens.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from tessera.go import GPUGoEngine, play_out
from tessera.model import GameModel
from tessera.play.reading import reader_of
from tessera.setting_errors import Problem, SettingError, number, one_of, whole_number
from tessera.vocabulary import board_size_of, num_tokens

_SHARE = number("0 to 1", lambda x: 0 <= x <= 1)


class Evaluation(NamedTuple):
    """What is thought of positions.

    Attributes:
        logits: (B, P + 1) float32 of the moves, pass last; of illegal ones any numbers.
        value: (B,) float32, from -1, lost, to 1, won, for the player to move.
    """

    logits: Tensor
    value: Tensor


class Evaluator(Protocol):
    """What a search asks; a pure function of the positions, without gradients.

    On a GPU it does not wait for the device, so that it may be captured in a CUDA graph.

    Attributes:
        score_weight: share of the score in the value, see ``worth``.
    """

    @property
    def score_weight(self) -> float: ...

    def evaluate(self, engine: GPUGoEngine) -> Evaluation:
        """The positions of an engine's games, of which nothing is changed."""
        ...

    def places(self) -> object:
        """Another value whenever it reads from other memory, of which a graph holds the old."""
        ...


def worth(results: Tensor, scores: Tensor, board_size: int, score_weight: float) -> Tensor:
    """The value of a game's end, -1 to 1, for whom the two are seen.

    Args:
        results: (…,) float32, 1 for a win, -1 for a loss, or what is expected of it.
        scores: (…,) float32 in points.
        board_size: n; a lead of n points is worth tanh(1) of the score's share.
        score_weight: the score's share, 0 to 1.
    """
    if not score_weight:
        return results
    return (1 - score_weight) * results + score_weight * (scores / board_size).tanh()


def last_tokens(engine: GPUGoEngine) -> Tensor:
    """The token of each game's last move (B,) int64; EOS before the first."""
    at = (engine.move_number - 1).clamp(min=0).unsqueeze(1)
    tokens = engine.history.gather(1, at).squeeze(1).long()
    return tokens.masked_fill(engine.move_number == 0, engine.vocabulary.eos_token)


class ModelEvaluator:
    """A model that knows a position by its board and last move alone, and expects an end of it.

    Args:
        model: with an outcome, that remembers nothing: of the mixer identity, and of features that
            see the board. Its weights may change between searches, in place.
        dtype: of its matrix products, float32 or bfloat16.
        score_weight: share of the score that it expects in the value, see ``worth``.

    Attributes:
        board_size: n, from the model's vocabulary.

    Raises:
        SettingError: if the model has no outcome, or remembers moves; if another argument is not
            what is said here.
    """

    def __init__(
        self, model: GameModel, dtype: torch.dtype = torch.float32, score_weight: float = 0.0
    ) -> None:
        check_evaluator(model)
        _SHARE("score_weight", score_weight)
        one_of("float32", "bfloat16")("dtype", str(dtype).removeprefix("torch."))
        self.model, self.dtype = model, dtype
        self.board_size = board_size_of(model.vocab_size)
        self._score_weight = float(score_weight)
        self._tables_of = reader_of(model)

    @property
    def score_weight(self) -> float:
        """Share of the score in the value."""
        return self._score_weight

    @torch.no_grad()
    def evaluate(self, engine: GPUGoEngine) -> Evaluation:
        """See ``Evaluator``.

        Raises:
            ValueError: if the games are on another board, or on another device.
        """
        # Of the tensors: an engine may have been made on "cuda", which is cuda:0.
        for name, wanted, found in (
            ("board_size", self.board_size, engine.board_size),
            ("device", self.model.device, engine.turn.device),
        ):
            if found != wanted:
                raise ValueError(f"{name} must be {wanted}, the model's, got {found}.")
        tables = tuple(table.unsqueeze(1) for table in self._tables_of(engine))
        tokens, kind = last_tokens(engine).unsqueeze(1), self.model.device.type
        with torch.autocast(kind, torch.bfloat16, self.dtype == torch.bfloat16):
            logits, outcome = self.model.outlook(tokens, tables)
        results = 2 * outcome.win[:, 0].float() - 1
        scores = outcome.score[:, 0].float()
        value = worth(results, scores, engine.board_size, self._score_weight)
        return Evaluation(logits[:, 0, : engine.vocabulary.pass_token + 1].float(), value)

    def places(self) -> object:
        """See ``Evaluator``."""
        return tuple(weight.data_ptr() for weight in self.model.parameters())


def check_evaluator(model: GameModel) -> None:
    """Raise SettingError unless a model can tell a search of any position; see ModelEvaluator."""
    size = board_size_of(model.vocab_size)
    problems = []
    if model.vocab_size != num_tokens(size):
        must = "be n² + 3 of an n×n board, for a search"
        problems.append(Problem("vocab_size", model.vocab_size, must))
    if model.outcome is None:
        must = "be win_and_score, for a search"
        problems.append(Problem("outcome", model.settings.outcome, must))
    names = list(dict.fromkeys(model.settings.mixers()))
    if names != ["identity"]:
        must = "be identity, for a search, which meets positions in no order"
        problems.append(Problem("mixer", ", ".join(names), must))
    if model.features is None or model.features.init_state(1) is not None:
        must = "be board, for a search, which remembers no moves"
        problems.append(Problem("features", model.settings.features, must))
    if problems:
        raise SettingError(*problems)


class PlayoutEvaluator:
    """Games to the end say who will win, and every move is equally likely.

    Args:
        num_games: of each position.
        player: a built-in player's name, who plays both colours.
        seed: any whole number.
        score_weight: share of the score in the value, see ``worth``.

    Raises:
        SettingError: if an argument is not what is said here.
    """

    def __init__(
        self,
        num_games: int = 16,
        player: str = "rules",
        seed: int = 0,
        score_weight: float = 0.0,
    ) -> None:
        self.num_games = whole_number("num_games", num_games, 1)
        self.player, self.seed = player, whole_number("seed", seed)
        _SHARE("score_weight", score_weight)
        self._score_weight = float(score_weight)

    @property
    def score_weight(self) -> float:
        """Share of the score in the value."""
        return self._score_weight

    @torch.no_grad()
    def evaluate(self, engine: GPUGoEngine) -> Evaluation:
        """See ``Evaluator``; the mean of the games' ends."""
        # Of one number, so that a position is worth the same wherever it stands in the batch.
        numbers = torch.zeros_like(engine.turn)
        played = play_out(
            engine, self.num_games, player=self.player, seed=self.seed, numbers=numbers
        )
        colour = 1 - 2 * engine.turn.double()
        results = colour * (2 * played.win_rates - 1)
        scores = colour * played.scores
        value = worth(results, scores, engine.board_size, self._score_weight).float()
        logits = torch.zeros(
            engine.batch_size, engine.vocabulary.pass_token + 1, device=engine.device
        )
        return Evaluation(logits, value)

    def places(self) -> object:
        """See ``Evaluator``; nothing is read but the positions."""
        return None
