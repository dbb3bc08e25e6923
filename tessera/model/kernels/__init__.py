"""The model's own kernels in Triton, made for short games in large batches.

``scan_forward``, ``scan_backward`` and ``convolution`` are what runs on the GPU, ``arithmetic`` is
what they share; ``launching`` says how they are started, and ``scan_operator`` and
``convolution_operator`` start them, as operators of torch. Beside them stand the plain forms,
``tessera.model.scan`` and ``tessera.model.convolution``. None of these modules is imported before
a device asks for it, because Triton may be missing.
"""

from __future__ import annotations

import functools
import os
from importlib.util import find_spec

import torch

_MIN_CAPABILITY = (8, 0)  # Triton's own lower limit


@functools.cache
def obstacle(device: torch.device) -> str:
    """What the kernels would need to run on this device; empty if they can.

    Triton's interpreter, which its own switch TRITON_INTERPRET=1 turns on, runs them on the CPU.
    """
    if find_spec("triton") is None:
        return "the package triton"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return ""
    if device.type != "cuda" or torch.version.cuda is None:
        return "a CUDA device"
    capability = torch.cuda.get_device_capability(device)
    if capability < _MIN_CAPABILITY:
        needed, found = (".".join(map(str, pair)) for pair in (_MIN_CAPABILITY, capability))
        return f"compute capability {needed} or above, and this GPU has {found}"
    return ""
