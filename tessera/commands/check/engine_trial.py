"""Criterion 1 of ``tessera check``: batches of whole games, each replayed by a referee."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor

from tessera.commands.check.trials import PlayedBatch, Scale, Tell, described
from tessera.compiling import compile_together
from tessera.go import GameRecord, GPUGoEngine, play_games
from tessera.go.backend import resolve_backend
from tessera.go.randomness import ZOBRIST, random_words
from tessera.vocabulary import Vocabulary

_PLAYERS = ("uniform", "rules")  # take turns from batch to batch
_PLAYING, _REPLAYING = 0.25, 0.75  # of the time


def play_whole_games(
    device: torch.device, scale: Scale, seed: int, tell: Tell
) -> list[PlayedBatch]:
    """Batches of games from start to end, each replayed by a referee.

    They are played on the device by the code that a run on it would use.
    """
    backend, names, plies = resolve_backend("auto", device), list[str](), list[int]()
    records, faults = dict[int, GameRecord](), dict[int, tuple[str, ...]]()
    size, num_games = scale.board_size, scale.whole_games
    play = partial(play_games, seed=seed, board_size=size, device=device)
    if backend == "triton":
        first = range(num_games)
        compile_together(device, *(partial(play, player, first, trim=False) for player in _PLAYERS))
    for batch in range(scale.num_batches):
        player = _PLAYERS[batch % len(_PLAYERS)]
        names.append(f"batch {batch + 1} ({player}, {backend})")
        numbers = range(batch * num_games, (batch + 1) * num_games)
        try:
            record = play(player, numbers)
            plies.append(int(record.lengths.sum()))
            records[batch] = record
        except Exception as error:  # whatever it is, it is this batch's fault and no other's
            plies.append(0)
            faults[batch] = (described(error),)
        tell(_PLAYING * (batch + 1) / scale.num_batches)
    found = _faults_of(list(records.values()), lambda share: tell(_PLAYING + share * _REPLAYING))
    faults |= zip(records, found, strict=True)
    return [
        PlayedBatch(name, num_games, plies[batch], faults[batch], {})
        for batch, name in enumerate(names)
    ]


def _faults_of(records: Sequence[GameRecord], tell: Tell) -> list[tuple[str, ...]]:
    """What is wrong with each record.

    They are replayed at once, which takes half the time, and again one by one if anything is wrong.
    """
    with suppress(Exception):  # which comes again below
        if not record_faults(GameRecord.joined(records), tell):
            return [()] * len(records)
    found: list[tuple[str, ...]] = []
    for record in records:
        try:
            found.append(tuple(record_faults(record)))
        except Exception as error:
            found.append((described(error),))
    return found


def record_faults(record: GameRecord, tell: Tell = lambda share: None) -> list[str]:
    """What is wrong with a record of finished games; each fault in a line with its first game.

    The referee is a new engine of the torch backend on the CPU, whatever played the games, so
    games from a GPU's kernels are replayed by other code on another device. It looks every move up
    in its legal mask before it plays it. What can be seen on its boards alone is looked at without
    the mask, because on a CPU player and referee share it.

    Raises:
        IllegalMoveError: for the first illegal move.
    """
    record = record.to("cpu")
    moves, lengths = record.moves.long(), record.lengths.long()
    captures, results = record.captures.long(), record.results
    pass_token = Vocabulary(record.board_size).pass_token
    referee = GPUGoEngine(len(moves), "cpu", record.board_size, record.rules, "torch")
    boards = _Boards(referee)
    captures_agree = torch.ones(len(moves), dtype=torch.bool)
    for ply in range(moves.shape[1]):
        going = ply < lengths
        played = torch.where(going, moves[:, ply], pass_token)
        # Checked in the games that go on; the others are over and ignore what they are given.
        referee.play_batch(played, check=True)
        captures_agree &= ~going | (referee.last_captures == captures[:, ply])
        boards.look(played)
        tell((ply + 1) / moves.shape[1])
    checks = {
        "does not end with two passes or at the move limit": _ends_properly(record),
        "is not over in the referee's replay at its recorded end": (
            referee.is_game_over() & (referee.move_number == lengths)
        ),
        "captures other stones in the referee's replay": captures_agree,
        "has other stones on the board than its moves and captures leave": (
            boards.stones.sum((1, 2)) == boards.num_placed - captures.sum(1)
        ),
        **boards.checks(),
        "has a result that is not finite": results.isfinite(),
        "has another score in the referee's replay": results == referee.score(),
        # Last, since it would remove them.
        "has stones without liberties at its end": referee.capture_stones() == 0,
    }
    lines = []
    for what, holds in checks.items():
        wrong = (~holds).nonzero().squeeze(1)
        if wrong.numel():
            more = f" (and {wrong.numel() - 1} more)" if wrong.numel() > 1 else ""
            lines.append(f"game {int(record.numbers[wrong[0]])} {what}{more}")
    return lines


def _ends_properly(record: GameRecord) -> Tensor:
    """(B,) bool, True where the only two passes in a row, or the move limit, are a game's end."""
    moves, lengths = record.moves.long(), record.lengths.long()
    vocabulary = Vocabulary(record.board_size)
    is_pass = moves == vocabulary.pass_token
    is_second_pass = is_pass[:, 1:] & is_pass[:, :-1]
    last = (lengths - 2).clamp(min=0).unsqueeze(1)
    by_passes = (lengths >= 2) & is_second_pass.gather(1, last).squeeze(1)
    at_limit = lengths == record.rules.move_limit(record.board_size)
    is_played = torch.arange(moves.shape[1]) < lengths.unsqueeze(1)
    only_played = ((moves != vocabulary.pad_token) == is_played).all(1)
    # A second pass before the end would have been an end.
    return only_played & (by_passes | at_limit) & (is_second_pass.sum(1) == by_passes)


