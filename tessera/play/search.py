"""A policy that a search has improved, for thousands of games at once: Gumbel AlphaZero.

Shapes: B games, P = n² points, A = P + 1 moves.
"""

from __future__ import annotations

import logging
import math
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor

from tessera.accelerator import current
from tessera.go import GPUGoEngine
from tessera.go.branching import copies, copy_games, kind_of
from tessera.go.contract import chosen_games, whole_numbers
from tessera.go.play import one_thread
from tessera.model.graphs import Capture, cause
from tessera.play.evaluator import Evaluator
from tessera.play.gumbel import (
    Sigma,
    completed,
    gumbel_noise,
    improved,
    next_at_root,
    visits_in_turn,
)
from tessera.play.search_trees import Trees
from tessera.setting_errors import SettingError, number, one_of, problems_of, whole

_logger = logging.getLogger(__name__)

PASSES = ("free", "last", "sensible")
_MOST_SIMULATIONS = 2**15 - 1  # a child's number has 16 bits
_FROM_0 = number("at least 0", lambda x: 0 <= x < math.inf)
_ALLOWED = {
    "num_simulations": whole(0, _MOST_SIMULATIONS),
    "num_considered": whole(1),
    "value_scale": _FROM_0,
    "max_visit": _FROM_0,
    "noise": _FROM_0,
    "passes": one_of(*PASSES),
    "first_pass": whole(0),
}


class Searched(NamedTuple):
    """What a search found; in a game that was not to be played it says pass, and 0.

    Attributes:
        action: (B,) int64, the move to play.
        action_weights: (B, P + 1) float32, what to learn from: the improved policy at the root,
            softmax(logits + sigma(completed Q)); illegal moves have 0.
        value: (B,) float32, -1 to 1, the root's value for the player to move, by the search.
        prior_logits: (B, P + 1) float32, log-probabilities of the evaluator's own policy in nats,
            without the moves that may not be played, which have minus infinity.
        q: (B,) float32, the completed Q of ``action``.
        raw_value: (B,) float32, the root's value by the evaluator alone.
        visits: (B, P + 1) int64, simulations that began with each move.
    """

    action: Tensor
    action_weights: Tensor
    value: Tensor
    prior_logits: Tensor
    q: Tensor
    raw_value: Tensor
    visits: Tensor


