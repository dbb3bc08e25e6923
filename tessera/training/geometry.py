"""What phase 8 of a sibling design looks at, of the first batch of each validation; off by default.

Shape suffixes: B games, L positions, H ``d_model``, T positions of all games, K heads.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from tessera.data import GameBatch
from tessera.model.diagnostics import (
    agreement,
    betti_numbers,
    is_entailed,
    resonance,
    turns_between,
)
from tessera.model.hyperbolic import exp_0
from tessera.model.mixers.attention import usual_heads
from tessera.model.mixers.bk_core import GreenFeatures
from tessera.training.module import TesseraModule

_MOST_VECTORS = 2_048  # of a batch, spread over all of it


class GeometryDiagnostics(Callback):
    """Logs figures of the last vectors, those that the head reads, with each validation.

    ========================  ======================================================================
    ``val/entailed_ratio``    share of moves whose vector lies in the entailment cone of the move
                              before, in the ball where a vector of usual size is tanh 1 out
    ``val/betti_0``           pieces of the vectors' witness graph of 64 landmarks
    ``val/betti_1``           its loops
    ``val/sheaf_agreement``   how nearly heads of the vector say the same, in the mean over all
                              pairs, each turned the best way; absent of a single head
    ``val/resonance``         mean ``|Re g|`` of the chains of bk_core and phase7_hybrid; absent
                              without any
    ========================  ======================================================================

    They wait for the GPU, once for each landmark, and train nothing; no value of them is healthy or
    not. It is turned on by naming it in ``trainer.callbacks``.
    """

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []
        self._vectors: list[Tensor] = []
        self._greens: list[Tensor] = []

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: GameBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Listen to what passes in the first batch."""
        if batch_idx or not isinstance(pl_module, TesseraModule) or not trainer.is_global_zero:
            return
        model = pl_module.model
        keep = model.head.register_forward_pre_hook
        self._handles.append(keep(lambda _, args: self._vectors.append(args[0].detach())))
        for part in model.modules():
            if isinstance(part, GreenFeatures):
                hook = part.register_forward_hook
                self._handles.append(hook(lambda _, __, out: self._greens.append(out.detach())))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: GameBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure, log, and listen no longer."""
        if not self._handles:
            return
        assert isinstance(pl_module, TesseraModule)
        counted_BL = batch.targets != pl_module.pad_token
        values = self._measured(self._vectors[0].float(), counted_BL)
        self._stop()
        logged = {f"val/{name}": value for name, value in values.items()}
        pl_module.log_dict(logged, batch_size=1, rank_zero_only=True)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Listen no longer, whatever happened."""
        self._stop()

    def _stop(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._vectors, self._greens = [], [], []

    def _measured(self, vectors_BLH: Tensor, counted_BL: Tensor) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        width = vectors_BLH.shape[-1]
        vectors_TH = vectors_BLH[counted_BL]
        step = max(1, len(vectors_TH) // _MOST_VECTORS)
        vectors_TH = vectors_TH[::step]
        points = exp_0(vectors_BLH * width**-0.5, vectors_BLH.new_ones(()))
        follows = counted_BL[:, 1:] & counted_BL[:, :-1]
        if follows.any():
            entailed = is_entailed(points[:, :-1], points[:, 1:])
            values["entailed_ratio"] = entailed[follows].float().mean()
        pieces, loops = betti_numbers(vectors_TH)
        values["betti_0"], values["betti_1"] = (torch.tensor(float(x)) for x in (pieces, loops))
        num_heads = usual_heads(width)
        if num_heads > 1:
            heads_TKP = vectors_TH.unflatten(1, (num_heads, -1))
            found = agreement(heads_TKP, turns_between(heads_TKP))
            total = found.sum() - found.diagonal().sum()
            values["sheaf_agreement"] = total / (num_heads * (num_heads - 1))
        if self._greens:
            of_chains = [resonance(green[counted_BL]) for green in self._greens]
            values["resonance"] = torch.stack(of_chains).mean()
        return values
