"""A batch cuts, joins and maps all of its tables; the game's result travels with them."""

from __future__ import annotations

import pytest
import torch

from tessera.data import GameBatch, GameStream, StreamSettings
from tessera.data.batch import BATCH_TABLES, BYTES_PER_POSITION, times_before
from tessera.go import GPUGoEngine, play_games
from tessera.go.bitboard import unpack
from tessera.vocabulary import Vocabulary

SIZE = 4
NEEDS = ["legal", "board", "landmarks", "settled"]


def batch(player: str = "rules", context: int | None = None, rows: int = 4) -> GameBatch:
    settings = StreamSettings(
        board_size=SIZE, player=player, batch_size=rows, games_per_chunk=rows, context=context
    )
    return GameStream(settings, needs=NEEDS).batch(0)


def test_every_table_is_there_and_as_described() -> None:
    for context in (8, None):
        tables = list(batch(context=context).tables())
        # Before a whole game there is nothing.
        names = [name for name in BATCH_TABLES if context or name != "landmarks_before"]
        assert list(GameBatch._fields[1:]) == list(BATCH_TABLES)
        assert [name for name, *_ in tables] == names
        for name, table, tensor in tables:
            assert tensor.dtype == table.dtype, name
            assert tensor.shape[1 + table.is_by_ply :] == table.entry_shape(SIZE), name


@pytest.mark.parametrize("context", [8, None])
def test_a_batch_knows_who_won(context: int | None) -> None:
    record = play_games("rules", range(4), seed=0, board_size=SIZE)
    assert torch.equal(batch(context=context).results, record.results)
    assert len(record.results.unique()) > 1


@pytest.mark.parametrize("context", [8, None])
def test_scores_are_of_the_player_to_move_at_each_position(context: int | None) -> None:
    found = batch(context=context)
    assert len(found.results.unique()) > 1 and found.results.ne(0).all()
    whole = play_games("rules", range(4), seed=0, board_size=SIZE)
    engine = GPUGoEngine(4, "cpu", SIZE)
    turns = [engine.turn.clone()]
    for moves in whole.moves.long().unbind(1):
        engine.play_batch(moves)
        turns.append(engine.turn.clone())
    turn = torch.stack(turns, 1).gather(1, found.plies.long())
    black_wins_by = found.results.unsqueeze(1).expand_as(turn)
    counted = found.targets < Vocabulary(SIZE).pad_token  # moves, whose player is no question
    assert counted.any() and turn[counted].unique().tolist() == [0, 1]
    expected = torch.where(turn == 0, black_wins_by, -black_wins_by)
    assert torch.equal(found.scores()[counted], expected[counted])


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
    starts = torch.tensor([[1, 4], [0, 1], [3, 3], [2, 0]])
    cut = whole.windows(starts, 3)
    pieces = [(game, int(starts[game, window])) for window in (0, 1) for game in range(4)]
    for name, table, tensor in whole.tables():
        expected = [
            tensor[game, start : start + 3] if table.is_by_ply else tensor[game]
            for game, start in pieces
        ]
        assert torch.equal(getattr(cut, name), torch.stack(expected)), name


def test_the_bytes_of_a_position_are_those_of_its_tables_without_the_plies() -> None:
    one = batch(context=8)._replace(legal=None, board=None, landmarks=None, settled=None)
    held = sum(tensor.nbytes for _, table, tensor in one.tables() if table.is_by_ply)
    assert BYTES_PER_POSITION * one.inputs.numel() == held - one.plies.nbytes
    assert BYTES_PER_POSITION == 28


def test_windows_of_windows_know_what_was_before_both() -> None:
    whole = batch()
    entries = unpack(whole.landmarks.flatten(0, 2).t()).view(*whole.landmarks.shape, SIZE)
    assert whole.landmarks_before is None and entries.any()
    once = whole.windows(torch.tensor([[12]] * 4), 9)
    twice = once.windows(torch.tensor([[5, 1]] * 4), 3)
    assert once.landmarks_before.any()
    assert twice.landmarks_before is not None
    for row in range(8):
        start = 17 if row < 4 else 13
        assert torch.equal(twice.landmarks[row], whole.landmarks[row % 4, start : start + 3])
        own, other = (entries[row % 4, (start - k) % 2 : start : 2].sum(0) for k in (1, 0))
        assert torch.equal(twice.landmarks_before[row].long(), torch.stack([own, other]))


def test_times_beyond_what_16_bits_count_stop_there() -> None:
    entries = torch.full((1, 80_000, 1, 2), 1, dtype=torch.int32)
    before = times_before(entries, torch.tensor([[65_531, 79_999]]))
    assert before.dtype == torch.int16
    assert before[0, 0, :, 0].tolist() == [[[32_766, 0]] * 2, [[32_765, 0]] * 2]
    assert before[0, 1, :, 0].tolist() == [[[32_767, 0]] * 2] * 2


def test_a_batch_hands_over_what_a_model_reads() -> None:
    for context in (None, 8):
        given = batch(context=context)
        assert given.features("none") == ()
        (board,) = given.features("board")
        assert board is given.board
        landmarks, before = given.features("landmarks")
        assert landmarks is given.landmarks
        assert before.shape == (4, 2, 3, SIZE, SIZE) and before.dtype == torch.int16
        assert not before.any() if context is None else before is given.landmarks_before
    bare = given._replace(board=None)
    with pytest.raises(ValueError, match=r'board must have been asked for with needs=\["board"\]'):
        bare.features("board")
    with pytest.raises(
        ValueError, match=r"features must be one of none, board, position, landmarks, got x\."
    ):
        bare.features("x")
