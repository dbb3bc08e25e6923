"""Games whose players leave settled points alone, as a slow oracle sees these points."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import Tensor

from tessera.go import (
    GameLoop,
    GameRecord,
    GPUGoEngine,
    Rules,
    distribution,
    get_player,
    kept_tables,
    play_games,
    resolve_rules,
)
from tessera.go.bitboard import unpack
from tests.go.settled_oracle import around, pass_alive

SIZE = 5
NEEDS = ("legal", "settled", "board")


def record_of(player: str, rules: str | Rules = "full", games: int = 6) -> GameRecord:
    return play_games(
        player, range(games), seed=4, board_size=SIZE, rules=rules, needs=NEEDS, skip_settled=True
    )


def boards_of(engine: GPUGoEngine) -> list[list[str]]:
    """The games' boards as rows of X, O and dots."""
    codes = (engine.boards[:, 0].int() + 2 * engine.boards[:, 1].int()).tolist()
    return [["".join(".XO"[code] for code in row) for row in board] for board in codes]


def settled_tokens(board: list[str], suicide: bool) -> set[int]:
    """The points that the oracle finds settled for either colour."""
    return {
        row * SIZE + column
        for colour in "XO"
        for points in pass_alive(board, colour, suicide)
        for row, column in points
    }


def tokens_of(rows: Tensor) -> set[int]:
    """The points of one set of row bitboards (n,)."""
    return set(unpack(rows.unsqueeze(1)).flatten().nonzero().squeeze(1).tolist())


def is_true_eye(board: list[str], colour: str, token: int) -> bool:
    """Whether the point is surrounded by the colour, and no more corners lack it than may."""
    row, column = divmod(token, SIZE)
    letters = {(r, c): board[r][c] for r in range(SIZE) for c in range(SIZE)}
    if any(letters.get(point, colour) != colour for point in around({(row, column)})):
        return False
    corners = [(row + r, column + c) for r in (-1, 1) for c in (-1, 1)]
    other = "XO".replace(colour, "")
    enemies = sum(letters.get(corner) == other for corner in corners)
    return enemies <= (0 if any(corner not in letters for corner in corners) else 1)


@pytest.mark.parametrize("rules", ["full", "tromp-taylor"])
@pytest.mark.parametrize("player", ["uniform", "rules"])
def test_whole_games_have_no_move_on_a_point_that_an_oracle_finds_settled(
    player: str, rules: str
) -> None:
    record = record_of(player, rules)
    assert record.skip_settled and record.legal is not None and record.settled is not None
    engine = GPUGoEngine(6, "cpu", SIZE, rules)
    passes_with_legal_points = 0
    for ply in range(int(record.lengths.max()) + 1):
        boards, legal = boards_of(engine), unpack(engine.legal_rows()).flatten(1)
        for game in range(6):
            length = int(record.lengths[game])
            if ply > length:
                assert not record.settled[game, ply].any()
                continue
            settled = settled_tokens(boards[game], resolve_rules(rules).suicide)
            assert tokens_of(record.settled[game, ply]) == settled, (game, ply)
            if ply == length:
                continue
            playable = set(legal[game].nonzero().squeeze(1).tolist()) - settled
            assert tokens_of(record.legal[game, ply]) == playable, (game, ply)
            move = int(record.moves[game, ply])
            colour = "XO"[ply % 2]
            choice = {point for point in playable if not is_true_eye(boards[game], colour, point)}
            assert move in (choice or {SIZE**2}), (game, ply)
            passes_with_legal_points += not choice and bool(legal[game].any())
            if player == "uniform":
                entropy = math.log(max(1, len(choice)))
                assert float(record.entropies[game, ply]) == pytest.approx(entropy, abs=1e-6)
                assert float(record.log_probs[game, ply]) == pytest.approx(-entropy, abs=1e-6)
        if ply < record.moves.shape[1]:
            engine.play_batch(record.moves[:, ply].long())
    assert passes_with_legal_points > 6
    assert bool(engine.is_game_over().all())


@pytest.mark.parametrize("player", ["uniform", "rules"])
def test_probabilities_are_those_of_the_choice_that_is_left(player: str) -> None:
    record = record_of(player)
    engine = GPUGoEngine(6, "cpu", SIZE, skip_settled=True)
    whole = GPUGoEngine(6, "cpu", SIZE)
    differ = 0
    for ply in range(record.moves.shape[1]):
        going = ply < record.lengths
        chances = distribution(get_player(player), engine).double()
        # Those of the player that leaves nothing alone, without what is settled.
        points = distribution(get_player(player), whole)[:, :-1].double()
        settled = unpack(engine.settled_points().both).flatten(1)
        left = points.masked_fill(settled, 0)
        differ += int(((left != points).any(1) & going).sum())
        has_move = left.sum(1, keepdim=True) > 0
        expected = torch.cat([left / left.sum(1, keepdim=True).clamp(min=1e-9), ~has_move], 1)
        torch.testing.assert_close(chances[going], expected[going], atol=1e-6, rtol=0)
        moves = torch.where(going, record.moves[:, ply].long(), SIZE**2)
        played = expected.gather(1, moves.unsqueeze(1)).squeeze(1).log()
        torch.testing.assert_close(
            record.log_probs[going, ply].double(), played[going], atol=1e-5, rtol=0
        )
        entropies = torch.special.entr(expected).sum(1)
        torch.testing.assert_close(
            record.entropies[going, ply].double(), entropies[going], atol=1e-5, rtol=0
        )
        for each in (engine, whole):
            each.play_batch(moves)
    assert differ > 10


