"""Whole recorded games against two referees that know nothing of how they were played."""

from __future__ import annotations

import itertools
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch

from tessera.go import GameRecord, Rules, play_games
from tests.go.replay import replay

ALL_RULES = [
    Rules(ko=ko, suicide=suicide)
    for ko, suicide in itertools.product(("simple", "positional", "situational"), (False, True))
]

# Size: games with each rule and player, how often sgfmill is asked for all legal points, and how
# many parts the work is done in.
ON_A_GPU = {5: (700, 1, 2), 9: (224, 4, 4), 13: (104, 16, 4), 19: (56, 64, 8)}


def played(player: str, size: int, rules: Rules, numbers: range, device: str) -> GameRecord:
    return play_games(
        player, numbers, seed=11, board_size=size, rules=rules, device=device, needs=["legal"]
    )


@pytest.mark.parametrize("rules", ALL_RULES, ids=lambda rules: f"{rules.ko}-{rules.suicide}")
@pytest.mark.parametrize("player", ["uniform", "rules"])
def test_both_referees_agree_with_a_record(player: str, rules: Rules) -> None:
    for size, games in ((3, 3), (5, 2)):
        record = played(player, size, rules, range(games), "cpu")
        assert replay(record, full_every=2) == int(record.lengths.sum())


def test_the_referees_find_what_is_wrong_in_a_record() -> None:
    fine = played("uniform", 4, Rules(), range(4), "cpu")
    assert fine.legal is not None
    for name, ply in itertools.product(("legal", "captures", "log_probs", "entropies"), (0, 12)):
        table = getattr(fine, name)
        before = table[2, ply].clone()
        table[2, ply] += 1
        with pytest.raises(AssertionError):
            replay(fine, full_every=100)
        table[2, ply] = before
    fine.results[3] += 1
    with pytest.raises(AssertionError):
        replay(fine, full_every=100)
    fine.results[3] -= 1
    replay(fine, full_every=100)


def _replay_pickled(record: bytes, full_every: int) -> int:
    return replay(pickle.loads(record), full_every)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_million_plies_of_kernel_games_agree_with_both_referees() -> None:
    jobs = []
    for size, (games, full_every, parts) in ON_A_GPU.items():
        for rules, player in itertools.product(ALL_RULES, ("uniform", "rules")):
            for part in range(parts):
                numbers = range(part * games // parts, (part + 1) * games // parts)
                record = played(player, size, rules, numbers, "cuda").to("cpu")
                # As bytes: torch would hand over an open file for every tensor.
                jobs.append((pickle.dumps(record), full_every))
    # The largest boards first, so that no process is left with one in the end.
    jobs.reverse()
    with ProcessPoolExecutor(
        mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        plies = sum(pool.map(_replay_pickled, *zip(*jobs, strict=True)))
    print(f"{plies:,} plies agree")
    assert plies >= 1_000_000
