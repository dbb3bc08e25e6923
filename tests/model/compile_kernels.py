"""Compiling the model's kernels for a GPU that need not be there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tessera.model.kernels import (
    boards_operator,
    convolution_launch,
    delta_launch,
    norm_operator,
    scan_launch,
)
from tessera.model.kernels.boards import (
    layer_backward_kernel,
    meet_backward_kernel,
    meet_forward_kernel,
    points_backward_kernel,
    points_forward_kernel,
)
from tessera.model.kernels.convolution import (
    convolution_backward_kernel,
    convolution_forward_kernel,
)
from tessera.model.kernels.delta_backward import delta_backward_kernel
from tessera.model.kernels.delta_forward import delta_forward_kernel
from tessera.model.kernels.losses import losses_backward_kernel, losses_forward_kernel
from tessera.model.kernels.mobius import mobius_backward_kernel, mobius_forward_kernel
from tessera.model.kernels.norm import norm_backward_kernel, norm_forward_kernel
from tessera.model.kernels.planes import planes_kernel
from tessera.model.kernels.scan_backward import scan_backward_kernel
from tessera.model.kernels.scan_forward import scan_forward_kernel
from tests.go.compile_kernels import measure

ROWS = ("x", "dt", "B", "C", "z", "y", "grad_y", "grad_x", "grad_dt", "grad_z")
ROWS += ("logits", "grad_logits", "added", "normed", "grad_added", "grad_normed")
ROWS += ("grad", "other_grad", "grad_squeezed", "squeeze", "found", "out", "board_map")
ROWS += ("grad_map", "means", "grad_means", "planes")
ROWS += ("q", "k", "v", "o", "kept", "grad_q", "grad_k", "grad_v", "grad_o")
COUNTS = ("length", "width", "num_games", "num_channels", "num_states")
COUNTS += ("num_rows", "num_columns", "num_tokens", "stride", "pad_token")
COUNTS += ("num_boards", "num_points", "num_heads", "key_dim", "value_dim")
WHOLE = ("key_dim", "value_dim", "num_channels", "num_columns", "num_states")  # multiples of 16
STRIDES = tuple(f"{name}_{axis}" for name in (*ROWS, "grad") for axis in ("game", "row"))


def compile_all(architecture: int) -> Iterator[tuple[str, int, int]]:
    """Name, registers and bytes of spilled registers of the kernels as training launches them."""
    scan = {"CHANNELS": 32, "STATES": 16, "HAS_STATE": False, "HAS_PADS": True}
    convolution = {"CHANNELS": convolution_launch.CHANNELS, "TAPS": 4, "HAS_BEFORE": False}
    convolution["WHOLE"] = True
    for kernel, steps, constants in (
        (scan_forward_kernel, scan_launch.FORWARD_STEPS, scan),
        (scan_backward_kernel, scan_launch.BACKWARD_STEPS, {**scan, "HAS_GRAD_LAST": False}),
        (convolution_forward_kernel, convolution_launch.FORWARD_STEPS, convolution),
        (convolution_backward_kernel, convolution_launch.BACKWARD_STEPS, convolution),
    ):
        yield _compile(kernel, architecture, **constants, STEPS=steps)
    for kernel in (losses_forward_kernel, losses_backward_kernel):
        yield _compile(kernel, architecture, WIDTH=512, ROWS=1)
    norm = {"WIDTH": 256, "ROWS": norm_operator.ELEMENTS // 256, "HAS_ADDED": True}
    for whole in (True, False):
        yield _compile(norm_forward_kernel, architecture, **norm, WHOLE=whole)
        constants = {**norm, "WHOLE": whole, "HAS_GRAD_TOTAL": True}
        yield _compile(norm_backward_kernel, architecture, **constants)
    for kernel in (mobius_forward_kernel, mobius_backward_kernel):
        yield _compile(kernel, architecture, WIDTH=64)
    yield from _compile_boards(architecture)


def compile_delta(architecture: int) -> Iterator[tuple[str, int, int]]:
    """As ``compile_all``, of the gated delta rule's kernels."""
    levels = delta_launch.LEVELS
    constants = {"KEYS": 64, "VALUES": 32, "STEPS": 2**levels, "LEVELS": levels}
    constants |= {"PRECISION": "tf32", "HAS_STATE": False}
    warps = delta_launch.OPTIONS["num_warps"]
    yield _compile(delta_forward_kernel, architecture, warps, **constants)
    constants["HAS_GRAD_LAST"] = False
    yield _compile(delta_backward_kernel, architecture, warps, **constants)


def _compile_boards(architecture: int) -> Iterator[tuple[str, int, int]]:
    """Those over boards, of 64 channels."""
    warps = boards_operator.PROGRAM_WARPS
    sizes = {"WIDTH": 64, "ROWS": boards_operator.ELEMENTS * warps // 64}
    layer = {**sizes, "SQUEEZED": 16, "AS_FLOAT32": False}
    for kernel, constants in (
        (meet_forward_kernel, sizes),
        (meet_backward_kernel, sizes),
        (points_forward_kernel, sizes),
        (points_backward_kernel, sizes),
        (layer_backward_kernel, {**layer, "NUM_GRADS": 2, "NUM_SQUEEZED": 0}),
        (layer_backward_kernel, {**layer, "NUM_GRADS": 1, "NUM_SQUEEZED": 8}),
    ):
        yield _compile(kernel, architecture, warps, **constants)
    for size in (9, 19):
        yield _compile(planes_kernel, architecture, SIZE=size, REACH=4, WIDTH=16)


def _compile(
    kernel: Any, architecture: int, num_warps: int = 1, **constants: Any
) -> tuple[str, int, int]:
    signature = {name: _kind(name, constants) for name in kernel.arg_names}
    divisible = tuple(
        name
        for name, kind in signature.items()
        if kind.startswith("*") or name in STRIDES or name in WHOLE
    )
    found = measure(kernel, architecture, signature, constants, divisible, num_warps)
    return kernel.__name__, *found


def _kind(name: str, constants: dict[str, Any]) -> str:
    if name in constants:
        return "constexpr"
    if name in COUNTS or name in STRIDES:
        return "i32"
    if name in ("pads", "sets"):
        return "*u8" if name == "pads" else "*i32"
    if name in ("targets", "tokens"):
        return "*i64"
    if name in ("eps", "furthest", "limit"):
        return "fp32"
    return "*bf16" if name in ROWS else "*fp32"
