"""Pictures of a game that is played for learning, and what the model would play there."""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.go import GPUGoEngine
from tessera.model import GameModel
from tessera.play.evaluator import last_tokens
from tessera.play.map import settled_of
from tessera.play.picture import Scene, draw_scenes
from tessera.play.reading import reader_of
from tessera.transfers import to_host

_MOMENTS = (0.25, 0.5, 0.75, 1.0)  # of the plies so far


def longest_game(engine: GPUGoEngine, model: GameModel) -> Tensor | None:
    """The game that has gone on for longest, as it stood at four moments.

    Args:
        engine: games in progress.
        model: whose probabilities are shown, on any device.

    Returns:
        (3, height, width) uint8 on the CPU; None if no game has begun.
    """
    slot = engine.move_number.argmax().unsqueeze(0)
    moves = to_host(engine.history.index_select(0, slot)[0].long(), "picture")
    count = int((moves != engine.vocabulary.pad_token).sum())
    if not count:
        return None
    board = GPUGoEngine(1, "cpu", engine.board_size, engine.rules, "torch")
    wanted = {round(moment * count) for moment in _MOMENTS}
    scenes = []
    for ply in range(count + 1):
        if ply in wanted:
            last_move = int(moves[ply - 1]) if ply else None
            black, white, _ = board.boards[0].int()
            maps = {"model": _chances(board, model)}
            legal, settled = board.get_legal_mask()[0], settled_of(board)
            scenes.append(Scene(black - white, last_move, ply, maps, legal, settled))
        if ply < count:
            board.play_batch(moves[ply : ply + 1])
    return draw_scenes(scenes)


@torch.no_grad()
def _chances(board: GPUGoEngine, model: GameModel) -> Tensor:
    """The model's probabilities (P + 1,) of the moves of one game, on the CPU."""
    tables = tuple(table.unsqueeze(1).to(model.device) for table in reader_of(model)(board))
    logits = model(last_tokens(board).unsqueeze(1).to(model.device), None, tables)
    return to_host(logits[0, 0, : board.vocabulary.pass_token + 1].float().softmax(0), "picture")
