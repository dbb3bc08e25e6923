"""Pictures show the stones, and put probability where it is; the log has one of a game."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tessera.data import StreamSettings
from tessera.play.game_picture import replay
from tessera.play.picture import Scene, draw_scenes
from tests.runs import fit

CELL, TITLE = 26, 30  # pixels in the finished picture


def pixel(picture: torch.Tensor, row: int, column: int, panel: int = 0, size: int = 9) -> list[int]:
    """The colour a little off the middle of a point, where no label is."""
    x = panel * (size + 1) * CELL + (column + 1) * CELL - 4
    return picture[:, TITLE + (row + 1) * CELL + 8, x].tolist()


def test_stones_and_probabilities_are_drawn_where_they_are() -> None:
    stones = torch.zeros(9, 9, dtype=torch.int32)
    stones[2, 3], stones[4, 5] = 1, -1
    chances = torch.zeros(82)
    chances[7 * 9 + 1] = 1.0
    picture = draw_scenes([Scene(stones, 2 * 9 + 3, 2, {"model": chances, "player": chances})] * 2)
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, 2 * (10 * CELL + TITLE), 3 * 10 * CELL)
    for panel in range(3):
        assert max(pixel(picture, 2, 3, panel)) < 60, "a black stone"
        assert min(pixel(picture, 4, 5, panel)) > 200, "a white stone"
    wood, heat = pixel(picture, 7, 1, 0), pixel(picture, 7, 1, 1)
    assert sum(wood) > 400 and sum(heat) < 250, "the likeliest point is dark in a map only"
    assert pixel(picture, 7, 1, 2) == heat
    assert pixel(picture, 7, 6, 1) == pixel(picture, 7, 6, 0), "elsewhere the map is empty"


@pytest.mark.parametrize("size", [2, 7, 19])
def test_every_board_size_can_be_drawn(size: int) -> None:
    stones = torch.zeros(size, size, dtype=torch.int32)
    picture = draw_scenes([Scene(stones, None, 0, {"model": torch.rand(size**2 + 3)})])
    assert picture.shape == (3, (size + 1) * CELL + TITLE, 2 * (size + 1) * CELL)


def test_a_replayed_moment_is_a_position_of_the_game_with_the_players_own_map() -> None:
    moments = replay(StreamSettings(board_size=5, context=None, batch_size=1))
    assert len(moments) == 3
    for tokens, scene in moments:
        (chances,) = scene.maps.values()
        assert chances.sum() == pytest.approx(1)
        occupied = scene.stones.flatten() != 0
        assert chances[:25][occupied].count_nonzero() == 0
        points = tokens[0, 1:][tokens[0, 1:] < 25]
        assert scene.stones.count_nonzero() <= len(points)
        assert set(occupied.nonzero().flatten().tolist()) <= set(points.tolist())
        assert scene.last_move == (int(tokens[0, -1]) if scene.ply else None)
    plies = [scene.ply for _, scene in moments]
    assert plies == sorted(plies) and plies[0] < plies[-1]


def test_validations_leave_a_picture_in_the_log(folder: Path) -> None:
    options = ["--trainer.val_check_interval", 4, "--picture_every_n_validations", 2]
    assert fit(*options) == 0
    log = EventAccumulator("lightning_logs/small/version_0", size_guidance={"images": 0})
    log.Reload()
    for tag in ("val/game", "val/calibration"):
        assert [event.step for event in log.Images(tag)] == [4, 12, 20]
    assert "settings/text_summary" in log.Tags()["tensors"]
