"""The machine that a measurement was made on."""

from __future__ import annotations

import platform

import torch


def machine_name(device: torch.device) -> str:
    """The device and the software, in words."""
    software = f"torch {torch.__version__}, Python {platform.python_version()}"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {software}"
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'s' if threads > 1 else ''}, {software}"
