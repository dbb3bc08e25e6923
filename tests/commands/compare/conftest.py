"""One thread, and Lightning as quiet as in a command."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tessera.commands.quiet import quieten


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """These models are too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def quiet_lightning() -> None:
    """Before each test, because pytest makes its own filters of warnings for each."""
    quieten()
