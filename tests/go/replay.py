"""Recorded games played again, ply by ply: by the plain engine, and by sgfmill beside it."""

from __future__ import annotations

import torch
from sgfmill.boards import Board

from tessera.go import GameRecord, GPUGoEngine, Rules, get_player
from tessera.go.randomness import MOVE, random_words

Grid = tuple[tuple[str | None, ...], ...]


def replay(record: GameRecord, full_every: int) -> int:
    """Assert that both referees agree with everything in a record on the CPU.

    The plain engine says every legal point, log-probability, entropy, capture and result; sgfmill
    every board, whether the move is legal, captures and results, and every legal point each
    ``full_every`` plies.

    Returns:
        how many plies were replayed.
    """
    assert record.legal is not None
    games, size = len(record.numbers), record.board_size
    engine = GPUGoEngine(games, "cpu", size, record.rules, "torch")
    player = get_player(record.player)
    referees = [_Referee(size, record.rules) for _ in range(games)]
    lengths = record.lengths.tolist()
    for ply in range(max(lengths)):
        going = ~engine.is_game_over()
        assert torch.equal(going, record.lengths > ply), f"ply {ply}"
        legal = engine.legal_rows().t()
        assert torch.equal(legal[going], record.legal[going, ply]), f"ply {ply}"
        choice = player.choose(engine, random_words(record.seed, record.numbers, ply, MOVE))
        for name in ("log_probs", "entropies"):
            expected, found = getattr(choice, name)[going], getattr(record, name)[going, ply]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        moves = torch.where(going, record.moves[:, ply].long(), 0)
        assert torch.equal(choice.moves[going], moves[going]), f"ply {ply}"
        turn = engine.turn.tolist()
        engine.play_batch(moves, check=True)
        captures = record.captures[:, ply]
        assert torch.equal(engine.last_captures[going], captures[going].long()), f"ply {ply}"
        boards = engine.boards
        stones = (boards[:, 0].int() + 2 * boards[:, 1].int()).tolist()
        for game in going.nonzero().squeeze(1).tolist():
            referee, where = referees[game], f"game {game}, ply {ply}"
            if (ply + game) % full_every == 0:
                points = {token for token in range(size**2) if referee.is_legal(token, turn[game])}
                assert points == _points(legal[game].tolist()), where
            assert referee.is_legal(int(moves[game]), turn[game]), where
            assert referee.play(int(moves[game]), turn[game]) == int(captures[game]), where
            assert referee.rows() == stones[game], where
    assert torch.equal(engine.score(), record.results)
    areas = [referee.board.area_score() - record.rules.komi for referee in referees]
    assert record.results.tolist() == areas
    return sum(lengths)


class _Referee:
    """One game on sgfmill's board, whose row 0 is the bottom row, with ko rules of our own."""

    def __init__(self, size: int, rules: Rules) -> None:
        self.size, self.rules = size, rules
        self.board = Board(size)
        self.ko_point: tuple[int, int] | None = None
        self.seen: set[tuple[Grid, int]] = set()
        self._remember(0)

    def is_legal(self, token: int, colour: int) -> bool:
        """Whether black (0) or white (1) may play there now."""
        if token == self.size**2:
            return True
        row, column = self._place(token)
        if self.board.get(row, column) is not None:
            return False
        after = self.board.copy()
        after.play(row, column, "bw"[colour])
        if not self.rules.suicide and after.get(row, column) is None:
            return False
        if self.rules.ko == "simple":
            return (row, column) != self.ko_point
        return self._key(after, 1 - colour) not in self.seen

    def play(self, token: int, colour: int) -> int:
        """Play a legal move; how many stones it took off the board."""
        self.ko_point = None
        taken = 0
        if token < self.size**2:
            before = self._num_stones()
            self.ko_point = self.board.play(*self._place(token), "bw"[colour])
            taken = before + 1 - self._num_stones()
        self._remember(1 - colour)
        return taken

    def rows(self) -> list[list[int]]:
        """Rows from the top: 0 empty, 1 black, 2 white."""
        code = {None: 0, "b": 1, "w": 2}
        return [[code[stone] for stone in row] for row in reversed(self.board.board)]

    def _place(self, token: int) -> tuple[int, int]:
        row, column = divmod(token, self.size)
        return self.size - 1 - row, column

    def _num_stones(self) -> int:
        return sum(len(row) - row.count(None) for row in self.board.board)

    def _remember(self, mover: int) -> None:
        if self.rules.ko != "simple":
            self.seen.add(self._key(self.board, mover))

    def _key(self, board: Board, mover: int) -> tuple[Grid, int]:
        """What may not come back: the stones, and under situational superko who moves next."""
        grid = tuple(map(tuple, board.board))
        return grid, mover if self.rules.ko == "situational" else 0


def _points(rows: list[int]) -> set[int]:
    size = len(rows)
    return {r * size + c for r, row in enumerate(rows) for c in range(size) if row >> c & 1}
