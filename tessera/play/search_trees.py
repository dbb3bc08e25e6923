"""The trees of a search, one of each game, as tensors: every simulation grows each by a node.

Shapes: B games, S simulations, N = S + 1 nodes of each tree, the root is 0; A = n² + 1 moves.
A node's place in a flat tensor is game · N + node.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.accelerator import memory_problem
from tessera.go import GPUGoEngine
from tessera.go.bitboard import as_moves
from tessera.go.branching import copy_games, kind_of
from tessera.play.evaluator import Evaluator, worth
from tessera.play.gumbel import Moves, Sigma, next_inside
from tessera.play.sensible import sensible_moves

_MOVE_BYTES = 6  # of each move at each node: a log-prior and a child


class Trees:
    """Trees whose nodes hold positions; no method waits for the device in Triton.

    Args:
        engine: of B games with the board, rules and backend of those that are searched.
        num_simulations: S.
        evaluator: is asked of every new node.
        sigma: see ``Sigma``.
        passes: see ``GumbelSearch``.
        first_pass: see there, too.

    Attributes:
        leaves: an engine of B games, the positions that are evaluated next.
        sigma: as given.

    Raises:
        MemoryError: if the device has less memory than the nodes take.
    """

    def __init__(
        self,
        engine: GPUGoEngine,
        num_simulations: int,
        evaluator: Evaluator,
        sigma: Sigma,
        passes: str,
        first_pass: int,
    ) -> None:
        self._evaluator, self.sigma = evaluator, sigma
        self._passes, self._first_pass = passes, first_pass
        games, nodes = engine.batch_size, num_simulations + 1
        moves = engine.vocabulary.pass_token + 1
        each = engine.rules.bytes_per_game(engine.board_size) + _MOVE_BYTES * moves
        if problem := memory_problem(games * nodes * each, engine.device):
            asked = f"num_simulations (={num_simulations}) in {games} games"
            raise MemoryError(f"out of memory: {asked} need {problem}.")
        self.leaves = GPUGoEngine(games, *kind_of(engine))
        # Where nothing is looked at below the root, no position is kept.
        self._nodes = GPUGoEngine(games * nodes, *kind_of(engine)) if num_simulations else None

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(games, nodes, *shape, dtype=dtype, device=engine.device)

        self._log_priors = zeros(moves)
        self._children = zeros(moves, dtype=torch.int16)  # the root, which is no child, is none
        self._visits, self._totals = zeros(), zeros()  # values as the root's player sees them
        self._raw, self._colour = zeros(), zeros()  # 1 where the root's player moves, -1 elsewhere
        self._is_over = zeros(dtype=torch.bool)
        self._games = torch.arange(games, device=engine.device)
        self._first = self._games * nodes
        self._numbers = torch.arange(nodes, device=engine.device)

    def begin(self) -> None:
        """Plant new trees at the positions that ``leaves`` holds."""
        for tensor in (self._children, self._visits, self._totals):
            tensor.zero_()
        self._root_turn = self.leaves.turn.clone()
        value = self._expand(0)
        self._visits[:, 0] = 1
        self._totals[:, 0] = value

    def at_root(self) -> Moves:
        """The moves at the roots."""
        return self._moves(self._games * 0)

    @property
    def num_nodes(self) -> int:
        """Nodes that a tree has room for, N."""
        return self._visits.shape[1]

    @property
    def root_values(self) -> Tensor:
        """(B,) float32, the mean value of all simulations and of the root's own evaluation."""
        return self._totals[:, 0] / self._visits[:, 0]

    def grow(self, node: int, moves: Tensor) -> None:
        """One simulation of each game, which makes ``node`` a leaf of its tree.

        Where it comes to a game's end that was there before, that is valued once more.

        Args:
            node: 1 to S, in this order.
            moves: (B,) int64, the moves at the roots.
        """
        assert self._nodes is not None
        parents, moves, on_path = self.descend(node, moves)
        leaves = self.leaves
        copy_games(self._nodes, self._first + parents, self._games, leaves)
        leaves.play_batch(moves)
        value = self._expand(node)
        at_end = self._is_over.gather(1, parents.unsqueeze(1))
        places = ((self._first + parents) * self._children.shape[2] + moves).unsqueeze(1)
        flat = self._children.view(-1, 1)
        before = flat.index_select(0, places.squeeze(1))
        flat.index_copy_(0, places.squeeze(1), torch.where(at_end, before, node))
        on_path[:, node] = ~at_end.squeeze(1)
        self._visits += on_path
        self._totals += on_path * (value * self._colour[:, node]).unsqueeze(1)

    def descend(self, node: int, moves: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Parent (B,) and move (B,) of each tree's new node, and the nodes on the way (B, N)."""
        if self.leaves.backend == "triton":
            from tessera.play.kernels.descent import descend

            return descend(self.tables(), moves, *self.sigma)
        at = self._games * 0
        on_path = (self._numbers == 0).repeat(len(at), 1)
        child = self._child(at, moves)
        # No path in a tree of so many nodes is longer.
        for _ in range(node - 1):
            goes_on = child > 0
            if not goes_on.any():
                break
            at = torch.where(goes_on, child, at)
            on_path |= self._numbers == at.unsqueeze(1)
            inside = next_inside(self._moves(at), self.sigma)
            moves = torch.where(goes_on, inside, moves)
            child = torch.where(goes_on, self._child(at, moves), 0)
        return at, moves, on_path

    def tables(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What a descent reads: log-priors, children, visits, totals, raw values and colours."""
        return (
            *(self._log_priors, self._children, self._visits),
            *(self._totals, self._raw, self._colour),
        )

    def _child(self, nodes: Tensor, moves: Tensor) -> Tensor:
        """The child (B,) int64 behind a move (B,) of a node (B,); 0 for none."""
        places = (self._first + nodes) * self._children.shape[2] + moves
        return self._children.view(-1).index_select(0, places).long()

    def _moves(self, nodes: Tensor) -> Moves:
        """The moves at a node (B,) of each tree."""
        at, here = self._first + nodes, nodes.unsqueeze(1)
        children = self._children.flatten(0, 1).index_select(0, at).long()
        visits = self._visits.gather(1, children) * (children > 0)
        means = self._totals.gather(1, children) / visits.clamp(min=1)
        return Moves(
            self._log_priors.flatten(0, 1).index_select(0, at),
            visits,
            means * self._colour.gather(1, here),
            self._raw.gather(1, here).squeeze(1),
        )

    def _expand(self, node: int) -> Tensor:
        """Make the positions of ``leaves`` a node; their values (B,) for who moves there."""
        leaves = self.leaves
        logits, value = self._evaluator.evaluate(leaves)
        over = leaves.is_game_over()
        # An evaluator that says no numbers must not choose illegal moves.
        value = torch.where(over, self._ends(over), value.nan_to_num(0.0).clamp(-1, 1))
        logits = logits.nan_to_num(0.0).clamp(-1e6, 1e6)
        allowed = self._allowed(over)
        self._log_priors[:, node] = logits.masked_fill(~allowed, -torch.inf).log_softmax(1)
        self._raw[:, node], self._is_over[:, node] = value, over
        self._colour[:, node] = 1 - 2 * (leaves.turn != self._root_turn).float()
        if self._nodes is not None:
            copy_games(leaves, self._games, self._first + node, self._nodes)
        return value

    def _ends(self, over: Tensor) -> Tensor:
        """What the score of each position is worth to who moves there, (B,) float32."""
        if self.leaves.backend == "torch" and not over.any():
            return torch.zeros_like(over, dtype=torch.float32)
        scores = self.leaves.score() * (1 - 2 * self.leaves.turn)
        return worth(scores.sign(), scores, self.leaves.board_size, self._evaluator.score_weight)

    def _allowed(self, over: Tensor) -> Tensor:
        """The moves (B, A) bool that are looked at; pass alone where the game is over."""
        leaves = self.leaves
        if self._passes == "sensible":
            moves = sensible_moves(leaves)
            moves[:, :-1] &= ~over.unsqueeze(1)
            moves[:, -1] |= over
            return moves
        rows = leaves.playable_rows() if leaves.skip_settled else None
        points = leaves.get_legal_mask() if rows is None else as_moves(rows)
        points[:, -1] = False
        points &= ~over.unsqueeze(1)
        is_free = leaves.move_number >= self._first_pass
        if self._passes == "last":
            is_free = torch.zeros_like(is_free)
        points[:, -1] = is_free | ~points.any(1)
        return points
