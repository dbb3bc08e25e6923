"""Games that branch go on as the ones that they are copies of, and share nothing with them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tessera.go import GPUGoEngine, Rules
from tessera.go.branching import copies, copy_games
from tessera.go.randomness import MOVE, draw, random_words
from tests.go.states import everything

RULES = {
    "positional": Rules(),
    "situational": Rules(ko="situational", suicide=True),
    "simple": Rules(ko="simple"),
    "single stones": Rules(ko="positional", capture="single"),
}
LONG = 40  # plies of 3×3 games: superko has forbidden many moves by then


def random_moves(engine: GPUGoEngine, words: Tensor) -> Tensor:
    """A legal point in every game, and a pass where there is none."""
    legal = engine.get_legal_mask()
    legal[:, -1] = ~legal[:, :-1].any(1)
    return draw(legal.float() / legal.sum(1, keepdim=True), legal, words)


def play_on(engine: GPUGoEngine, numbers: Tensor, plies: int, seed: int = 0) -> list[Tensor]:
    """Random plies, drawn by the games' numbers; the legal moves before each of them."""
    seen = []
    for ply in range(plies):
        seen.append(engine.get_legal_mask())
        engine.play_batch(random_moves(engine, random_words(seed, numbers, ply, MOVE)))
    return seen


@pytest.mark.parametrize("rules", RULES.values(), ids=list(RULES))
def test_branched_games_go_on_as_their_originals(rules: Rules) -> None:
    engine = GPUGoEngine(12, "cpu", 3, rules)
    numbers = torch.arange(12)
    play_on(engine, numbers, LONG // 2)
    sources, targets = torch.tensor([0, 1, 0, 5, 6]), torch.tensor([7, 8, 9, 6, 5])
    originals = copies(engine, numbers)
    engine.branch(sources, targets)  # two of them change places
    origin = numbers.clone()
    origin[targets] = sources
    for name, held in everything(engine).items():
        assert torch.equal(held, everything(originals)[name][origin]), name

    # What superko forbids is not seen on the board: the copies must remember it.
    found, expected = play_on(engine, origin, LONG, seed=1), play_on(originals, numbers, LONG, 1)
    for mask, wanted in zip(found, expected, strict=True):
        assert torch.equal(mask, wanted[origin])
    ended = everything(originals)
    for name, held in everything(engine).items():
        assert torch.equal(held, ended[name][origin]), name


def test_superko_forbids_what_the_original_has_seen() -> None:
    # A branched game and the same moves replayed from the empty board know the same positions.
    engine = GPUGoEngine(64, "cpu", 2)
    numbers = torch.arange(64)
    play_on(engine, numbers, 7)
    other = GPUGoEngine(64, "cpu", 2)
    order = numbers.flip(0)
    copy_games(engine, order, numbers, other)
    replayed = GPUGoEngine(64, "cpu", 2)
    for played in engine.history[order].long().unbind(1):
        replayed.play_batch(played)
    found, expected = everything(other), everything(replayed)
    for name in set(found) - {"last_captures"}:  # of the newest ply
        assert torch.equal(found[name], expected[name]), name
    assert torch.equal(other.get_legal_mask(), replayed.get_legal_mask())
    empty = (other.boards[:, 2].flatten(1)).sum(1)
    assert (other.get_legal_mask()[:, :-1].sum(1) < empty).any()


def test_branched_games_share_nothing() -> None:
    engine = GPUGoEngine(4, "cpu", 3)
    play_on(engine, torch.arange(4), 6)
    engine.branch(torch.tensor([0, 0]), torch.tensor([1, 2]))
    kept = copies(engine, torch.arange(4))
    before = everything(engine)
    # Another move in each of the three that are alike.
    legal = engine.get_legal_mask()[0, :-1].nonzero().squeeze(1)
    moves = torch.tensor([int(legal[0]), int(legal[1]), 9, 9])
    engine.play_batch(moves)
    after = everything(engine)
    assert not torch.equal(after["history"][0], after["history"][1])
    assert len({tuple(row.tolist()) for row in after["own"][:3]}) >= 2
    assert all(torch.equal(held, before[name]) for name, held in everything(kept).items())


def test_a_branch_forgets_what_was_found_of_the_position_before() -> None:
    engine = GPUGoEngine(2, "cpu", 3)
    engine.play_batch(torch.tensor([4, 9]))
    assert engine.get_legal_mask()[1, 4]
    engine.branch(torch.tensor([0]), torch.tensor([1]))
    assert not engine.get_legal_mask()[1, 4]


@pytest.mark.parametrize(
    ("sources", "targets", "words"),
    [
        ([0, 3], [1, 2], "sources must be 0 to 2, got 3."),
        ([0, 1], [-1, 2], "targets must be 0 to 2, got -1."),
        ([0, 1], [2], "targets must be a tensor (2,) of whole numbers, got (1,) int64."),
    ],
)
def test_pairs_that_are_none_are_refused(
    sources: list[int], targets: list[int], words: str
) -> None:
    engine = GPUGoEngine(3, "cpu", 3)
    before = everything(engine)
    with pytest.raises(ValueError) as error:
        engine.branch(torch.tensor(sources), torch.tensor(targets))
    assert str(error.value) == words
    assert all(torch.equal(held, before[name]) for name, held in everything(engine).items())
