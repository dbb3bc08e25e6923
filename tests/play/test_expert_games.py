"""Games of a search against itself: their openings, what is kept of them, and that they go on."""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

import pytest
import torch

from tessera.go import GPUGoEngine, Rules, play_out
from tessera.go.branching import tensors_of
from tessera.go.randomness import MOVE
from tessera.model import GameModel, ModelSettings
from tessera.play.evaluator import ModelEvaluator
from tessera.play.expert_games import ExpertGames, GamesSettings
from tessera.play.search import GumbelSearch, Searched

SIZE, SLOTS = 3, 6
RULES = Rules(komi=0.5, max_moves=20)
MODEL = ModelSettings(
    SIZE**2 + 3, 8, features="board", mixer="identity", head="points", outcome="win_and_score"
)
SETTINGS = {"slots": SLOTS, "full_share": 0.5, "opening_plies": 3, "temperature_plies": 3}
SETTINGS |= {"playouts": 4, "rows": 40, "seed": 1}


def new_games(**changes: Any) -> ExpertGames:
    torch.manual_seed(0)
    evaluator = ModelEvaluator(GameModel(MODEL).eval())
    full, fast = (GumbelSearch(evaluator, n, 3, passes="sensible") for n in (4, 0))
    return ExpertGames(
        full,
        fast,
        GamesSettings(**(SETTINGS | changes)),
        board_size=SIZE,
        rules=RULES,
        device=torch.device("cpu"),
    )


def test_another_process_goes_on_with_what_was_kept_and_games_of_its_own() -> None:
    first = new_games()
    first.begin()
    for _ in range(8):
        first.play()
    kept = copy.deepcopy(first.saved())
    other = new_games()
    other.restore(kept)
    other.begin_others(1)
    assert not set(first.numbers.tolist()) & set(other.numbers.tolist())
    assert torch.equal(first.ring.tensors["rows"], other.ring.tensors["rows"])
    for games in (first, other):
        games.play()
    assert first.plies == other.plies and first.written == other.written
    assert not torch.equal(first.engine.history, other.engine.history)
    assert bool((other.begun >= kept["ring_written"]).all())


def test_games_that_are_kept_and_gone_on_with_are_the_same_games() -> None:
    whole = new_games()
    whole.begin()
    for _ in range(3):
        whole.play_out()
    whole.end_playouts()
    for _ in range(12):
        whole.play()
    kept = copy.deepcopy(whole.saved())
    other = new_games()
    other.restore(kept)
    for games in (whole, other):
        for _ in range(25):
            games.play()
    assert whole.plies == other.plies and whole.written == other.written
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor.nan_to_num(7), other.tensors()[name].nan_to_num(7)), name


def test_what_is_kept_of_a_position_is_what_happened_in_its_game() -> None:
    games = new_games(full_share=1.0, opening_plies=0)
    games.begin()
    replayed = copy.deepcopy(games.engine)
    results: dict[int, tuple[float, torch.Tensor]] = {}
    played: list[list[int]] = []
    for ply in range(30):
        played.append(games.numbers.tolist())
        games.play()
        row = games.ring.tensors["actions"][ply].long()
        replayed.play_batch(row)
        over = replayed.is_game_over()
        scores, owners = replayed.score().tolist(), replayed.ownership().clone()
        results |= {
            played[-1][slot]: (scores[slot], owners[slot]) for slot in over.nonzero()[:, 0].tolist()
        }
        replayed.reset(over)
        for own, new in zip(
            chain(*tensors_of(replayed)),
            chain(*tensors_of(games.engine)),
            strict=True,
        ):
            assert torch.equal(own, new)
    ring = games.ring.tensors
    known = ring["wins"][:30].isfinite()
    # Every game that is over is known from its first position of a search on.
    assert known.any() and not known[-1].all() and len(results) > SLOTS
    assert games.tally.tensors["sums"][4] == len(results)
    for ply, row in enumerate(played):
        for slot, number in enumerate(row):
            if number not in results:
                assert not known[ply, slot]
                continue
            score, owners = results[number]
            colour = 1 - 2 * int(ring["turns"][ply, slot])
            assert ring["scores"][ply, slot] == colour * score
            assert ring["wins"][ply, slot] == (colour * score > 0) + (score == 0) / 2
            assert torch.equal(ring["owners"][ply, slot], (127 * colour * owners).to(torch.int8))
    told = games.tally.read("selfplay")
    ends = torch.tensor([score for score, _ in results.values()])
    assert told["score"] == pytest.approx(float(ends.mean()))
    assert told["black_wins"] == pytest.approx(float((ends > 0).float().mean()))


def test_the_ends_of_games_are_told_from_their_first_searched_ply_on() -> None:
    games = new_games(full_share=1.0, opening_plies=4)
    games.begin()
    stood = []
    for _ in range(24):
        numbers, openings = games.numbers.tolist(), games.openings.tolist()
        stood.append(list(zip(numbers, games.engine.move_number.tolist(), openings, strict=True)))
        games.play()
    going = set(games.numbers.tolist())
    known = games.ring.tensors["wins"].isfinite()
    expected = [[n not in going and at >= own for n, at, own in row] for row in stood]
    assert known[:24].tolist() == expected
    assert any(n not in going and at == own > 0 for row in stood for n, at, own in row)


