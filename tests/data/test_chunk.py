"""Sequences and all that is known about them, however short the games and long the windows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tessera.data import GameBatch
from tessera.data.chunk import Chunk
from tessera.go import GameRecord, Rules, play_games
from tessera.go.bitboard import unpack
from tessera.vocabulary import Vocabulary
from tests.runs import fit, tessera

GAMES = 6
NEEDS = ["legal", "board", "landmarks", "settled"]


def record_of(size: int, max_moves: int, seed: int = 0) -> GameRecord:
    rules = Rules(max_moves=max_moves)
    return play_games("rules", range(GAMES), seed=seed, board_size=size, rules=rules, needs=NEEDS)


def assert_row(batch: GameBatch, row: int, record: GameRecord, game: int, start: int) -> None:
    """A row is what plain lists say of the tokens of a game from one position on."""
    words = Vocabulary(record.board_size)
    length = int(record.lengths[game])
    moves = record.moves[game, :length].tolist()
    captures = record.captures[game, :length].tolist()
    tokens = [words.eos_token, *moves, words.eos_token]

    def at(values: list, ply: int, beyond: object) -> object:
        return values[ply] if ply < len(values) else beyond

    plies = range(start, start + batch.inputs.shape[1])
    nothing = [0] * record.board_size
    expected = {
        "inputs": [at(tokens, ply, words.pad_token) for ply in plies],
        "targets": [at(tokens, ply + 1, words.pad_token) for ply in plies],
        "log_probs": [at(record.log_probs[game, :length].tolist(), ply, 0.0) for ply in plies],
        "entropies": [at(record.entropies[game, :length].tolist(), ply, 0.0) for ply in plies],
        "plies": list(plies),
        "captures": [sum(captures[:ply]) for ply in plies],
        "legal": [at(record.legal[game, :length].tolist(), ply, nothing) for ply in plies],
    }
    for name in ("board", "landmarks", "settled"):
        entries = getattr(record, name)[game, : length + 1].tolist()
        nothing = torch.zeros_like(getattr(record, name)[0, 0]).tolist()
        expected[name] = [at(entries, ply, nothing) for ply in plies]
    for name, values in expected.items():
        assert getattr(batch, name)[row].tolist() == values, name
    assert batch.results[row] == record.results[game]
    if batch.landmarks_before is not None:
        size = record.board_size
        times = torch.zeros(2, 3, size, size, dtype=torch.int16)
        for at, entry in enumerate(record.landmarks[game, :start]):
            # The player to move just before the window comes first.
            times[(start - 1 - at) % 2] += unpack(entry.t())
        assert torch.equal(batch.landmarks_before[row], times)


@pytest.mark.parametrize("size", [2, 5, 9, 19])
@pytest.mark.parametrize("max_moves", [*range(1, 11), 21])
def test_tables_of_whole_games_of_any_length_are_what_the_games_say(
    size: int, max_moves: int
) -> None:
    record = record_of(size, max_moves)
    chunk = Chunk(record, None, 1)
    batch = chunk.batch(0, range(GAMES))
    assert batch.inputs.shape[1] == int(record.lengths.max()) + 1
    for game in range(GAMES):
        assert_row(batch, game, record, game, 0)
    assert batch.legal_tokens().shape == (*batch.inputs.shape, size**2 + 3)
    # No table is longer than the longest: they are what a chunk's memory goes to.
    held = [tensor for _, table, tensor in chunk._sequences.tables() if table.is_by_ply]
    assert {tensor.shape[:2] for tensor in held} == {batch.inputs.shape}


@pytest.mark.parametrize("size", [2, 5, 9, 19])
@pytest.mark.parametrize("context", [1, 2, 8, 64])
@pytest.mark.parametrize("windows", [1, 3, 50])
def test_windows_longer_and_more_than_a_game_are_pieces_of_it(
    size: int, context: int, windows: int
) -> None:
    for max_moves in (1, 3, 8, 9, 20):
        record = record_of(size, max_moves, seed=max_moves)
        chunk = Chunk(record, context, windows)
        batch = chunk.batch(0, range(GAMES * windows))
        assert batch.inputs.shape == (GAMES * windows, context)
        for row in range(0, GAMES * windows, max(1, windows // 3)):
            game, start = row % GAMES, int(batch.plies[row, 0])
            last = max(0, int(record.lengths[game]) + 1 - context)
            assert 0 <= start <= last, "a window begins in its game and has no PAD it need not have"
            assert_row(batch, row, record, game, start)


@pytest.mark.parametrize(("max_moves", "context"), [(1, "null"), (3, "null"), (1, 8), (4, 1)])
def test_a_run_on_games_of_a_few_moves_trains_and_validates(
    folder: Path, max_moves: int, context: object
) -> None:
    options = ["--data.max_moves", max_moves, "--data.context", context, "--data.board_size", 9]
    short = ["--trainer.max_steps", 2, "--trainer.val_check_interval", 1]
    pictures = ["--picture_every_n_validations", 1]
    assert fit(*options, *short, *pictures) == 0
    last = ["--config", "small.yaml", "--ckpt_path", "last"]
    assert tessera("validate", *last, *options) == 0
    assert tessera("test", *last, *options) == 0


@pytest.mark.parametrize("step", [1, 4, 7, 1000])
def test_lengths_of_whole_games_are_few_if_asked_and_pad_fills_them_up(step: int) -> None:
    record = record_of(3, 18)
    exact, rounded = Chunk(record, None, 1), Chunk(record, None, 1, length_step=step)
    most = record.moves.shape[1] + 1
    for row in range(GAMES):
        own, batch = (chunk.batch(0, range(row, row + 1)) for chunk in (exact, rounded))
        length = own.inputs.shape[1]
        assert batch.inputs.shape[1] == min(-(-length // step) * step, most)
        assert torch.equal(batch.inputs[:, :length], own.inputs)
        assert torch.equal(batch.targets[:, :length], own.targets)
        pad = Vocabulary(3).pad_token
        assert (batch.targets[:, length:] == pad).all() and (batch.entropies[:, length:] == 0).all()
