"""The search of many positions at once against the slow one, and what it must keep to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tessera.go import GameLoop, GPUGoEngine, Rules
from tessera.go.branching import copies
from tessera.go.randomness import MOVE, draw, mix, random_words
from tessera.play.evaluator import Evaluation
from tessera.play.gumbel import gumbel_noise, visits_in_turn
from tessera.play.search import GumbelSearch, Searched
from tessera.play.search_player import SearchPlayer
from tessera.setting_errors import SettingError
from tests.go.oracle import Oracle
from tests.go.states import everything
from tests.play.slow_search import Position, SlowSearch, grid_number

SIZE, KOMI, MAX_MOVES = 3, 0.5, 24
PASS = SIZE**2


def opinion(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, 10) from -3 to 3 and values (B,) from -1 to 1 of positions known by numbers."""
    words = mix(numbers.unsqueeze(1) * 16 + torch.arange(PASS + 2))
    shares = (words >> 40).double() / 2**23
    return (3 * shares[:, :-1]).float(), shares[:, -1].float()


class FixedEvaluator:
    """Random opinions of positions, always the same of the same one."""

    score_weight = 0.0

    def evaluate(self, engine: GPUGoEngine) -> Evaluation:
        boards, numbers = engine.boards.flatten(2), engine.turn.clone()
        for point in range(PASS):
            numbers = 3 * numbers + boards[:, 0, point] + 2 * boards[:, 1, point]
        return Evaluation(*opinion(numbers))

    def places(self) -> object:
        return None


def slow_opinion(grid: tuple[str, ...], turn: int) -> tuple[list[float], float]:
    logits, value = opinion(torch.tensor([grid_number(grid, turn)]))
    return logits[0].tolist(), float(value)


def test_an_end_is_worth_its_score_to_who_would_move() -> None:
    engine = GPUGoEngine(2, "cpu", SIZE, Rules(komi=KOMI))
    for moves in ([PASS, 4], [PASS, PASS], [engine.vocabulary.pad_token, PASS]):
        engine.play_batch(torch.tensor(moves))
    evaluator = FixedEvaluator()
    evaluator.score_weight = 0.25
    found = GumbelSearch(evaluator, 2).run(engine, torch.arange(2))
    # White wins the empty board by komi alone; black the other one, where white is to move.
    lead = torch.tensor([-KOMI, -(SIZE**2 - KOMI)])
    assert engine.is_game_over().all() and engine.turn.tolist() == [0, 1]
    assert torch.allclose(found.value, -0.75 + 0.25 * (lead / SIZE).tanh())


def begun_games(rules: Rules) -> tuple[GPUGoEngine, list[Position]]:
    """Random games, of which game k has been going on for 3k plies, by both referees."""
    num_games = MAX_MOVES // 3 + 1
    engine = GPUGoEngine(num_games, "cpu", SIZE, rules)
    positions = [
        Position(Oracle(SIZE, rules.ko, rules.suicide), 0, engine.max_moves, rules.komi)
        for _ in range(num_games)
    ]
    numbers = torch.arange(num_games)
    for ply in range(MAX_MOVES):
        legal = engine.get_legal_mask()
        legal[:, -1] &= (numbers % 3 == 0) | ~legal[:, :-1].any(1)
        words = random_words(7, numbers, ply, MOVE)
        moves = draw(legal.float() / legal.sum(1, keepdim=True), legal, words)
        plays = (3 * numbers > ply) & ~engine.is_game_over()
        engine.play_batch(torch.where(plays, moves, -1))
        for game in plays.nonzero().flatten().tolist():
            positions[game] = positions[game].after(int(moves[game]))
    return engine, positions


