"""Sides that choose by playouts of the engine alone: flat Monte Carlo, and a plain tree search.

Shapes: K games, A = n² + 1 moves (pass is the last), W leaves at once, D moves of a path.
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
from tessera.setting_errors import whole_number

_MOST_PLAYOUTS = 10_000_000
_PLAYER = "rules"  # who plays them out
_AT_ONCE = {"cpu": 2**12, "cuda": 2**16}  # playouts of one call
_TREE_BYTES = 2**31
_EXPLORATION = 0.7  # of UCB1's term; wins count 1
_MOST_LEAVES, _LEAST_WAVES = 64, 8
_MOST_DEPTH = 96


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
        tree = _Tree(allowed, self.num_playouts)
        at_once = max(1, min(_MOST_LEAVES, self.num_playouts // _LEAST_WAVES))
        for start in range(0, self.num_playouts, at_once):
            count = min(at_once, self.num_playouts - start)
            ties = _ties(words, start, allowed.shape[1])
            paths = [tree.walk(ties) for _ in range(count)]
            # (K, W, D), and each walk's leaf in a place of its own, game by game.
            depth = max(len(path.moves) for path in paths)
            pad = engine.vocabulary.pad_token
            moves = torch.stack([path.padded_moves(depth, pad) for path in paths], 1).flatten(0, 1)
            games = torch.arange(len(words), device=words.device).repeat_interleave(count)
            leaves = copies(engine, games)
            for ply in range(depth):
                leaves.play_batch(moves[:, ply])
            playouts = start + torch.arange(count, device=words.device).repeat(len(words))
            won, _ = _results(leaves, random_words(0, words[games], playouts, PLAYOUT))
            won = torch.where(engine.turn[games] == 0, won, 2 - won).view(-1, count)
            opened = candidates(leaves).view(-1, count, allowed.shape[1])
            is_over = leaves.is_game_over().view(-1, count)
            for nth, path in enumerate(paths):
                tree.open(path.nodes[-1], opened[:, nth], ~is_over[:, nth])
                tree.count(path, won[:, nth])
        return tree.most_visited()


class _Path:
    """A walk from the root of every game's tree to a leaf.

    Attributes:
        moves: D tensors (K,); PAD where the walk had ended.
        nodes: D + 1 tensors (K,), which stay where the walk had ended; the last are the leaves.
        steps: D tensors (K,) bool, True where the walk went on.
    """

    def __init__(self, root: Tensor) -> None:
        self.moves: list[Tensor] = []
        self.nodes = [root]
        self.steps: list[Tensor] = []

    def padded_moves(self, depth: int, pad: int) -> Tensor:
        """(K, depth): the moves, PAD after them."""
        rows = [
            move.masked_fill(~step, pad) for move, step in zip(self.moves, self.steps, strict=True)
        ]
        rows += [torch.full_like(self.nodes[0], pad)] * (depth - len(rows))
        return torch.stack(rows, 1) if rows else self.nodes[0].new_zeros(len(self.nodes[0]), 0)


class _Tree:
    """K trees of the same size, side by side.

    Args:
        allowed: (K, A), the moves at the roots.
        num_playouts: N, nodes beside the root.
    """

    def __init__(self, allowed: Tensor, num_playouts: int) -> None:
        games, moves = allowed.shape
        device = allowed.device
        self._games = torch.arange(games, device=device)
        size = num_playouts + 1
        # The node that a move leads to; -1 for none yet, -2 where the move is not allowed.
        self._child = torch.full((games, size, moves), -2, dtype=torch.int32, device=device)
        self._visits = torch.zeros(games, size, dtype=torch.int64, device=device)
        # Twice the wins of the player whose move led there.
        self._points = torch.zeros_like(self._visits)
        self._is_open = torch.zeros(games, size, dtype=torch.bool, device=device)
        self._size = torch.ones(games, dtype=torch.int64, device=device)
        self.open(torch.zeros_like(self._games), allowed, torch.ones_like(self._games).bool())

    def open(self, nodes: Tensor, allowed: Tensor, is_going: Tensor) -> None:
        """Let walks go on from these nodes (K,), by the allowed moves (K, A).

        Args:
            nodes: (K,) int64.
            allowed: (K, A) bool.
            is_going: (K,) bool, False where the game is over; there walks end.
        """
        is_first = (is_going & ~self._is_open[self._games, nodes]).unsqueeze(1)
        before = self._child[self._games, nodes]
        after = torch.where(is_first & allowed, -1, before).to(torch.int32)
        self._child[self._games, nodes] = after
        self._is_open[self._games, nodes] |= is_going

    def walk(self, ties: Tensor) -> _Path:
        """Go to a leaf in every tree, counting the visits; new leaves are made.

        Args:
            ties: (K, A) float32, 0 to 1, which of several moves that nobody tried is first.
        """
        games, node = self._games, torch.zeros_like(self._games)
        self._visits[:, 0] += 1
        path, goes = _Path(node), self._is_open[:, 0]
        for _ in range(_MOST_DEPTH):
            children = self._child[games, node].long()
            at = children.clamp(min=0)
            visits = self._visits.gather(1, at).masked_fill(children < 0, 0)
            counts = visits.clamp(min=1).float()
            log = self._visits[games, node].clamp(min=1).float().log().unsqueeze(1)
            worth = self._points.gather(1, at) / (2 * counts) + _EXPLORATION * (log / counts).sqrt()
            worth = torch.where(visits == 0, 1e9 * (1 + ties), worth)
            move = worth.masked_fill(children == -2, -torch.inf).argmax(1)
            child = children.gather(1, move.unsqueeze(1)).squeeze(1)
            is_new = goes & (child == -1)
            child = torch.where(is_new, self._size, child)
            self._size += is_new
            self._child[games, node, move] = torch.where(
                is_new, child, self._child[games, node, move].long()
            ).to(torch.int32)
            node = torch.where(goes, child, node)
            self._visits[games, node] += goes
            path.moves.append(move)
            path.steps.append(goes)
            path.nodes.append(node)
            goes = goes & self._is_open[games, node]
            if not bool(goes.any()):
                break
        return path

    def count(self, path: _Path, won: Tensor) -> None:
        """Add the end of the game behind a walk's leaf: (K,) twice the wins of who is to move."""
        for depth, (node, step) in enumerate(zip(path.nodes[1:], path.steps, strict=True)):
            points = won if depth % 2 == 0 else 2 - won
            self._points[self._games, node] += points * step

    def most_visited(self) -> Tensor:
        """The move (K,) at each root that was walked most; of several the one that won most."""
        children = self._child[:, 0].long()
        at = children.clamp(min=0)
        visits = self._visits.gather(1, at) * (2 * self._visits.shape[1] + 1)
        worth = visits + self._points.gather(1, at)
        return worth.masked_fill(children < 0, -1).masked_fill(children == -2, -2).argmax(1)


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
