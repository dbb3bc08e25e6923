"""Gumbel AlphaZero's search for one position in plain Python, written from the paper.

Nothing here is shared with the search that it judges, its rules neither: trees are dicts, numbers
are float64, a position is tests.go's slow referee.

Source: Danihelka, Guez, Schrittwieser and Silver, "Policy improvement by planning with Gumbel"
(ICLR 2022): algorithm 2 (sequential halving with Gumbel), equations 7 and 8 (improved policy), 11
(c_visit, c_scale), 14 (action selection below the root) and 33 (v_mix); values are in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field

from tests.go.oracle import BLACK, Oracle

# Logits of all moves, and the value for who moves, of a grid and a player to move.
Evaluate = Callable[[tuple[str, ...], int], tuple[Sequence[float], float]]


@dataclass
class Position:
    """A game as it stands, by the slow referee."""

    oracle: Oracle
    plies: int
    max_moves: int
    komi: float

    def after(self, move: int) -> Position:
        oracle = copy(self.oracle)
        oracle.history, oracle.captured = set(oracle.history), list(oracle.captured)
        oracle.ko_refusals = 0
        oracle.play(move)
        return Position(oracle, self.plies + 1, self.max_moves, self.komi)

    def is_over(self) -> bool:
        return self.oracle.is_over() or self.plies >= self.max_moves

    def legal(self) -> list[int]:
        if self.is_over():
            return [self.oracle.size**2]
        return [move for move, is_legal in enumerate(self.oracle.legal()) if is_legal]

    def result(self) -> float:
        """1 if who is to move has won."""
        score = self.oracle.area() - self.komi
        won = 0.0 if score == 0 else math.copysign(1, score)
        return won if self.oracle.turn == 0 else -won


@dataclass
class Node:
    position: Position
    logits: dict[int, float]
    raw: float
    children: dict[int, Node] = field(default_factory=dict)
    values: list[float] = field(default_factory=list)  # all that came back, for who moves here

    def visits(self, move: int) -> int:
        return len(self.children[move].values) if move in self.children else 0

    def q(self, move: int) -> float:
        return -sum(self.children[move].values) / self.visits(move)

    def all_nodes(self) -> list[Node]:
        return [self, *(node for child in self.children.values() for node in child.all_nodes())]

    def priors(self) -> dict[int, float]:
        return softmax(self.logits)


def softmax(logits: dict[int, float]) -> dict[int, float]:
    most = max(logits.values())
    shares = {move: math.exp(logit - most) for move, logit in logits.items()}
    total = sum(shares.values())
    return {move: share / total for move, share in shares.items()}


class SlowSearch:
    """The search of one position; see ``GumbelSearch`` for the arguments."""

    def __init__(
        self, evaluate: Evaluate, num_considered: int, value_scale: float, max_visit: float
    ) -> None:
        self.evaluate, self.num_considered = evaluate, num_considered
        self.value_scale, self.max_visit = value_scale, max_visit

    def run(self, position: Position, num_simulations: int, noise: Sequence[float]) -> Node:
        """The tree; ``best`` and ``improved`` tell what it found."""
        root = self.node(position)
        root.values.append(root.raw)
        # Moves that are left, how many of them go on into the next pass, and the passes to come.
        left = list(root.logits)
        quota = min(self.num_considered, len(left))
        rounds = max(1, math.ceil(math.log2(max(2, quota))))
        while self.simulations(root) < num_simulations:
            for _ in range(max(1, num_simulations // (rounds * quota))):
                again = []
                for _ in range(quota):
                    if self.simulations(root) == num_simulations:
                        return root
                    move = max(left, key=lambda move: (self.g_score(root, move, noise), -move))
                    left.remove(move)
                    again.append(move)
                    self.simulate(root, move)
                left = again
            quota = max(min(2, len(left)), quota // 2)
        return root

    def best(self, root: Node, noise: Sequence[float]) -> int:
        most = max(map(root.visits, root.logits))
        tried = [move for move in root.logits if root.visits(move) == most]
        return max(tried, key=lambda move: (self.g_score(root, move, noise), -move))

    def improved(self, node: Node) -> dict[int, float]:
        """The policy softmax(logits + sigma(completed Q))."""
        logits = {move: logit + self.sigma(node, move) for move, logit in node.logits.items()}
        return softmax(logits)

    def completed(self, node: Node, move: int) -> float:
        if node.visits(move):
            return node.q(move)
        visited = [other for other in node.logits if node.visits(other)]
        if not visited:
            return node.raw
        priors, total = node.priors(), sum(map(node.visits, visited))
        mean = sum(priors[other] * node.q(other) for other in visited)
        mean /= sum(priors[other] for other in visited)
        return (node.raw + total * mean) / (1 + total)

    def sigma(self, node: Node, move: int) -> float:
        most = max(map(node.visits, node.logits))
        return (self.max_visit + most) * self.value_scale * self.completed(node, move)

    def g_score(self, root: Node, move: int, noise: Sequence[float]) -> float:
        return noise[move] + root.logits[move] + self.sigma(root, move)

    def node(self, position: Position) -> Node:
        logits, value = self.evaluate(position.oracle.grid, position.oracle.turn)
        if position.is_over():
            value = position.result()
        return Node(position, {move: logits[move] for move in position.legal()}, value)

    def simulations(self, root: Node) -> int:
        return len(root.values) - 1

    def simulate(self, root: Node, move: int) -> None:
        path = [root]
        while not path[-1].position.is_over():
            node = path[-1]
            if len(path) > 1:
                move = self.next_inside(node)
            if move not in node.children:
                node.children[move] = self.node(node.position.after(move))
                path.append(node.children[move])
                break
            path.append(node.children[move])
        value = path[-1].raw
        for node in reversed(path):
            node.values.append(value)
            value = -value

    def next_inside(self, node: Node) -> int:
        total, policy = sum(map(node.visits, node.logits)), self.improved(node)
        return max(node.logits, key=lambda m: (policy[m] - node.visits(m) / (1 + total), -m))


def grid_number(grid: tuple[str, ...], turn: int) -> int:
    """A number for every grid and player to move."""
    number = turn
    for stone in grid:
        number = 3 * number + (1 if stone == BLACK else 2 if stone != "." else 0)
    return number
