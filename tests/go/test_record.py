"""Every table of a record survives what is done to records, one that is added as well."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

import pytest
import torch
from torch import Tensor

from tessera.go import GameLoop, GameRecord, GPUGoEngine, get_player, kept_tables, play_games
from tessera.go.record import BYTES_PER_PLY, TABLES, Table, bytes_per_ply, described
from tessera.vocabulary import Vocabulary

SIZE = 4
OPTIONAL = ["legal", "board", "landmarks", "settled"]


def played(numbers: range) -> GameRecord:
    return play_games("rules", numbers, seed=1, board_size=SIZE, needs=OPTIONAL)


def same(a: GameRecord, b: GameRecord) -> bool:
    tables = [(name, tensor) for name, _, tensor in a.tables()]
    assert [name for name, _ in tables] == list(TABLES)
    return torch.equal(a.numbers, b.numbers) and all(
        tensor.dtype == getattr(b, name).dtype and torch.equal(tensor, getattr(b, name))
        for name, tensor in tables
    )


def test_every_tensor_of_a_record_is_described() -> None:
    tensors = {field.name for field in fields(GameRecord) if "Tensor" in str(field.type)}
    assert tensors - {"numbers"} == set(TABLES)
    for name, table, tensor in played(range(3)).tables():
        assert tensor.dtype == table.dtype, name
        assert tensor.shape[1 + table.is_by_ply :] == table.entry_shape(SIZE), name


def test_tables_are_filled_up_beyond_the_end_and_cut_to_what_they_were() -> None:
    record = played(range(7))
    plies = record.moves.shape[1]
    longer = record.fitted(plies + 5)
    for name, table, tensor in longer.tables():
        if table.is_by_ply:
            beyond = Vocabulary(SIZE).pad_token if name == "moves" else 0
            entries = plies + (name in ("board", "landmarks", "settled"))
            assert tensor.shape[1] == entries + 5 and (tensor[:, entries:] == beyond).all()
    assert same(longer.trimmed(), record)
    assert same(longer.to("cpu"), longer)


def test_parts_of_other_lengths_are_joined_to_what_was_played_at_once() -> None:
    parts = [played(range(0, 2)), played(range(2, 9))]
    assert parts[0].moves.shape != parts[1].moves.shape
    assert same(GameRecord.joined(parts), played(range(9)))


def test_the_bytes_of_a_ply_are_those_of_its_tables() -> None:
    record = played(range(3))
    plies = record.moves.numel()
    # A game's position before the first ply is left out, of which nothing is to be said.
    by_ply = [
        tensor[:, int(table.has_last) :] for _, table, tensor in record.tables() if table.is_by_ply
    ]
    assert bytes_per_ply(TABLES, SIZE) * plies == sum(tensor.nbytes for tensor in by_ply)
    assert BYTES_PER_PLY == 12


def test_only_an_optional_table_can_be_asked_for() -> None:
    for name in OPTIONAL:
        assert set(kept_tables([name])) - set(kept_tables()) == {name}
    for name in ("moves", "stones"):
        allowed = "legal, board, landmarks, settled"
        with pytest.raises(ValueError, match=f"needs must be among {allowed}, got {name}."):
            play_games("uniform", range(1), seed=0, board_size=SIZE, needs=[name])


@dataclass(frozen=True, slots=True)
class WithStones(GameRecord):
    """A record that holds the stones of the mover before each ply, and their number at the end."""

    stones: Annotated[
        Tensor | None,
        Table(torch.int32, "before", lambda engine: engine.position.own.t(), has_rows=True),
    ] = None
    turns: Annotated[Tensor | None, Table(torch.int8, "end", lambda engine: engine.turn)] = None


@pytest.mark.parametrize("drops_finished", [True, False])
def test_a_table_that_is_added_is_described_and_nothing_more(drops_finished: bool) -> None:
    tables = described(WithStones)
    assert bytes_per_ply(tables, SIZE) == bytes_per_ply(TABLES, SIZE) + 4 * SIZE
    loop = GameLoop(
        get_player("rules"), 6, board_size=SIZE, tables=tables, drops_finished=drops_finished
    )
    with pytest.raises(TypeError, match="stones"):  # GameRecord does not know it
        loop.play(torch.arange(6))
    plain = play_games("rules", range(6), seed=0, board_size=SIZE)
    engine = GPUGoEngine(6, "cpu", SIZE)
    for ply in range(plain.moves.shape[1]):
        going = plain.lengths > ply
        assert torch.equal(loop.tables["moves"][:-1, ply], plain.moves[:, ply])
        assert torch.equal(
            loop.tables["stones"][:-1, ply], engine.position.own.t() * going[:, None]
        )
        engine.play_batch(plain.moves[:, ply].long())
    assert torch.equal(loop.tables["turns"][:-1], engine.turn.to(torch.int8))
