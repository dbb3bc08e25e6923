"""Lightning lets through only what concerns the run."""

from __future__ import annotations

import logging
import os
import warnings


def quieten() -> None:
    """No advertising, and no advice that does not apply."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A report that was asked for is no advice.
    for name in ("callbacks", "profilers"):
        logging.getLogger(f"lightning.pytorch.{name}").setLevel(logging.INFO)
    # Batches are made on the training device: workers in other processes could not help.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # Lightning's own calls of parts of torch and of jsonargparse that are on their way out.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.. is deprecated.*")
