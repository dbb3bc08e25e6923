"""The tally of games says of a few that were made for it what they were."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tessera.play.game_tally import GameTally
from tessera.play.position_ring import Ended


def test_what_is_known_of_ended_games_is_counted_and_nothing_else() -> None:
    tally = GameTally(3, 4, torch.device("cpu"))
    engine = SimpleNamespace(
        passes=torch.tensor([0, 1, 2]),
        move_number=torch.tensor([2, 2, 1]),
        history=torch.tensor([[5, 7, 0, 0]] * 3),
    )
    over = torch.tensor([True, True, False])
    ended = Ended(
        torch.tensor([[True, False, False], [True, True, False]]),
        torch.tensor([[0.5, 1.0, 1.0], [-0.5, -0.5, 1.0]]),
        torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    )
    tally.end(engine, over, torch.tensor([3.0, 0.0, -9.0]), ended)  # type: ignore[arg-type]
    told = tally.read("selfplay")
    # The chances were 3/4, 1/4 and 1/4; the last of them alone was won.
    assert told == pytest.approx(
        {
            **{"game_length": 2, "black_wins": 0.75, "score": 1.5, "at_limit": 1.0},
            **{"repeated": 0.5, "value_brier": (9 + 1 + 9) / 48, "value_base": 2 / 9},
            **{"value_ece": (0.75 + 0.5) / 3, "value_spread": (1 / 18) ** 0.5},
        }
    )
    # The sums are of what is new; which games were played before is known.
    tally.end(engine, over, torch.tensor([3.0, 0.0, -9.0]), ended)  # type: ignore[arg-type]
    assert tally.read("selfplay") == pytest.approx({**told, "repeated": 0.75})
    tally.end(engine, over, torch.tensor([3.0, 0.0, -9.0]), ended)  # type: ignore[arg-type]
    tally.forget()
    assert tally.read("selfplay") == pytest.approx({"repeated": 5 / 6})
