"""The metrics are what they are called, and exact where exactness was promised."""

from __future__ import annotations

import math

import pytest
import torch

from tessera.data import GameBatch, GameStream, StreamSettings
from tessera.go import GPUGoEngine, distribution, get_player
from tessera.model import Head, MambaModel
from tessera.training import NextMoveMetrics, TesseraModule
from tessera.training.metrics import GROUPS, group_names
from tessera.vocabulary import Vocabulary

SIZE = 4
WORDS = Vocabulary(SIZE)


def whole_games(
    player: str, with_legal: bool = True, skip_settled: bool = False, seed: int = 0
) -> GameBatch:
    given = StreamSettings(
        board_size=SIZE,
        player=player,
        skip_settled=skip_settled,
        batch_size=16,
        games_per_chunk=16,
        context=None,
        seed=seed,
    )
    needs = NextMoveMetrics.needs if with_legal else ()
    return GameStream(given, needs=(*needs, *["settled"] * skip_settled)).batch(0)


def players_own_logits(player: str, batch: GameBatch, skip_settled: bool = False) -> torch.Tensor:
    """Log of the player's distribution along the replayed games; EOS after the last move."""
    engine = GPUGoEngine(len(batch.inputs), "cpu", SIZE, skip_settled=skip_settled)
    chances = torch.zeros(*batch.targets.shape, WORDS.size)
    for ply in range(batch.targets.shape[1]):
        is_over = engine.is_game_over()
        chances[:, ply, : SIZE**2 + 1] = distribution(get_player(player), engine)
        chances[is_over, ply] = 0.0
        chances[is_over, ply, WORDS.eos_token] = 1.0
        moves = batch.targets[:, ply].clamp(max=WORDS.pass_token)
        engine.play_batch(moves)
    return chances.log()


def measure(logits: torch.Tensor, batch: GameBatch) -> dict[str, float]:
    metrics = NextMoveMetrics()
    # In two parts, so that adding up is measured as well.
    for rows in (slice(0, 5), slice(5, None)):
        metrics.update(logits[rows], batch.rows(rows))
    return {name: float(value) for name, value in metrics.compute().items()}


@pytest.mark.parametrize("player", ["uniform", "rules"])
def test_excess_of_the_player_itself_is_zero(player: str) -> None:
    batch = whole_games(player)
    measured = measure(players_own_logits(player, batch), batch)
    assert measured["excess_nats"] == pytest.approx(0, abs=1e-6)
    assert measured["legal_mass"] == pytest.approx(1, abs=1e-6)
    assert measured["legal_top1"] == 1
    assert measured["loss"] == pytest.approx(measured["floor_nats"], abs=0.2)


