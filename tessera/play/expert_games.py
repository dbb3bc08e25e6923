"""Games that a search plays against itself, in slots that never wait, and what is learnt from them.

Shapes: B slots (games at once), P = n² points.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tessera.accelerator import current
from tessera.go import GPUGoEngine, Rules, play_out
from tessera.go.branching import tensors_of
from tessera.go.features import board_rows
from tessera.go.play import one_thread
from tessera.go.players import get_player
from tessera.go.randomness import BEGINNING, MOVE, SELFPLAY, below, draw, mix, random_words
from tessera.model.graphs import Capture, cause
from tessera.play.evaluator import Evaluator, last_tokens
from tessera.play.game_tally import GameTally
from tessera.play.position_ring import PositionRing
from tessera.play.rival import Rival
from tessera.play.search import GumbelSearch, Searched
from tessera.play.sensible import sensible_moves

_logger = logging.getLogger(__name__)

_RANKS_APART = 2**40  # games of one process; none plays so many
_OPENING_PLAYER = "rules"
_GAIN, _MOST = 10.0, 3.0  # points that make a first move e times likelier; exponents, at most


class _Answer(NamedTuple):
    """A search's answer where a graph may read it, whoever else writes over it."""

    action: Tensor
    action_weights: Tensor
    value: Tensor
    prior_logits: Tensor


@dataclass(frozen=True, slots=True)
class GamesSettings:
    """How games are played and which of their positions are kept.

    Args:
        slots: B, games at once.
        full_share: of the plies that are searched in full, and whose positions are kept; the others
            are searched fast, to get on.
        opening_plies: half of the games begin with up to so many plies of the rule-based player.
        temperature_plies: plies whose moves are drawn from what the search would play; later ones
            are its choice.
        playouts: games to the end of every position, as long as playouts are learnt from.
        rows: of the ring of positions, B each.
        seed: any whole number.
        against: so many of the slots, the last ones, are played against another.
    """

    slots: int
    full_share: float
    opening_plies: int
    temperature_plies: int
    playouts: int
    rows: int
    seed: int
    against: int = 0


