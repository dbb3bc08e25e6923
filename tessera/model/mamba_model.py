"""MambaModel: the design's model."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from tessera.model.backend import ScanName
from tessera.model.contract import check_sizes
from tessera.model.model import GameModel
from tessera.model.settings import ModelSettings
from tessera.setting_errors import Problem, SettingError


class MambaModel(GameModel):
    """The design's model: embedding, a Mamba mixer or residual blocks of them, and a head.

    Args:
        vocab_size: tokens, n² + 3 for an n×n board.
        d_model: width of a position's vector.
        d_state: states of each channel; Mamba-2 is usually run with 64 or 128.
        d_conv: positions the short convolution sees, its own included.
        expand: channels per unit of ``d_model``.
        n_layers: 1 is a bare mixer; more are pre-norm residual blocks and a final norm.
        scan: ``auto``, ``triton``, ``mamba_ssm`` or ``torch``, see ``SelectiveScan``; of Mamba-2
            without ``triton``, see ``DualScan``.
        pad_token: the token to leave out; None means ``vocab_size - 2``, as in ``Vocabulary``.
        checkpoint_activations: whether training keeps only the input of each of several blocks and
            computes the rest again in the backward pass: less memory, more time.
        mixer: ``mamba`` or ``mamba2``, whose channels share their step sizes and decay by heads.

    Raises:
        SettingError: with a problem for every argument that is out of range.
    """

    def __init__(
        self,
        vocab_size: int = 364,  # 19×19
        d_model: int = 256,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        n_layers: int = 1,
        scan: ScanName = "auto",
        pad_token: int | None = None,
        checkpoint_activations: bool = False,
        mixer: Literal["mamba", "mamba2"] = "mamba",
    ) -> None:
        own: dict[str, Any] = {"d_state": d_state, "d_conv": d_conv, "expand": expand, "scan": scan}
        sizes = {"vocab_size": vocab_size, "d_model": d_model, "n_layers": n_layers}
        check_sizes(**sizes, d_state=d_state, d_conv=d_conv, expand=expand)
        if mixer not in ("mamba", "mamba2"):
            raise SettingError(Problem("mixer", mixer, "be mamba or mamba2"))
        parts: dict[str, Any] = {**sizes, "mixer": mixer, mixer: own}
        settings = ModelSettings(**parts, checkpoint_activations=checkpoint_activations)
        super().__init__(settings, pad_token)

    @property
    def mamba(self) -> nn.Module:
        """The mixer, if there is one layer; otherwise all blocks."""
        return self.blocks.mixer(0) if self.blocks.is_bare else self.blocks