@pytest.mark.parametrize("slots", [1, 4, None])
def test_a_loop_plays_the_same_games_and_says_so(slots: int | None) -> None:
    loop = GameLoop(
        get_player("rules"),
        6,
        slots,
        board_size=SIZE,
        seed=4,
        tables=kept_tables(NEEDS),
        skip_settled=True,
    )
    loop.play(torch.arange(10, 16))
    record, whole = loop.play(torch.arange(6)).trimmed(), record_of("rules")
    assert record.skip_settled
    for name, _, tensor in whole.tables():
        assert torch.equal(getattr(record, name), tensor), name


def test_settled_points_are_told_of_games_that_do_not_leave_them_alone() -> None:
    record = play_games("uniform", range(6), seed=4, board_size=SIZE, needs=("settled", "legal"))
    assert not record.skip_settled and record.settled is not None and record.legal is not None
    assert (record.settled[:, :-1] & record.legal).any()
    engine = GPUGoEngine(6, "cpu", SIZE)
    for ply in range(record.moves.shape[1]):
        going = ply < record.lengths
        assert torch.equal(record.settled[going, ply], engine.settled_points().both.t()[going])
        assert torch.equal(record.legal[going, ply], engine.legal_rows().t()[going])
        engine.play_batch(record.moves[:, ply].long())
    last = record.settled[torch.arange(6), record.lengths.long()]
    assert torch.equal(last, engine.settled_points().both.t())


def test_legal_moves_stay_what_the_rules_say() -> None:
    record, engine = record_of("uniform"), GPUGoEngine(6, "cpu", SIZE, skip_settled=True)
    plain = GPUGoEngine(6, "cpu", SIZE)
    for moves in record.moves.t():
        for each in (engine, plain):
            each.play_batch(moves.long())
        assert torch.equal(engine.get_legal_mask(), plain.get_legal_mask())
    assert not torch.equal(engine.playable_rows(), plain.playable_rows())
    assert torch.equal(plain.playable_rows(), plain.legal_rows())


def test_what_was_found_settled_is_forgotten_when_the_stones_change() -> None:
    alive = torch.zeros(2, 2, SIZE, SIZE, dtype=torch.bool)
    alive[:, 0, :2] = True
    alive[:, 0, 0, 0] = alive[:, 0, 0, 2] = False
    engine, nothing = GPUGoEngine(2, "cpu", SIZE, skip_settled=True), torch.zeros(2, 25)
    assert torch.equal(unpack(engine.settled_points().both).flatten(1).float(), nothing)
    engine.set_position(alive, torch.tensor([0, 1]))
    assert unpack(engine.settled_points().both).flatten(1).sum(1).tolist() == [10, 10]
    assert unpack(engine.playable_rows()).flatten(1).sum(1).tolist() == [15, 15]
    engine.reset(torch.tensor([True, False]))
    assert unpack(engine.settled_points().both).flatten(1).sum(1).tolist() == [0, 10]
    engine.keep(torch.tensor([1]))
    assert unpack(engine.settled_points().both).flatten(1).sum(1).tolist() == [10]
    engine.set_position(alive[:1].flip(2), torch.tensor([0]))
    assert not engine.settled_points().both[:2].any()
    engine.play_batch(torch.tensor([20]))  # black fills one of their own two eyes
    assert not engine.settled_points().both.any()


def test_rules_without_chains_and_what_is_no_flag_are_refused() -> None:
    single = "skip_settled must be false where only single stones are captured, got True."
    for refused in (
        lambda: GPUGoEngine(1, "cpu", SIZE, "phase2", skip_settled=True),
        lambda: record_of("uniform", "phase2"),
    ):
        with pytest.raises(ValueError, match=re.escape(single)):
            refused()
    with pytest.raises(ValueError, match="skip_settled must be true or false, got 1"):
        GPUGoEngine(1, "cpu", SIZE, skip_settled=1)
    with pytest.raises(ValueError, match="needs must be without settled where only single stones"):
        play_games("uniform", range(1), seed=0, board_size=3, rules="phase2", needs=["settled"])
