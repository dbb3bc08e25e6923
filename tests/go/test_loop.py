"""The loop plays the games that the numbers name, whatever its slots and whoever plays."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tessera.go import Choice, GameLoop, GPUGoEngine, Player, get_player, kept_tables, play_games

SIZE = 4


@pytest.mark.parametrize("name", ["uniform", "rules"])
@pytest.mark.parametrize("slots", [1, 5, None])
def test_games_that_follow_each_other_are_those_that_are_played_at_once(
    name: str, slots: int | None
) -> None:
    numbers = torch.tensor([5, 0, 17, 3, 2**40, 9, 8, 1])
    loop = GameLoop(
        get_player(name), 8, slots, board_size=SIZE, seed=2, tables=kept_tables(["legal"])
    )
    loop.play(torch.arange(8))  # other games before, in the same tables
    record = loop.play(numbers).trimmed()
    whole = play_games(name, numbers, seed=2, board_size=SIZE, needs=["legal"])
    for table, _, tensor in whole.tables():
        assert torch.equal(getattr(record, table), tensor), table
    assert record.player == name and torch.equal(record.numbers, numbers)


class FirstLegal:
    """Plays the first legal point; a pass where there is none."""

    name = "first"

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []

    def begin(self, engine: GPUGoEngine) -> None:
        self.seen = []

    def choose(self, engine: GPUGoEngine, words: Tensor) -> Choice:
        moves = engine.get_legal_mask().int().argmax(1)
        return Choice(moves, torch.zeros(len(moves)), torch.zeros(len(moves)))

    def observe(self, engine: GPUGoEngine, moves: Tensor, over: Tensor) -> None:
        self.seen.append((moves, over))


def test_a_player_is_told_what_was_played_and_where_a_new_game_begins() -> None:
    player = FirstLegal()
    loop = GameLoop(player, 3, 1, board_size=2)
    record = loop.play(torch.arange(3))
    lengths = record.lengths.tolist()
    assert len(set(lengths)) == 1, "three games that are the same"
    over = [bool(over) for _, over in player.seen]
    ends = [ply + 1 for ply, is_over in enumerate(over) if is_over]
    assert ends[:3] == [lengths[0], 2 * lengths[0], 3 * lengths[0]]
    told = [int(moves) for moves, _ in player.seen[: lengths[0]]]
    assert told == record.moves[0, : lengths[0]].tolist()
    assert record.player == "first" and int(loop.plies_played) == sum(lengths)


def test_games_that_are_dropped_are_played_to_their_ends() -> None:
    dropping = GameLoop(FirstLegal(), 3, board_size=3, drops_finished=True)
    whole = dropping.play(torch.arange(3))
    assert dropping.num_slots == 0
    one_by_one = GameLoop(FirstLegal(), 3, 1, board_size=3).play(torch.arange(3))
    assert torch.equal(whole.moves, one_by_one.moves)
    assert torch.equal(whole.results, one_by_one.results)


def test_built_in_players_are_players() -> None:
    players: list[Player] = [get_player("uniform"), get_player("rules"), FirstLegal()]
    assert [player.name for player in players] == ["uniform", "rules", "first"]