class _Boards:
    """What the boards alone show of the rules, ply by ply, without the engine's legal mask."""

    def __init__(self, referee: GPUGoEngine) -> None:
        self._referee = referee
        games, points = referee.batch_size, referee.vocabulary.num_points
        self._words = random_words(0, torch.arange(2 * points), 0, ZOBRIST).view(2, points)
        self._hashes: list[Tensor] = []  # (B,) each; of positions that a stone made, the first one
        self.stones = torch.zeros(games, 2, points, dtype=torch.bool)
        self._was_empty = torch.ones(games, dtype=torch.bool)
        self._stays = self._was_empty.clone()
        self.num_placed = torch.zeros(games, dtype=torch.int64)
        self._remember(torch.ones(games, dtype=torch.bool))

    def look(self, moves: Tensor) -> None:
        """Look at the boards after these moves (B,); a pass changes nothing."""
        placed = moves < self._referee.vocabulary.num_points
        at = (moves * placed).unsqueeze(1)
        before, self.stones = self.stones, self._referee.boards[:, :2].flatten(2)
        self._was_empty &= ~placed | ~before.any(1).gather(1, at).squeeze(1)
        self._stays &= ~placed | self.stones.any(1).gather(1, at).squeeze(1)
        self.num_placed += placed
        self._remember(placed)

    def _remember(self, placed: Tensor) -> None:
        hashes = (self.stones * self._words).sum((1, 2))
        # A number of its own where no stone was placed: such a position may come back.
        self._hashes.append(torch.where(placed, hashes, len(self._hashes)))

    def checks(self) -> dict[str, Tensor]:
        """By fault, (B,) bool, True where it did not occur."""
        checks = {"has a move on a stone": self._was_empty}
        rules = self._referee.rules
        if not rules.suicide:
            checks["has a move that takes itself off the board"] = self._stays
        if rules.ko == "positional":
            ordered = torch.stack(self._hashes, 1).sort(1).values
            checks["repeats a position"] = (ordered[:, 1:] != ordered[:, :-1]).all(1)
        return checks
