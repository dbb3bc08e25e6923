"""Tessera: Mamba models that learn to predict and play Go from games played on the GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import torch

    from tessera.companion import Companion

__all__ = ["load"]


def load(
    path: str | Path,
    device: torch.device | str = "cpu",
    board_size: int | None = None,
    own: Collection[str] = (),
) -> Companion:
    """A trained model to be asked for its map; see ``tessera.companion.load``."""
    # Here, because it loads torch and Lightning, which most commands' first answer does not need.
    from tessera import companion

    return companion.load(path, device, board_size, own)