def test_first_moves_are_drawn_and_later_ones_are_what_the_search_chose() -> None:
    games = new_games(full_share=1.0, opening_plies=0, temperature_plies=2)
    search = games.full.run

    def apart(*given: Any) -> Searched:
        """It would learn the last move that is looked at, and chooses the first one."""
        found = search(*given)
        looked_at = (found.prior_logits > -torch.inf).int()
        last = looked_at.shape[1] - 1 - looked_at.flip(1).argmax(1)
        weights = torch.nn.functional.one_hot(last, looked_at.shape[1]).float()
        return found._replace(action=looked_at.argmax(1), action_weights=weights)

    games.full.run = apart  # type: ignore[assignment, method-assign]
    for ply in range(4):
        is_one = (games.engine.move_number < 2).tolist()
        games.play()
        ring = games.ring.tensors
        learnt = ring["weights"][ply].argmax(1)
        assert ((ring["actions"][ply] == learnt) == torch.tensor(is_one)).all()


def test_half_of_the_games_begin_with_another_s_moves_that_nothing_is_learnt_of() -> None:
    games = new_games(slots=400, opening_plies=3)
    lengths = games._opening_lengths(torch.arange(400))
    assert 0.4 < (lengths == 0).float().mean() < 0.6
    assert set(lengths.tolist()) == {0, 1, 2, 3}
    assert not new_games(opening_plies=0)._opening_lengths(torch.arange(400)).any()


def test_slots_begin_at_all_stages_of_a_game_and_none_is_over() -> None:
    games = new_games(slots=200)
    games.begin()
    assert len(set(games.engine.move_number.tolist())) > 4
    assert not games.engine.is_game_over().any()
    before = games.engine.move_number.clone()
    games.begin()
    assert torch.equal(before, games.engine.move_number)


def test_processes_play_games_of_their_own_numbers() -> None:
    first = new_games()
    second = ExpertGames(
        first.full,
        first.fast,
        first.settings,
        board_size=SIZE,
        rules=RULES,
        device=torch.device("cpu"),
        rank=1,
    )
    for games in (first, second):
        games.begin()
    assert not set(first.numbers.tolist()) & set(second.numbers.tolist())
    assert not torch.equal(first.engine.history, second.engine.history)


def test_playouts_tell_who_wins_and_what_was_worth_playing() -> None:
    games = new_games(playouts=64)
    games.engine = GPUGoEngine(SLOTS, "cpu", SIZE, RULES)
    games.play_out()
    ring = games.ring.tensors
    assert ring["weights"][0].sum(1).tolist() == pytest.approx([1] * SLOTS, abs=0.01)
    assert ring["wins"][0].float().mean() > 0.5  # black moves first, and komi is small
    assert ring["weights"][0][:, SIZE**2 // 2].mean() > 1 / 9  # the middle is the best of 3×3
    # Then white moves, and everything is seen from there.
    engine, words = games.engine, games._words(MOVE)
    asked = play_out(engine, 64, seed=games.settings.seed, numbers=words)
    assert engine.turn.all()
    games.play_out()
    assert torch.allclose(ring["wins"][1].double(), 1 - asked.win_rates, atol=0.001)
    gained = (ring["weights"][1] / asked.first_moves).nan_to_num(0)
    best = asked.move_scores.masked_fill(asked.first_moves == 0, torch.inf).amin(1)
    assert torch.equal(asked.move_scores.gather(1, gained.argmax(1, keepdim=True))[:, 0], best)
    for row, colour in ((0, 1), (1, -1)):
        values, wins = ring["values"][row].float(), ring["wins"][row].float()
        assert torch.allclose(values, 2 * wins - 1, atol=0.01)
        area = ring["owners"][row].float().sum((1, 2)) / 127
        assert torch.allclose(ring["scores"][row].float(), area - colour * RULES.komi, atol=0.05)


def test_what_playouts_said_stays_when_games_end_later() -> None:
    games = new_games(full_share=1.0, temperature_plies=0)
    games.begin()
    for _ in range(3):
        games.play_out()
    games.end_playouts()
    ring = games.ring.tensors
    before = {name: ring[name][:3].clone() for name in ("wins", "scores", "owners")}
    for _ in range(16):
        games.play()
    assert ring["wins"][3:19].isfinite().any()
    for name, told in before.items():
        assert torch.equal(ring[name][:3], told), name


def test_the_tally_tells_of_the_games_what_they_were() -> None:
    games = new_games(full_share=1.0)
    games.begin()
    for _ in range(40):
        games.play()
    told = games.tally.read("selfplay")
    assert 2 < told["game_length"] <= 20 and 0 <= told["black_wins"] <= 1
    assert 0 <= told["value_brier"] <= 1 and 0 < told["value_spread"] < 1
    assert 0 < told["entropy"] < 2.4 and told["gain"] >= 0 and 0 < told["pass_rate"] < 0.5
    again = games.tally.read("selfplay")
    assert set(again) == {"repeated"}
