"""Criterion 1 of ``tessera check``: batches of whole games, each replayed by a referee."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tessera.commands.trials import PlayedBatch, described
from tessera.go import GameRecord, GPUGoEngine, play_games
from tessera.go.backend import resolve_backend
from tessera.vocabulary import Vocabulary

_PLAYERS = ("uniform", "rules")  # take turns from batch to batch


def play_whole_games(
    device: torch.device,
    *,
    seed: int,
    board_size: int,
    num_batches: int,
    num_games: int,
    tell: Callable[[int], None] = lambda done: None,
) -> list[PlayedBatch]:
    """Batches of games from start to end, each replayed by a referee.

    Args:
        device: where they are played, by the code that a run on it would use.
        seed: of the games.
        board_size: n.
        num_batches: how many.
        num_games: games in each.
        tell: is called with the number of batches that are done.
    """
    batches, backend = [], resolve_backend("auto", device)
    for batch in range(num_batches):
        player = _PLAYERS[batch % len(_PLAYERS)]
        name = f"batch {batch + 1} ({player}, {backend})"
        numbers = range(batch * num_games, (batch + 1) * num_games)
        plies, faults = 0, []
        try:
            record = play_games(player, numbers, seed=seed, board_size=board_size, device=device)
            plies = int(record.lengths.sum())
            faults = record_faults(record)
        except Exception as error:  # whatever it is, it is this batch's fault and no other's
            faults = [described(error)]
        batches.append(PlayedBatch(name, num_games, plies, tuple(faults), {}))
        tell(batch + 1)
    return batches


def record_faults(record: GameRecord) -> list[str]:
    """What is wrong with a record of finished games; nothing if they are sound.

    The referee is a new engine of the torch backend on the CPU, whatever played the games, so
    games from a GPU's kernels are replayed by other code on another device. It looks every move up
    in its legal mask before it plays it.

    Raises:
        IllegalMoveError: for the first illegal move.
    """
    moves, lengths = record.moves.cpu().long(), record.lengths.cpu().long()
    captures, results = record.captures.cpu().long(), record.results.cpu()
    size, rules = record.board_size, record.rules
    vocabulary = Vocabulary(size)
    num_games, plies = moves.shape
    referee = GPUGoEngine(num_games, "cpu", size, rules, "torch")
    captures_differ = torch.zeros(num_games, dtype=torch.bool)
    for ply in range(plies):
        going = ply < lengths
        # Checked in the games that go on; the others are over and ignore what they are given.
        referee.play_batch(torch.where(going, moves[:, ply], vocabulary.pass_token), check=True)
        captures_differ |= going & (referee.last_captures != captures[:, ply])

    is_pass = moves == vocabulary.pass_token
    is_second_pass = is_pass[:, 1:] & is_pass[:, :-1]
    ends_by_passes = is_second_pass.gather(1, (lengths - 2).clamp(min=0).unsqueeze(1)).squeeze(1)
    ends_properly = torch.where(
        (lengths >= 2) & ends_by_passes,
        is_second_pass.sum(1) == 1,
        (lengths == rules.move_limit(size)) & (is_second_pass.sum(1) == 0),
    )
    is_played = torch.arange(plies) < lengths.unsqueeze(1)
    pads_agree = ((moves != vocabulary.pad_token) == is_played).all(1)
    stones = referee.boards[:, :2].flatten(1).sum(1)
    num_placed = (is_played & ~is_pass).sum(1)
    checks = {
        "does not end with two passes or at the move limit": ends_properly & pads_agree,
        "is not over in the referee's replay at its recorded end": (
            referee.is_game_over() & (referee.move_number == lengths)
        ),
        "captures other stones in the referee's replay": ~captures_differ,
        "has other stones on the board than its moves and captures leave": (
            stones == num_placed - captures.sum(1)
        ),
        "has stones without liberties at its end": referee.capture_stones() == 0,
        "has a result that is not finite": results.isfinite(),
        "has another score in the referee's replay": results == referee.score(),
    }
    return _named(checks, record.numbers.cpu())


def _named(checks: dict[str, Tensor], numbers: Tensor) -> list[str]:
    """A line for each check that does not hold in every game, with the first such game."""
    lines = []
    for what, holds in checks.items():
        wrong = (~holds).nonzero().squeeze(1)
        if wrong.numel():
            more = f" (and {wrong.numel() - 1} more)" if wrong.numel() > 1 else ""
            lines.append(f"game {int(numbers[wrong[0]])} {what}{more}")
    return lines