class Known(Head):
    """Says the same logits whatever it reads."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, hidden: torch.Tensor, *maps: torch.Tensor) -> torch.Tensor:
        return self.logits.reshape(*hidden.shape[:-1], -1)

    def losses(self, *_: object) -> torch.Tensor:
        raise AssertionError("losses where points are excluded are made of logits")


@pytest.mark.parametrize("outcome", ["none", "win_and_score"])
@pytest.mark.parametrize("player", ["uniform", "rules"])
def test_what_a_model_gives_to_settled_points_counts_nowhere(player: str, outcome: str) -> None:
    batch = whole_games(player, skip_settled=True, seed=1)
    assert batch.settled is not None
    columns = torch.arange(SIZE)
    settled = (batch.settled.unsqueeze(-1) >> columns & 1).bool().flatten(2)
    settled = torch.nn.functional.pad(settled, (0, 3))
    logits = players_own_logits(player, batch, skip_settled=True)
    assert logits[settled].isneginf().all() and settled.sum() > 500
    # A model that is the player, but for a good part of its probability on settled points.
    logits = logits.masked_fill(settled, 0.5)
    module = TesseraModule(vocab_size=WORDS.size, d_model=8, outcome=outcome)
    module.model.head = Known(logits)
    losses = module.model(
        batch.inputs, batch.targets, **module.objective._beside(module.model, batch)
    )
    losses = losses.view(-1, *batch.targets.shape)[0]
    torch.testing.assert_close(losses, -batch.log_probs, atol=1e-5, rtol=0)
    assert losses.sum() > 0
    with torch.no_grad():
        module.objective.measure(module.model, batch)
    measured = {
        name: float(value) for name, value in module.objective.held_out_metrics.compute().items()
    }
    assert measured["excess_nats"] == pytest.approx(0, abs=1e-6)
    assert measured["legal_mass"] == pytest.approx(1, abs=1e-6)
    assert measured["legal_top1"] == 1
    counted = measure(logits, batch)
    assert counted["excess_nats"] > 0.2 and counted["legal_mass"] < 0.9


def test_excess_of_an_untrained_model_is_ln_v_less_the_floor() -> None:
    batch = whole_games("rules")
    model = MambaModel(WORDS.size, d_model=16)
    with torch.no_grad():
        measured = measure(model(batch.inputs), batch)
    assert measured["loss"] == pytest.approx(math.log(WORDS.size), abs=0.05)
    expected = math.log(WORDS.size) - measured["floor_nats"]
    assert measured["excess_nats"] == pytest.approx(expected, abs=0.1)


def test_every_metric_agrees_with_counting_target_by_target() -> None:
    batch = whole_games("uniform")
    torch.manual_seed(0)
    logits = torch.randn(*batch.targets.shape, WORDS.size) * 3
    logits[..., : SIZE**2] += 2
    found: dict[str, list[float]] = {}
    allowed = batch.legal_tokens()
    for row, position in (batch.targets != WORDS.pad_token).nonzero().tolist():
        chances = logits[row, position].softmax(-1)
        target, legal = batch.targets[row, position], allowed[row, position]
        order = chances.argsort(descending=True)
        ply, captures = int(batch.plies[row, position]), int(batch.captures[row, position])
        by_captures = "0" if captures == 0 else "1-4" if captures < 5 else "5-19"
        by_captures = by_captures if captures < 20 else "20_or_more"
        by_ply = "0-31" if ply < 32 else "32-63"
        legality = {
            "legal_mass": float(chances[legal].sum()),
            "legal_top1": float(legal[order[0]]),
        }
        values = {
            "loss": -math.log(chances[target]),
            "floor_nats": float(batch.entropies[row, position]),
            "excess_nats": float(batch.log_probs[row, position]) - math.log(chances[target]),
            "top1": float(order[0] == target),
            "top5": float(target in order[:5]),
            **legality,
        }
        for name in ("excess_nats", *legality):
            values[f"{name}_by_ply/{by_ply}"] = values[name]
            values[f"{name}_by_captures/{by_captures}"] = values[name]
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    expected = {name: sum(values) / len(values) for name, values in found.items()}
    assert "legal_top1_by_captures/5-19" in expected
    assert measure(logits, batch) == pytest.approx(expected, abs=1e-5)


def test_what_was_not_measured_is_absent() -> None:
    metrics = NextMoveMetrics()
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert metrics.compute() == {}
    batch = whole_games("uniform", with_legal=False)
    metrics.update(torch.zeros(*batch.targets.shape, WORDS.size), batch)
    measured = set(metrics.compute())
    grouped = {name for name in measured if "_by_" in name}
    assert measured - grouped == {"loss", "floor_nats", "excess_nats", "top1", "top5"}
    assert {name.partition("_by_")[0] for name in grouped} == {"excess_nats"}
    assert "excess_nats_by_ply/256_or_more" not in grouped


def test_padding_changes_no_metric() -> None:
    batch = whole_games("rules")
    logits = torch.randn(*batch.targets.shape, WORDS.size)
    changed = logits.clone()
    changed[batch.targets == WORDS.pad_token] = 100 * torch.randn(WORDS.size)
    assert (batch.targets == WORDS.pad_token).any()
    assert measure(logits, batch) == measure(changed, batch)


def test_torchmetrics_keyword_arguments_are_taken_and_obeyed() -> None:
    batch = whole_games("uniform")
    logits = torch.zeros(*batch.targets.shape, WORDS.size)
    # A metric of two processes that hold the same: everything is counted twice.
    asked: list[str] = []

    def gather(tensor: torch.Tensor, group: object) -> list[torch.Tensor]:
        asked.append("gather")
        return [tensor, tensor]

    options = {"dist_sync_fn": gather, "distributed_available_fn": lambda: True}
    metrics = NextMoveMetrics(compute_with_cache=False, **options)
    metrics.update(logits, batch)
    counted = float(metrics.count)
    values = metrics.compute()
    assert asked and float(metrics.count) == counted, "synchronised, and put back"
    assert float(values["loss"]) == pytest.approx(math.log(WORDS.size), abs=1e-5)
    assert metrics.compute() is not values
    alone = NextMoveMetrics(sync_on_compute=False, **options)
    alone.update(logits, batch)
    asked.clear()
    assert alone.compute() is alone.compute() and not asked
    step = NextMoveMetrics(dist_sync_on_step=True, **options)
    assert set(step(logits, batch)) == set(values) and asked
    with pytest.raises(ValueError, match="Unexpected keyword arguments: `board_size`"):
        NextMoveMetrics(board_size=4)


def test_groups_are_named_by_their_bounds() -> None:
    assert group_names(GROUPS["captures"]) == ["0", "1-4", "5-19", "20_or_more"]
