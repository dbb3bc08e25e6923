"""Tokens and vertex names."""

from __future__ import annotations

import numpy as np
import pytest

from tessera.vocabulary import Vocabulary


def test_tokens_of_19x19_are_the_published_ones() -> None:
    go19 = Vocabulary(19)
    assert (go19.num_points, go19.pass_token, go19.pad_token, go19.eos_token) == (
        361,
        361,
        362,
        363,
    )
    assert go19.size == 364
    assert go19.token("A19") == 0
    assert go19.token("T1") == 360
    assert go19.token("q16") == 3 * 19 + 15
    assert go19.vertex(361) == "pass"


@pytest.mark.parametrize("size", range(2, 20))
def test_every_token_has_one_name(size: int) -> None:
    vocabulary = Vocabulary(size)
    names = [vocabulary.vertex(token) for token in range(vocabulary.size)]
    assert len(set(names)) == vocabulary.size
    assert not any("I" in name for name in names[: vocabulary.num_points])
    tokens = [vocabulary.token(name) for name in names[: vocabulary.num_points + 1]]
    assert tokens == list(range(vocabulary.num_points + 1))


@pytest.mark.parametrize("size", [1, 20, 25, 0, -9, 9.5, 9.0, True, "9", None, [9]])
def test_board_sizes_outside_2_to_19_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="board_size must be 2 to 19, got"):
        Vocabulary(size)


@pytest.mark.parametrize(
    "vertex",
    ["I5", "K9", "A0", "A10", "", "5E", "A-1", "E", "A²", "PAD", "ſ5", "A" + 5000 * "1", None, 5],
)
def test_names_of_no_vertex_are_refused(vertex: str) -> None:
    with pytest.raises(ValueError, match="vertex must be A1 to J9 or pass, got"):
        Vocabulary(9).token(vertex)


def test_numpys_whole_numbers_are_sizes_and_tokens() -> None:
    go9 = Vocabulary(np.int64(9))
    assert go9 == Vocabulary(9) and type(go9.board_size) is int
    assert go9.vertex(np.int16(0)) == "A9"


@pytest.mark.parametrize("token", [-1, 84, 3.0, "3", None, True, [3]])
def test_tokens_outside_the_vocabulary_are_refused(token: int) -> None:
    with pytest.raises(ValueError, match="token must be 0 to 83, got"):
        Vocabulary(9).vertex(token)