class GumbelSearch:
    """Searches positions of any number of games at once, and is the same bits each time.

    At the root the moves of the largest noise + logit are considered, and sequential halving finds
    the best of them; below it simulations follow the improved policy. Boards are in the nodes, so a
    move is legal there exactly if it is in the game, superko included; two passes or the move limit
    end a line, which is then worth its score.

    Where the engine plays in kernels on a GPU a whole search is one CUDA graph, replayed; or a part
    of the caller's, if that is capturing one.

    Args:
        evaluator: see there; of a model the weights may change between searches, in place.
        num_simulations: positions that are evaluated for a move, beside the root's; 0 for none,
            which leaves the evaluator's own policy.
        num_considered: moves at the root that are looked at, at most.
        value_scale: how much a value weighs beside a logit, the paper's c_scale.
        max_visit: the paper's c_visit: a value weighs as if a move had so many visits more.
        noise: scale of the Gumbel noise; 1 is what the paper improves a policy with, 0 plays the
            best.
        passes: free, a pass is a move like any other, or last, it is one only where there is no
            other (of an engine with ``skip_settled``: where all points are settled); sensible: of
            all moves only those of ``sensible_moves`` are looked at.
        first_pass: plies of a game before which it is so in any case.

    Raises:
        SettingError: with a problem for every setting that is out of range.

    Source: Danihelka et al. 2022; see ``gumbel``. The records are those of google-deepmind/mctx,
    whose ``gumbel_muzero_policy`` with ``qtransform_completed_by_mix_value(rescale_values=False)``
    it is, with positions in place of a model of the dynamics.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        num_simulations: int = 16,
        num_considered: int = 16,
        value_scale: float = 1.0,
        max_visit: float = 50.0,
        noise: float = 1.0,
        passes: str = "free",
        first_pass: int = 0,
    ) -> None:
        own = SimpleNamespace(
            **{name: value for name, value in locals().items() if name in _ALLOWED}
        )
        if problems := problems_of(own, _ALLOWED):
            raise SettingError(*problems)
        self.evaluator = evaluator
        self.num_simulations, self.num_considered = num_simulations, num_considered
        self.noise, self.passes, self.first_pass = float(noise), passes, first_pass
        self._sigma = Sigma(float(value_scale), float(max_visit))
        self._room: _Room | None = None
        self._num_rooms = 0
        self._is_possible = True  # to capture

    def prepare(self, engine: GPUGoEngine) -> int:
        """Make room for searches of as many games as an engine holds.

        Returns:
            Another number whenever it searches in other tensors, of which a graph holds the old.

        Raises:
            MemoryError: if the device has less memory than the trees take.
        """
        kind = (engine.batch_size, *kind_of(engine))
        if self._room is None or self._room.kind != kind:
            self._room = None  # whose memory is needed again
            trees = Trees(
                engine,
                self.num_simulations,
                self.evaluator,
                self._sigma,
                self.passes,
                self.first_pass,
            )
            turns = self._new_turns(engine.vocabulary.pass_token + 1).to(engine.device)
            self._room = _Room(kind, trees, turns)
            self._num_rooms += 1
        return self._num_rooms

    @torch.no_grad()
    def run(self, engine: GPUGoEngine, words: Tensor, is_playing: Tensor | None = None) -> Searched:
        """Search the positions of an engine's games, of which nothing is changed.

        Args:
            engine: the games; those that are over have pass as their move.
            words: (B,) int64, 64 random bits for each game, of which the noise is made.
            is_playing: (B,) bool, whose moves are wanted; None for all.

        Raises:
            ValueError: if a tensor has another shape or dtype.
            MemoryError: if the device has less memory than the trees take.
        """
        words = whole_numbers("words", words, (engine.batch_size,)).to(engine.device, torch.int64)
        playing = chosen_games(is_playing, engine.batch_size, engine.device)
        if is_playing is not None and engine.backend == "torch":
            return self._of_some(engine, words, playing.nonzero().squeeze(1))
        found = self._search(engine, words)
        return found if is_playing is None else _only(found, playing)

    def _of_some(self, engine: GPUGoEngine, words: Tensor, games: Tensor) -> Searched:
        """As ``run`` for these games (K,) alone."""
        whole = _nothing(engine)
        if len(games):
            found = self._search(copies(engine, games), words[games])
            for own, new in zip(whole, found, strict=True):
                own.index_copy_(0, games, new)
        return whole

    def _search(self, engine: GPUGoEngine, words: Tensor) -> Searched:
        self.prepare(engine)
        room = self._room
        assert room is not None
        everyone = torch.arange(engine.batch_size, device=engine.device)
        copy_games(engine, everyone, everyone, room.trees.leaves)
        is_alone = words.is_cuda and not torch.cuda.is_current_stream_capturing()
        if engine.device.type == "cpu":
            with one_thread():
                return self._find(room, words)
        if engine.backend != "triton" or not is_alone or not self._is_possible:
            return self._find(room, words)
        # What was captured of weights that have been moved reads where they no longer are.
        places = self.evaluator.places()
        if room.places != places:
            room.graph, room.is_warm, room.places = None, False, places
        if room.graph is None and room.is_warm:
            self._capture(room, words)
        if room.graph is None:
            # The first time compiles what a capture cannot.
            room.is_warm = True
            return self._find(room, words)
        room.words.copy_(words)
        room.graph.replay()
        return Searched(*(tensor.clone() for tensor in room.found))

    def _capture(self, room: _Room, words: Tensor) -> None:
        """Make the search a CUDA graph; if that fails, say so once and never try again."""
        graph, room.words = torch.cuda.CUDAGraph(), words.clone()
        try:
            with current(words.device), Capture(graph):
                room.found = self._find(room, room.words)
            room.graph = graph
        except RuntimeError as error:
            self._is_possible = False
            _logger.warning("moves are searched one kernel at a time: %s", cause(error))

    def _new_turns(self, num_moves: int) -> Tensor:
        """(most considered + 1, S) float32, see ``visits_in_turn``, by how many are considered."""
        most = min(self.num_considered, num_moves)
        turns = [visits_in_turn(count, self.num_simulations) for count in range(most + 1)]
        return torch.tensor(turns, dtype=torch.float32).view(most + 1, self.num_simulations)

    def _find(self, room: _Room, words: Tensor) -> Searched:
        """Search from the positions that the leaves of the trees hold."""
        trees, turns, sigma = room.trees, room.turns, self._sigma
        trees.begin()
        root = trees.at_root()
        noise = gumbel_noise(words, root.log_priors.shape[1]) * self.noise
        considered = (root.log_priors > -torch.inf).sum(1).clamp(max=len(turns) - 1)
        for simulation in range(self.num_simulations):
            wanted = turns[:, simulation].index_select(0, considered)
            trees.grow(simulation + 1, next_at_root(trees.at_root(), sigma, noise, wanted))
        root = trees.at_root()
        action = next_at_root(root, sigma, noise, root.visits.amax(1))
        return Searched(
            action,
            improved(root, sigma),
            trees.root_values,
            root.log_priors,
            completed(root).gather(1, action.unsqueeze(1)).squeeze(1),
            root.raw.clone(),
            root.visits.long(),
        )


class _Room:
    """The trees of so many games, and their search as a CUDA graph.

    Attributes:
        kind: of the games.
        trees: which hold the positions that are searched next.
        turns: (most considered + 1, S) float32, see ``visits_in_turn``.
        graph: None as long as there is none; it reads ``words`` and writes ``found``.
        is_warm: whether all that a graph would hold has been compiled.
        places: of what the graph reads, see ``Evaluator``.
    """

    words: Tensor
    found: Searched

    def __init__(self, kind: object, trees: Trees, turns: Tensor) -> None:
        self.kind, self.trees, self.turns = kind, trees, turns
        self.graph: torch.cuda.CUDAGraph | None = None
        self.is_warm, self.places = False, object()


def _nothing(engine: GPUGoEngine) -> Searched:
    """What is said of games that are not to be played."""
    games, last = engine.batch_size, engine.vocabulary.pass_token
    zeros = torch.zeros(games, last + 1, device=engine.device)
    weights = zeros.clone()
    weights[:, -1] = 1
    none, action = zeros[:, 0].clone(), torch.full_like(engine.turn, last)
    return Searched(action, weights, none, weights.log(), none.clone(), none.clone(), zeros.long())


def _only(found: Searched, playing: Tensor) -> Searched:
    """The same, and nothing of the other games."""
    last = found.action_weights.shape[1] - 1
    is_pass = torch.arange(last + 1, device=playing.device) == last
    mask = playing.unsqueeze(1)
    return Searched(
        torch.where(playing, found.action, last),
        torch.where(mask, found.action_weights, is_pass.float()),
        found.value * playing,
        torch.where(mask, found.prior_logits, is_pass.float().log()),
        found.q * playing,
        found.raw_value * playing,
        found.visits * mask,
    )
