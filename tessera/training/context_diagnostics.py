"""Checks of what a model's vectors hold, with each validation and test; off by default.

Shape suffixes: B games, L positions, T vectors, C numbers of a vector.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from tessera.data import GameBatch
from tessera.model import GameModel
from tessera.model.features.base import FeatureTables
from tessera.setting_errors import SettingError, problems_of, whole
from tessera.training.context_checks import (
    CONTROL,
    Recurrence,
    by_sweep,
    by_token,
    identity_of,
    memory_tokens,
    ranks_of,
    repeated,
    verdict,
)
from tessera.training.context_vectors import (
    GameRecurrence,
    has_constant_state,
    passed_through,
    untrained,
)
from tessera.training.module import TesseraModule
from tessera.transfers import owned

_SWEEPS = (5, 10, 20, 40)  # after which the convergence rate is logged
_ALLOWED = {"rows": whole(2), "games": whole(1), "passes": whole(3), "seed": whole(0)}


class ContextDiagnostics(Callback):
    """Logs checks of vectors of each validation's first batch, which has the same games each time.

    Beside each figure stands its control, which has ``untrained_`` in front of its name: the same
    of a new model with the same settings, its weights drawn from ``seed``, of the same positions of
    the same games. It is computed once.

    =======================  =======================================================================
    ``effective_rank``       how many directions the vectors point in that the head reads, and
    ``…_centred``            without their mean; of ``effective_rank_rows`` vectors, each
                             ``effective_rank_width`` wide
    ``norm``, ``spread``     mean length, and that of what is left without the mean
    ``cosine``               with the token's own vector, in the mean; absent if widths differ
    ``pass_change``          how much the second of the passes over the same games changes a vector,
                             relative to the vectors' mean square: each pass begins with what the
                             one before it remembered
    ``pass_change_last``     the same of the last pass
    ``pass_slope``           of the straight line through all of them, by pass
    ``pass_verdict``         0 converged, -1 converging, 1 diverging, 2 unstable
    ``memory_tokens``        after how many tokens it makes no difference any more what a game
                             began with; absent if it always does
    =======================  =======================================================================

    All are logged as ``val/NAME``, and ``test/NAME`` of a test. Of a model with the mixer
    ``context_token`` the same are logged of the last such layer's context, as ``context_NAME``, and
    of sweeps over all positions at once ``context_sweep_changed_K``, which share of positions sweep
    K changes by less than 0.03, and ``context_sweep_right_K``, which share is then that near to the
    sequential pass.

    Passes are absent of a model whose state grows, as attention's does. All of it waits for the
    GPU, for as long as some twenty passes over the games take. It is turned on by naming it in
    ``trainer.callbacks``.

    Args:
        rows: vectors that a rank is taken of, at most.
        games: that are looked at, the batch's first ones, at most.
        passes: over the same games.
        seed: of the control's weights, and of which vectors are looked at.
    """

    def __init__(self, rows: int = 2048, games: int = 64, passes: int = 10, seed: int = 0) -> None:
        self.rows, self.games, self.passes, self.seed = rows, games, passes, seed
        if problems := problems_of(self, _ALLOWED):
            raise SettingError(*problems)
        self._controls: dict[str, dict[str, float]] = {}  # of validation, and of the test

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *of_batch: Any
    ) -> None:
        """Measure the first batch, and log."""
        self._log("val", trainer, pl_module, *of_batch)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *of_batch: Any
    ) -> None:
        """Measure the first batch, and log."""
        self._log("test", trainer, pl_module, *of_batch)

    def _log(
        self,
        group: str,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: GameBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx or not isinstance(pl_module, TesseraModule) or not trainer.is_global_zero:
            return
        model, some = pl_module.model, batch.rows(slice(0, self.games))
        features = some.features("none" if model.features is None else model.features.table)
        with owned("validation"):
            found = self.measured(model, some.inputs, features)
            control = self._controls.get(group)
            if control is None:
                with untrained(model, self.seed) as new:
                    control = self._controls[group] = self.measured(new, some.inputs, features)
        found |= {CONTROL + name: value for name, value in control.items()}
        logged = {f"{group}/{name}": torch.tensor(value) for name, value in found.items()}
        pl_module.log_dict(logged, batch_size=1, rank_zero_only=True)

    @torch.no_grad()
    def measured(
        self, model: GameModel, tokens: Tensor, features: FeatureTables = ()
    ) -> dict[str, float]:
        """All figures of a model, by name; those that it cannot have are left out.

        Args:
            model: in eval mode.
            tokens: (B, L) int64, some of them no PAD.
            features: tables of the model's features.
        """
        passed = passed_through(model, tokens, features)
        counted_BL = tokens != model.pad_token
        found = self._of_vectors(passed.hidden_BLH[counted_BL], passed.embedded_BLH[counted_BL])
        if has_constant_state(model):
            found |= self._of_passes(GameRecurrence(model, tokens, features))
        if passed.contexts:
            recurrence = passed.contexts[-1]
            contexts_BLC, _ = recurrence.sequential()
            own = self._of_vectors(contexts_BLC[counted_BL], recurrence.inputs[counted_BL])
            own |= self._of_passes(recurrence)
            rates = by_sweep(recurrence, max(_SWEEPS))
            for sweep in _SWEEPS:
                changed, right = rates[sweep - 1]
                own |= {f"sweep_changed_{sweep}": changed, f"sweep_right_{sweep}": right}
            found |= {f"context_{name}": value for name, value in own.items()}
        return found

    def _of_vectors(self, vectors_TC: Tensor, inputs_TC: Tensor) -> dict[str, float]:
        ranks = ranks_of(vectors_TC, self.rows, self.seed)
        identity = identity_of(vectors_TC, inputs_TC)
        found = {
            "effective_rank": ranks.rank,
            "effective_rank_centred": ranks.centred,
            "effective_rank_rows": float(ranks.rows),
            "effective_rank_width": float(ranks.width),
            "norm": identity.norm,
            "spread": identity.spread,
        }
        return found if identity.cosine is None else {**found, "cosine": identity.cosine}

    def _of_passes(self, recurrence: Recurrence) -> dict[str, float]:
        changes = repeated(recurrence, self.passes)
        counted_BL = recurrence.counted_BL
        means = [float(each[counted_BL].mean()) for each in changes]
        judged, memory = verdict(means), memory_tokens(by_token(changes[0], counted_BL))
        found = {
            "pass_change": means[0],
            "pass_change_last": means[-1],
            "pass_slope": judged.slope,
            "pass_verdict": float(judged.code),
        }
        return found if memory is None else {**found, "memory_tokens": float(memory)}
