"""A batch cuts, joins and maps all of its tables; the game's result travels with them."""

from __future__ import annotations

import pytest
import torch

from tessera.data import GameBatch, GameStream, StreamSettings
from tessera.data.batch import BATCH_TABLES, BYTES_PER_POSITION
from tessera.go import play_games
from tessera.vocabulary import Vocabulary

SIZE = 4


def batch(player: str = "rules", context: int | None = None, rows: int = 4) -> GameBatch:
    settings = StreamSettings(
        board_size=SIZE, player=player, batch_size=rows, games_per_chunk=rows, context=context
    )
    return GameStream(settings, needs=["legal"]).batch(0)


def test_every_table_is_there_and_as_described() -> None:
    for context in (8, None):
        tables = list(batch(context=context).tables())
        assert [name for name, *_ in tables] == list(GameBatch._fields[1:]) == list(BATCH_TABLES)
        for name, table, tensor in tables:
            assert tensor.dtype == table.dtype, name
            assert tensor.dim() == 1 + table.is_by_ply + table.has_rows, name


@pytest.mark.parametrize("context", [8, None])
def test_a_batch_knows_who_won(context: int | None) -> None:
    record = play_games("rules", range(4), seed=0, board_size=SIZE)
    assert torch.equal(batch(context=context).results, record.results)
    assert len(record.results.unique()) > 1


def test_every_table_is_cut_and_joined_again() -> None:
    whole = batch(context=8)
    halves = [whole.rows(slice(0, 1)), whole.rows(slice(1, None))]
    assert len(halves[0].results) == 1
    again = GameBatch.joined(halves, SIZE)
    for name, _, tensor in whole.tables():
        assert torch.equal(getattr(again, name), tensor), name


def test_the_shorter_part_is_filled_up() -> None:
    long = batch()
    short = long.positions(5)
    joined = GameBatch.joined([short, long], SIZE)
    for name, table, tensor in long.tables():
        both = getattr(joined, name)
        assert torch.equal(both[4:], tensor), name
        if table.is_by_ply:
            assert torch.equal(both[:4, :5], tensor[:, :5]), name
            fill = Vocabulary(SIZE).pad_token if name in ("inputs", "targets") else 0
            assert (both[:4, 5:] == fill).all(), name
        else:
            assert torch.equal(both[:4], tensor), name


def test_windows_are_pieces_of_every_table() -> None:
    whole = batch()
    rows, positions = torch.tensor([3, 0]), torch.tensor([[1, 2, 3], [0, 1, 2]])
    cut = whole.windows(rows, positions)
    for name, table, tensor in whole.tables():
        expected = [tensor[3, 1:4], tensor[0, :3]] if table.is_by_ply else [tensor[3], tensor[0]]
        assert torch.equal(getattr(cut, name), torch.stack(expected)), name


def test_the_bytes_of_a_position_are_those_of_its_tables_without_the_plies() -> None:
    one = batch(context=8)._replace(legal=None)
    held = sum(tensor.nbytes for _, table, tensor in one.tables() if table.is_by_ply)
    assert BYTES_PER_POSITION * one.inputs.numel() == held - one.plies.nbytes
    assert BYTES_PER_POSITION == 28
