"""The plain engine on a GPU: the same bits as on the CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tessera.go import RULES, GPUGoEngine, Rules, play_games

pytestmark = pytest.mark.gpu


GAMES = [
    (size, rules, player)
    for size in (2, 5, 9, 19)
    for rules in ("full", "phase2", "tromp-taylor")
    for player in ("uniform", "rules")
]
TABLES = ("legal", "board", "landmarks")
# What the presets have not.
OTHER = {
    "pass-alive-suicide": Rules(suicide=True, max_moves=40, score="pass_alive"),
    "situational": Rules(ko="situational"),
}
GAMES += [(5, rules, "rules") for rules in OTHER]
# A GPU takes as long for a ply of a small board as for one of a large one: long games are cut.
MAX_MOVES = 250


@pytest.mark.parametrize(("size", "rules", "player"), GAMES)
def test_games_are_the_same_on_both_devices(size: int, rules: str, player: str) -> None:
    own = (RULES | OTHER)[rules]
    own = replace(own, max_moves=min(MAX_MOVES, own.move_limit(size)))
    records = [
        play_games(
            player,
            range(32),
            seed=9,
            board_size=size,
            rules=own,
            device=device,
            backend="torch",
            needs=TABLES,
        )
        for device in ("cpu", "cuda")
    ]
    for name in ("moves", "lengths", "results", "captures", *TABLES):
        first, second = (getattr(record, name).cpu() for record in records)
        assert torch.equal(first, second), name
    for name in ("log_probs", "entropies"):
        first, second = (getattr(record, name).cpu() for record in records)
        assert torch.allclose(first, second, atol=1e-5), name


def test_boards_masks_and_ownership_are_the_same_on_both_devices() -> None:
    moves = play_games("rules", range(16), seed=1, board_size=13).moves.long()
    engines = [GPUGoEngine(16, device, 13, backend="torch") for device in ("cpu", "cuda")]
    for ply in range(moves.shape[1]):
        for engine in engines:
            engine.play_batch(moves[:, ply])
        if ply % 20 == 0:
            cpu, cuda = engines
            assert torch.equal(cpu.boards, cuda.boards.cpu())
            assert torch.equal(cpu.get_legal_mask(), cuda.get_legal_mask().cpu())
            assert torch.equal(cpu.ownership(), cuda.ownership().cpu())
            assert torch.equal(cpu.score(), cuda.score().cpu())
