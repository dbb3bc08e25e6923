"""Compiling the model's kernels for a GPU that need not be there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import triton.language as tl

from tessera.model.kernels import convolution_launch, embedding, scan_launch
from tessera.model.kernels.convolution import (
    convolution_backward_kernel,
    convolution_forward_kernel,
)
from tessera.model.kernels.scan_backward import scan_backward_kernel
from tessera.model.kernels.scan_forward import scan_forward_kernel
from tests.go.compile_kernels import measure

ROWS = ("x", "dt", "B", "C", "z", "y", "grad_y", "grad_x", "grad_dt", "grad_z")
COUNTS = ("length", "num_games", "num_channels", "num_states")
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
    for dtype, tokens, grad, instruction in (
        (tl.bfloat16, "*i64", "*bf16", r"mma[.\w]+\.bf16\.bf16"),
        (tl.bfloat16, "*i64", "*fp32", r"mma[.\w]+\.bf16\.bf16"),
        (tl.float32, "*i32", "*fp32", r"fma\.rn\.f32"),
    ):
        yield _compile_embedding(architecture, dtype, tokens, grad, instruction)


def _compile_embedding(
    architecture: int, dtype: tl.dtype, tokens: str, grad: str, instruction: str
) -> tuple[str, int, int]:
    """The gradient of 364 rows of 256, with its products on tensor cores unless in float32."""
    kernel = embedding.embedding_backward_kernel
    of_torch = {tl.bfloat16: torch.bfloat16, tl.float32: torch.float32}[dtype]
    constants = {
        **embedding.launch_options(364, 256, of_torch),
        "DTYPE": dtype,
        "FACTORS": dtype,
    }
    pointers = {"tokens": tokens, "grad": grad, "parts": "*fp32"}
    signature = {
        name: "constexpr" if name in constants else pointers.get(name, "i32")
        for name in kernel.arg_names
    }
    divisible = (*pointers, "num_columns", "grad_row")
    return kernel.__name__, *measure(
        kernel,
        architecture,
        signature,
        constants,
        divisible,
        num_warps=embedding.WARPS,
        num_stages=embedding.STAGES,
        instruction=instruction,
    )


def _compile(kernel: Any, architecture: int, **constants: Any) -> tuple[str, int, int]:
    signature = {name: _kind(name, constants) for name in kernel.arg_names}
    divisible = tuple(
        name
        for name, kind in signature.items()
        if kind.startswith("*") or name in STRIDES or name in ("num_channels", "num_states")
    )
    return kernel.__name__, *measure(kernel, architecture, signature, constants, divisible)


def _kind(name: str, constants: dict[str, Any]) -> str:
    if name in constants:
        return "constexpr"
    if name in COUNTS or name in STRIDES:
        return "i32"
    if name == "pads":
        return "*u8"
    return "*bf16" if name in ROWS else "*fp32"