class ExpertGames:
    """B games at a time; a game that ends makes room in its slot for the next number.

    A ply of all slots is a pure function of what ``tensors`` holds, of ``plies`` and of the
    searches. On a GPU with kernels it is a search and a CUDA graph, and nothing waits.

    Args:
        full: searches the plies that are learnt from.
        fast: the others.
        settings: how.
        board_size: n.
        rules: of every game.
        device: where.
        backend: of the engine.
        rank: of this process, whose games have numbers of their own.
        opponent: whom ``settings.against`` slots are played against, see ``Rival``; such a slot is
            the search's alone as long as ``rival.is_there`` is False.

    Attributes:
        engine: the games.
        rival: the opponent; None if there is none.
        ring: the positions.
        tally: what may be told of the games.
        plies: how many were played in every slot.
        written: how many rows of the ring were written, as the host knows.
    """

    def __init__(
        self,
        full: GumbelSearch,
        fast: GumbelSearch,
        settings: GamesSettings,
        *,
        board_size: int,
        rules: Rules,
        device: torch.device,
        backend: str = "auto",
        rank: int = 0,
        opponent: Evaluator | None = None,
    ) -> None:
        self.full, self.fast, self.settings = full, fast, settings
        slots = settings.slots
        self.engine = GPUGoEngine(slots, device, board_size, rules, backend)
        limit = self.engine.max_moves
        self.ring = PositionRing(settings.rows, slots, board_size, limit, device)
        self.tally = GameTally(slots, limit, device)
        self.numbers = torch.arange(slots, device=device) + rank * _RANKS_APART
        self.openings = torch.zeros_like(self.numbers)  # plies of the rule-based player
        self.begun = torch.zeros_like(self.numbers)  # rows before the first one of the game
        self.next_number = self.numbers.new_full((), slots + rank * _RANKS_APART)
        self._player = get_player(_OPENING_PLAYER)
        self.rival: Rival | None = None
        if opponent is not None:
            self.rival = Rival(opponent, self.engine, settings.against)
        self._answer: _Answer | None = None
        self._graphs: dict[str, torch.cuda.CUDAGraph] = {}
        self._run_once: set[str] = set()
        self._is_possible = True  # to capture
        self.plies = self.written = 0
        self._has_begun = False

    # What is kept.

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is kept on the device, by name; the very tensors."""
        own = {
            name: getattr(self, name) for name in ("numbers", "openings", "begun", "next_number")
        }
        sets, others = tensors_of(self.engine)
        games = {f"game_{k}": tensor for k, tensor in enumerate((*sets, *others))}
        ring = {f"ring_{name}": tensor for name, tensor in self.ring.tensors.items()}
        tally = {f"tally_{name}": tensor for name, tensor in self.tally.tensors.items()}
        return {**own, **games, **ring, **tally}

    def saved(self) -> dict[str, Any]:
        """Where all games stand, as tensors and whole numbers."""
        counts = {"plies": self.plies, "written": self.written}
        return {**counts, **self.tensors()} if self._has_begun else {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what ``saved`` returned."""
        self.plies, self.written, self._has_begun = state["plies"], state["written"], True
        for name, tensor in self.tensors().items():
            tensor.copy_(state[name])
        self.engine.forget_found()

    # What is played.

    @torch.no_grad()
    def launch(self) -> None:
        """Launch the kernels of a ply on games that nobody needs; keep nothing of it."""
        own, settings = self.engine, self.settings
        engine = GPUGoEngine(
            settings.slots, own.device, own.board_size, own.rules, own.backend, own.skip_settled
        )
        sensible_moves(engine)
        engine.get_legal_mask()
        board_rows(engine)
        engine.ownership()
        engine.play_batch(torch.full_like(engine.turn, engine.vocabulary.pass_token))
        play_out(engine, settings.playouts, seed=settings.seed, numbers=self.numbers)

    @torch.no_grad()
    def begin(self) -> None:
        """Let the slots be at all stages of games, unless they are already."""
        if self._has_begun:
            return
        self._has_begun = True
        self._scatter()

    @torch.no_grad()
    def begin_others(self, rank: int) -> None:
        """Go on with what was kept, but with games of one's own: those kept are another process's.

        Args:
            rank: of this process, not 0, whose games were kept.
        """
        first = self.next_number + rank * _RANKS_APART
        self.numbers.copy_(first + torch.arange(len(self.numbers), device=first.device))
        self.next_number.copy_(first + len(self.numbers))
        self.engine.reset()
        self._scatter()
        self.begun.copy_(self.ring.written.expand_as(self.begun))

    def _scatter(self) -> None:
        """Let new games in all slots be at all stages."""
        seed, engine = self.settings.seed, self.engine
        words = random_words(seed, self.numbers, 0, BEGINNING)
        moves = engine.vocabulary.num_points
        first = below(mix(words), torch.full_like(words, moves))
        self.openings.copy_(torch.maximum(self._opening_lengths(self.numbers), first))
        for ply in range(moves):
            chosen = self._player.choose(engine, self._words(MOVE)).moves
            waits = (ply >= first) | engine.is_game_over()
            engine.play_batch(chosen.masked_fill(waits, engine.vocabulary.pad_token))
        self._take_next(engine.is_game_over())

    def is_full(self, ply: int) -> bool:
        """Whether this ply of all slots is searched in full, a hash of its number."""
        word = random_words(self.settings.seed, torch.tensor(ply), 0, SELFPLAY)
        share = (int(word) % 2**32) / 2**32
        return share < self.settings.full_share

    @torch.no_grad()
    def play_out(self) -> None:
        """One ply of the rule-based player in every slot; playouts say what is kept of it."""
        self._step("playouts", self._playout_ply)
        self.written += 1
        self.plies += 1

    @torch.no_grad()
    def play(self) -> None:
        """One ply of the search in every slot; kept if it is searched in full."""
        is_full = self.is_full(self.plies)
        search = self.full if is_full else self.fast
        with one_thread():
            self._take(search.run(self.engine, self._words(SELFPLAY)))
            self._step("full" if is_full else "fast", partial(self._ply, is_full))
        self.written += is_full
        self.plies += 1

    def end_playouts(self) -> None:
        """From now on the ends of games are learnt from; of positions so far playouts spoke."""
        self.begun.copy_(self.ring.written.expand_as(self.begun))

    # Inside.

    def _words(self, purpose: int) -> Tensor:
        return random_words(self.settings.seed, self.numbers, self.engine.move_number, purpose)

    def _opening_lengths(self, numbers: Tensor) -> Tensor:
        """How many plies each game begins with at random: none in half of them."""
        words = random_words(self.settings.seed, numbers, 1, BEGINNING)
        longest = torch.full_like(words, self.settings.opening_plies)
        return (1 + below(mix(words), longest)).clamp(max=longest) * (words & 1)

    def _take(self, found: Searched) -> None:
        """Put the answer where the graphs read it."""
        names = _Answer._fields
        if self._answer is None:
            self._answer = _Answer(*(getattr(found, name).clone() for name in names))
            return
        for own, name in zip(self._answer, names, strict=True):
            own.copy_(getattr(found, name))

    def _step(self, kind: str, run: Callable[[], None]) -> None:
        """Run, or replay what ran before: the second time it is captured, where that can be."""
        if kind in self._graphs:
            self._graphs[kind].replay()
            return
        can_capture = self._is_possible and self.engine.backend == "triton"
        if kind in self._run_once and can_capture and self.numbers.is_cuda:
            torch.cuda.synchronize(self.numbers.device)
            graph = torch.cuda.CUDAGraph()
            try:
                with current(self.numbers.device), Capture(graph):
                    run()
            except RuntimeError as error:
                self._is_possible = False
                _logger.warning("games are played one kernel at a time: %s", cause(error))
            else:
                self._graphs[kind] = graph
                graph.replay()
                return
        self._run_once.add(kind)
        run()

    def _playout_ply(self) -> None:
        engine, games = self.engine, self.settings.playouts
        words = self._words(MOVE)
        chosen = self._player.choose(engine, words).moves
        played = play_out(engine, games, seed=self.settings.seed, numbers=words)
        colour = 1 - 2 * engine.turn.float()
        wins = played.win_rates.float()
        scores = colour * played.scores.float()
        self.ring.write(
            **self._position(),
            weights=_improved(played.first_moves, colour[:, None] * played.move_scores, scores),
            actions=chosen.clamp(max=engine.vocabulary.pass_token),
            values=colour * (2 * wins - 1),
            wins=torch.where(engine.turn == 0, wins, 1 - wins),
            scores=scores,
            owners=(played.ownership.float() * colour[:, None, None] * 127).round(),
        )
        engine.play_batch(chosen)
        self._take_next(engine.is_game_over())

    def _ply(self, is_kept: bool) -> None:
        engine, answer = self.engine, self._answer
        assert answer is not None
        allowed = answer.prior_logits > -torch.inf
        words = mix(self._words(SELFPLAY))
        drawn = draw(answer.action_weights.masked_fill(~allowed, 0), allowed, words)
        is_early = engine.move_number < self.settings.temperature_plies
        moves = torch.where(is_early, drawn, answer.action)
        is_opening = engine.move_number < self.openings
        opening = self._player.choose(engine, self._words(MOVE)).moves
        weights, is_other = answer.action_weights, is_opening
        if self.rival is not None:
            is_theirs = self.rival.is_to_move(engine, self.numbers) & ~is_opening
            theirs = self.rival.choose(engine, allowed, mix(words), is_early, moves)
            moves = torch.where(is_theirs, theirs, moves)
            # Of these positions no policy is learnt.
            weights, is_other = weights.masked_fill(is_theirs[:, None], 0), is_opening | is_theirs
        if is_kept:
            self.ring.write(**self._position(), weights=weights, actions=moves, values=answer.value)
        self.tally.ply(answer.prior_logits, answer.action_weights, allowed, moves, ~is_other)
        engine.play_batch(torch.where(is_opening, opening, moves))
        # Before the last ply of an opening nothing was the search's, and an end would be chance.
        self.begun.copy_(
            torch.where(engine.move_number <= self.openings, self.ring.written, self.begun)
        )
        over, score = engine.is_game_over(), engine.score()
        ended = self.ring.end(over, self.begun, score, engine.ownership())
        self.tally.end(engine, over, score, ended)
        self._take_next(over)

    def _position(self) -> dict[str, Tensor]:
        """What a row of the ring says of where the games stand."""
        engine = self.engine
        return {"tokens": last_tokens(engine), "rows": board_rows(engine), "turns": engine.turn}

    def _take_next(self, over: Tensor) -> None:
        """Begin the next games in the slots whose games are over."""
        following = self.next_number + over.cumsum(0) - 1
        self.numbers.copy_(torch.where(over, following, self.numbers))
        self.next_number += over.sum()
        self.openings.copy_(torch.where(over, self._opening_lengths(self.numbers), self.openings))
        self.begun.copy_(torch.where(over, self.ring.written, self.begun))
        self.engine.reset(over)


def _improved(counts: Tensor, move_scores: Tensor, scores: Tensor) -> Tensor:
    """What a player a little better than the one of the playouts would play, (B, P + 1) float32.

    Each first move as often as it was played, times the exponential of what it gained over the mean
    in units of ``_GAIN`` points.
    """
    gained = ((move_scores - scores[:, None]) / _GAIN).nan_to_num(0).clamp(-_MOST, _MOST)
    weights = counts * gained.exp()
    total = weights.sum(1, keepdim=True)
    passes = torch.zeros_like(weights)
    passes[:, -1] = 1
    return torch.where(total > 0, weights / total.clamp(min=1e-9), passes).float()