@pytest.mark.parametrize(
    ("num_simulations", "num_considered", "value_scale", "max_visit"),
    [(1, 16, 1.0, 50.0), (16, 4, 0.1, 50.0), (24, 16, 0.02, 20.0), (35, 3, 0.05, 1.0)],
)
def test_the_search_is_the_slow_one(
    num_simulations: int, num_considered: int, value_scale: float, max_visit: float
) -> None:
    rules = Rules(komi=KOMI, max_moves=MAX_MOVES, suicide=num_simulations % 2 == 0)
    engine, positions = begun_games(rules)
    words = random_words(0, torch.arange(len(positions)), 0, MOVE)
    search = GumbelSearch(FixedEvaluator(), num_simulations, num_considered, value_scale, max_visit)
    found = search.run(engine, words)
    noise = gumbel_noise(words, PASS + 1)
    slow = SlowSearch(slow_opinion, num_considered, value_scale, max_visit)
    assert any(position.is_over() for position in positions)
    ko_refusals = 0
    for game, position in enumerate(positions):
        root = slow.run(position, num_simulations, noise[game].tolist())
        if not position.is_over():
            visits = [root.visits(move) for move in range(PASS + 1)]
            assert found.visits[game].tolist() == visits
        assert int(found.action[game]) == slow.best(root, noise[game].tolist())
        policy = slow.improved(root)
        weights = torch.tensor([policy.get(move, 0.0) for move in range(PASS + 1)])
        assert torch.allclose(found.action_weights[game], weights, atol=1e-4)
        assert float(found.value[game]) == pytest.approx(
            sum(root.values) / len(root.values), abs=1e-5
        )
        q = slow.completed(root, int(found.action[game]))
        assert float(found.q[game]) == pytest.approx(q, abs=1e-5)
        assert float(found.raw_value[game]) == pytest.approx(root.raw, abs=1e-6)
        ko_refusals += sum(node.position.oracle.ko_refusals for node in root.all_nodes())
    # What superko forbids in a tree is not seen on the board; with suicide it is often asked.
    assert ko_refusals >= (num_simulations if rules.suicide else num_simulations // 12)


def searched(num_games: int = 6, **settings: Any) -> tuple[GPUGoEngine, Searched]:
    """A search of random games in which a few plies were played."""
    engine, _ = begun_games(Rules(komi=KOMI, max_moves=MAX_MOVES))
    engine.keep(torch.arange(1, 1 + num_games))
    search = GumbelSearch(FixedEvaluator(), **settings)
    return engine, search.run(engine, torch.arange(num_games))


def test_it_is_the_same_bits_each_time_and_changes_nothing() -> None:
    before, found = searched(num_simulations=9)
    held = everything(before)
    # In any batch, at any place, and where torch may only do what is the same each time.
    search = GumbelSearch(FixedEvaluator(), num_simulations=9)
    torch.use_deterministic_algorithms(True)
    try:
        again = [search.run(before, torch.arange(6)) for _ in range(2)]
        turned = copies(before, torch.arange(5, -1, -1))
        again.append(Searched(*(x.flip(0) for x in search.run(turned, torch.arange(6).flip(0)))))
    finally:
        torch.use_deterministic_algorithms(False)
    for other in again:
        for name, tensor, expected in zip(Searched._fields, other, found, strict=True):
            assert torch.equal(tensor, expected), name
    for name, tensor in everything(before).items():
        assert torch.equal(tensor, held[name]), name


def test_without_simulations_it_is_the_prior_with_noise() -> None:
    engine, found = searched(num_simulations=0)
    evaluation = FixedEvaluator().evaluate(engine)
    allowed = engine.get_legal_mask() & ~engine.is_game_over().unsqueeze(1)
    allowed[:, PASS] = True
    priors = evaluation.logits.masked_fill(~allowed, -torch.inf).log_softmax(1)
    assert torch.allclose(found.prior_logits, priors, atol=1e-6)
    assert torch.allclose(found.action_weights, priors.exp(), atol=1e-6)
    noise = gumbel_noise(torch.arange(6), PASS + 1)
    assert torch.equal(found.action, (priors + noise).argmax(1))
    assert torch.equal(found.value, found.raw_value) and torch.equal(found.q, found.raw_value)
    _, best = searched(num_simulations=0, noise=0.0)
    assert torch.equal(best.action, priors.argmax(1))
    assert not found.visits.any()


def test_only_the_games_that_are_to_be_played_are_searched() -> None:
    engine, whole = searched()
    asked: list[int] = []

    class Counting(FixedEvaluator):
        def evaluate(self, engine: GPUGoEngine) -> Evaluation:
            asked.append(engine.batch_size)
            return super().evaluate(engine)

    search, is_playing = GumbelSearch(Counting()), torch.tensor([0, 1, 1, 0, 0, 1]).bool()
    found = search.run(engine, torch.arange(6), is_playing)
    assert set(asked) == {3}
    for name, tensor, expected in zip(Searched._fields, found, whole, strict=True):
        assert torch.equal(tensor[is_playing], expected[is_playing]), name
    rest = ~is_playing
    assert (found.action[rest] == PASS).all() and (found.action_weights[rest, PASS] == 1).all()
    assert not found.value[rest].any() and not found.visits[rest].any()
    nothing = search.run(engine, torch.arange(6), torch.zeros(6, dtype=torch.bool))
    assert (nothing.action == PASS).all()


def test_a_game_that_is_over_is_passed_and_worth_its_score() -> None:
    engine = GPUGoEngine(2, "cpu", SIZE, Rules(komi=KOMI))
    for move in (4, PASS, PASS):
        engine.play_batch(torch.tensor([move, PASS]))
    found = GumbelSearch(FixedEvaluator()).run(engine, torch.arange(2))
    assert found.action.tolist() == [PASS, PASS]
    # Black has everything of game 0 and nothing of game 1; who is to move there is white, black.
    assert found.value.tolist() == [-1.0, -1.0] and engine.turn.tolist() == [1, 0]


class Broken(FixedEvaluator):
    """Says no numbers."""

    def evaluate(self, engine: GPUGoEngine) -> Evaluation:
        logits, value = super().evaluate(engine)
        return Evaluation(logits.fill_(torch.nan), value.fill_(torch.inf))


@pytest.mark.parametrize("evaluator", [FixedEvaluator(), Broken()], ids=["fixed", "broken"])
@pytest.mark.parametrize("suicide", [False, True])
def test_games_of_the_player_are_legal_to_the_end(evaluator: FixedEvaluator, suicide: bool) -> None:
    rules = Rules(komi=KOMI, suicide=suicide)
    player = SearchPlayer(evaluator, 5, 4, temperature=1.0)
    loop = GameLoop(player, 6, 4, board_size=SIZE, rules=rules)
    record = loop.play(torch.arange(6))
    engine = GPUGoEngine(6, "cpu", SIZE, rules)
    for moves in record.moves.long().unbind(1):
        engine.play_batch(torch.where(engine.is_game_over(), PASS, moves), check=True)
    assert engine.is_game_over().all()
    assert record.player == "search:5"
    assert (record.entropies[:, 0] > 0).all() and (record.log_probs <= 0).all()


def test_the_player_without_noise_plays_the_best_and_heeds_no_words() -> None:
    engine, found = searched(num_simulations=12, noise=0.0)
    player = SearchPlayer(FixedEvaluator(), 12, temperature=0.0)
    player.begin(engine)
    for words in (torch.arange(6), torch.arange(6) + 77):
        choice = player.choose(engine, words)
        assert torch.equal(choice.moves, found.action)
        expected = found.action_weights.gather(1, found.action[:, None])[:, 0].log()
        assert torch.equal(choice.log_probs, expected)
    assert torch.equal(player.newest.visits, found.visits)
    moved = SearchPlayer(FixedEvaluator(), 0, temperature=5.0)
    drawn = {tuple(moved.choose(engine, torch.arange(6) + k).moves.tolist()) for k in range(4)}
    assert len(drawn) == 4


def test_a_pass_is_the_last_choice_if_that_is_asked_for() -> None:
    engine = GPUGoEngine(4, "cpu", SIZE, Rules(komi=KOMI))
    wants_to_pass = PassingEvaluator()
    assert GumbelSearch(wants_to_pass).run(engine, torch.arange(4)).action.tolist() == [PASS] * 4
    for settings in ({"passes": "last"}, {"first_pass": 3}):
        search = GumbelSearch(wants_to_pass, 8, **settings)
        found = search.run(engine, torch.arange(4))
        assert (found.action != PASS).all() and not found.action_weights[:, PASS].any()
    engine.play_batch(torch.tensor([0, 1, 2, 3]))
    for _ in range(2):
        engine.play_batch(search.run(engine, torch.arange(4)).action)
        assert engine.passes.tolist() == [0] * 4
    assert search.run(engine, torch.arange(4)).action.tolist() == [PASS] * 4
    # Black's two eyes are nobody's to play.
    full = torch.ones(1, 2, SIZE, SIZE, dtype=torch.bool)
    full[0, 1] = full[0, 0, 0, 0] = full[0, 0, 2, 2] = False
    last = GPUGoEngine(1, "cpu", SIZE, Rules(komi=KOMI))
    last.set_position(full, torch.tensor([1]))
    assert GumbelSearch(wants_to_pass, passes="last").run(last, torch.arange(1)).action == PASS


class PassingEvaluator(FixedEvaluator):
    """Nothing but a pass comes to its mind, and everything is even."""

    def evaluate(self, engine: GPUGoEngine) -> Evaluation:
        logits, value = super().evaluate(engine)
        logits[:, PASS] = 60.0
        return Evaluation(logits, value * 0)


def test_the_visits_of_sequential_halving_are_those_of_mctx() -> None:
    assert visits_in_turn(4, 8) == [0, 0, 0, 0, 1, 1, 2, 2]
    assert visits_in_turn(4, 16) == [0] * 4 + [1] * 4 + [2, 2, 3, 3, 4, 4, 5, 5]
    assert visits_in_turn(4, 2) == [0, 0]
    assert visits_in_turn(7, 21) == [0] * 7 + [1] * 3 + [2] * 3 + [3, 3, 4, 4, 5, 5, 6, 6]
    assert visits_in_turn(1, 5) == visits_in_turn(0, 5) == [0, 1, 2, 3, 4]


def test_gumbel_noise_is_gumbels() -> None:
    noise = gumbel_noise(torch.arange(20_000), 3).double()
    assert noise.isfinite().all()
    # Mean: Euler's constant; variance: pi² / 6.
    assert torch.allclose(noise.mean(0), torch.full((3,), 0.5772, dtype=torch.float64), atol=0.03)
    assert torch.allclose(noise.var(0), torch.full((3,), 1.6449, dtype=torch.float64), atol=0.06)
    assert torch.equal(gumbel_noise(torch.tensor([7]), 2), gumbel_noise(torch.arange(8), 3)[7:, :2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_simulations": -1}, "num_simulations must be at least 0, got -1."),
        ({"num_simulations": 1.5}, "num_simulations must be a whole number, got 1.5."),
        ({"num_simulations": 2**15}, "num_simulations must be at most 32767, got 32768."),
        ({"num_considered": 0}, "num_considered must be at least 1, got 0."),
        ({"value_scale": -1.0}, "value_scale must be at least 0, got -1.0."),
        ({"max_visit": float("nan")}, "max_visit must be at least 0, got nan."),
        ({"first_pass": True}, "first_pass must be a whole number, got True."),
        ({"passes": "never"}, "passes must be one of free, last, sensible, got never."),
    ],
)
def test_settings_that_are_out_of_range_are_refused_in_one_line(
    settings: dict[str, Any], message: str
) -> None:
    for build in (GumbelSearch, SearchPlayer):
        with pytest.raises(SettingError) as error:
            build(FixedEvaluator(), **settings)
        assert str(error.value) == message


def test_noise_has_the_name_that_it_was_given() -> None:
    with pytest.raises(SettingError, match=r"^noise must be at least 0, got -2\.$"):
        GumbelSearch(FixedEvaluator(), noise=-2)
    with pytest.raises(SettingError, match=r"^temperature must be at least 0, got -2\.$"):
        SearchPlayer(FixedEvaluator(), temperature=-2)


def test_trees_that_do_not_fit_are_refused_in_one_line() -> None:
    engine = GPUGoEngine(400, "cpu", 19)
    with pytest.raises(MemoryError) as error:
        GumbelSearch(FixedEvaluator(), 32_000).run(engine, torch.arange(400))
    assert str(error.value).startswith("out of memory: num_simulations (=32000) in 400 games need ")
    with pytest.raises(ValueError, match="words must be a tensor"):
        GumbelSearch(FixedEvaluator()).run(engine, torch.arange(399))
