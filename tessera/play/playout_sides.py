"""Sides that choose by playouts of the engine alone: flat Monte Carlo, and a plain tree search.

Shapes: K games, A = n² + 1 moves (pass is the last).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from tessera.go import GPUGoEngine, get_player, play_out
from tessera.go.bitboard import unpack
from tessera.go.branching import copies
from tessera.go.play import one_thread
from tessera.go.randomness import PLAYOUT, below, mix, random_words
from tessera.play.uct_tree import UctTree
from tessera.setting_errors import whole_number

_MOST_PLAYOUTS = 10_000_000
_PLAYER = "rules"  # who plays them out
_AT_ONCE = {"cpu": 2**12, "cuda": 2**16}  # playouts of one call
_TREE_BYTES = 2**31
_MOST_LEAVES, _LEAST_WAVES = 64, 8


class PlayoutSide(ABC):
    """A side that remembers nothing and asks playouts, of all games together.

    It never fills a true eye of its own, and passes where nothing else is left, or where the other
    side has just passed and the board as it stands is a win: what ends the game then.

    Args:
        num_playouts: N for each move, at least 1.

    Raises:
        SettingError: if ``num_playouts`` is out of range.
    """

    kind: str

    def __init__(self, num_playouts: int) -> None:
        self.num_playouts = whole_number(self.kind, num_playouts, 1, _MOST_PLAYOUTS)
        self.name = f"{self.kind}:{self.num_playouts}"

    def begin(self, engine: GPUGoEngine) -> None:  # noqa: B027
        """Nothing is remembered."""

    def see(self, engine: GPUGoEngine, tokens: Tensor) -> None:  # noqa: B027
        """Nothing is remembered."""

    @torch.no_grad()
    def moves(self, engine: GPUGoEngine, is_mine: Tensor, words: Tensor) -> Tensor:
        """See ``Contestant``."""
        games = is_mine.nonzero().squeeze(1)
        chosen = torch.zeros_like(words)
        with one_thread():
            for some in games.split(self._games_at_once(engine)):
                found = self._choose(copies(engine, some), words[some])
                chosen.index_copy_(0, some, found)
        return chosen

    def _games_at_once(self, engine: GPUGoEngine) -> int:
        return engine.batch_size

    def _choose(self, engine: GPUGoEngine, words: Tensor) -> Tensor:
        """A move in each of an engine's games (K,), all of which go on."""
        wins = engine.score() * (1 - 2 * engine.turn) > 0
        chosen = torch.full_like(words, engine.vocabulary.pass_token)
        going = (~((engine.passes == 1) & wins)).nonzero().squeeze(1)
        if going.numel():
            games = copies(engine, going)
            chosen[going] = self._best(games, candidates(games), words[going])
        return chosen

    @abstractmethod
    def _best(self, engine: GPUGoEngine, allowed: Tensor, words: Tensor) -> Tensor:
        """The best of the allowed moves (K, A) in each game."""


class FlatSide(PlayoutSide):
    """Flat Monte Carlo: N playouts, as many after each move; the highest share of wins is played.

    Of moves with the same share the one with the best mean score is.
    """

    kind = "playouts"

    def _best(self, engine: GPUGoEngine, allowed: Tensor, words: Tensor) -> Tensor:
        num_moves, count = allowed.sum(1), self.num_playouts
        order = (~allowed).byte().argsort(stable=True, dim=1)  # the allowed moves first
        # Which moves get one more where N is no multiple of their number is drawn.
        first = below(mix(words), num_moves)
        shape = allowed.shape
        numbers, points, areas = (words.new_zeros(shape) for _ in range(3))
        step = _AT_ONCE.get(engine.device.type, min(_AT_ONCE.values()))
        for start in range(0, len(words) * count, step):
            at = torch.arange(start, min(start + step, len(words) * count), device=engine.device)
            games, playouts = at // count, at % count
            nth = (first[games] + playouts) % num_moves[games]
            tokens = order[games, nth]
            leaves = copies(engine, games)
            leaves.play_batch(tokens)
            won, area = _results(leaves, random_words(0, words[games], playouts, PLAYOUT))
            mover = engine.turn[games]
            for table, counted in (
                (numbers, torch.ones_like(won)),
                (points, torch.where(mover == 0, won, 2 - won)),
                (areas, torch.where(mover == 0, area, -area)),
            ):
                table.index_put_((games, tokens), counted, accumulate=True)
        least = numbers.clamp(min=1).double()
        rates = points / least + areas / least / shape[1] * 1e-9
        return rates.masked_fill(numbers == 0, -torch.inf).argmax(1)


class TreeSide(PlayoutSide):
    """Plain UCT: a tree of N playouts, one new position each; the most visited move is played.

    An eighth of N positions, 64 at most, are played out together; a path counts as visited, and
    not yet won, as soon as it is walked, so that the next one goes elsewhere. Every move is tried
    once before any is tried again, then UCB1 decides. The tree is forgotten after the move.

    Source: Kocsis and Szepesvári 2006; Chaslot, Winands and van den Herik 2008 for walks at once.
    """

    kind = "uct"

    def _games_at_once(self, engine: GPUGoEngine) -> int:
        num_bytes = 4 * (self.num_playouts + 1) * (engine.board_size**2 + 4)
        return max(1, min(engine.batch_size, _TREE_BYTES // num_bytes))

    def _best(self, engine: GPUGoEngine, allowed: Tensor, words: Tensor) -> Tensor:
        tree = UctTree(allowed, self.num_playouts, engine.backend == "triton")
        at_once = max(1, min(_MOST_LEAVES, self.num_playouts // _LEAST_WAVES))
        for start in range(0, self.num_playouts, at_once):
            count = min(at_once, self.num_playouts - start)
            walks = tree.walk(count, _ties(words, start, allowed.shape[1]))
            games = torch.arange(len(words), device=words.device).repeat_interleave(count)
            leaves = copies(engine, games)  # each walk's in a place of its own, game by game
            lengths = walks.lengths.flatten()
            for ply in range(int(lengths.max())):
                moves = walks.moves[:, :, ply].flatten()
                leaves.play_batch(moves.where(ply < lengths, engine.vocabulary.pad_token))
            playouts = start + torch.arange(count, device=words.device).repeat(len(words))
            won, _ = _results(leaves, random_words(0, words[games], playouts, PLAYOUT))
            won = torch.where(engine.turn[games] == 0, won, 2 - won).view(-1, count)
            opened = candidates(leaves).view(-1, count, allowed.shape[1])
            is_over = leaves.is_game_over().view(-1, count)
            tree.open(walks.leaves(), opened, ~is_over)
            tree.count(walks, won)
        return tree.most_visited()


def candidates(engine: GPUGoEngine) -> Tensor:
    """(B, A) bool, the moves that fill no own true eye; pass only where there is no other."""
    (points,) = get_player("uniform").classes(engine)
    allowed = unpack(points).flatten(1)
    return torch.cat([allowed, ~allowed.any(1, keepdim=True)], 1)


def _results(leaves: GPUGoEngine, words: Tensor) -> tuple[Tensor, Tensor]:
    """One playout from each position: twice black's wins (B,), and its area minus white's."""
    played = play_out(leaves, 1, player=_PLAYER, numbers=words)
    return 2 * played.wins + played.draws, played.areas


def _ties(words: Tensor, start: int, num_moves: int) -> Tensor:
    """(K, A) float32 from 0 to 1, of each game its own."""
    moves = torch.arange(num_moves, device=words.device)
    drawn = random_words(start, words.unsqueeze(1) + moves, 0, PLAYOUT)
    return (drawn & 0xFFFFFF).float() / 0x1000000
