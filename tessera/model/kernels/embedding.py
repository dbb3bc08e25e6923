"""The embedding's gradient as a product with one-hot rows; beside ``model.embedding``.

The one-hot matrix is never in memory: a program builds its part of it, from the tokens, in
registers. Every element is a sum in one order, which no timing changes: over the tokens of a
program, and over programs afterwards.

Shapes: T tokens, H ``d_model``, V ``vocab_size``; S parts of the tokens.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from tessera.accelerator import current
from tessera.model.kernels.launching import resident_programs

ROWS = 128  # of the vocabulary in a program
COLUMNS = 128  # of the gradient; a tile of sums is half of the registers of four warps
TOKENS = 64  # in one product
PROGRAMS = 2  # on a multiprocessor: its registers hold so many, and each costs a tile of memory
WARPS = 4
STAGES = 3

# In float32 there is no tensor core: the operands lie in registers, too.
EXACT_COLUMNS = 32
EXACT_TOKENS = 16
EXACT_PROGRAMS = 4

_DTYPES = {
    torch.float32: tl.float32,
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
}


@triton.jit(do_not_specialize=["num_tokens", "num_chunks"])
def embedding_backward_kernel(
    tokens,
    grad,
    parts,
    num_tokens,
    num_rows,
    num_columns,
    num_chunks,
    grad_row,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TOKENS: tl.constexpr,
    DTYPE: tl.constexpr,
    FACTORS: tl.constexpr,
):
    """Write the sum of the gradients of each token, over one part of the tokens.

    Programs: (blocks of ROWS, blocks of COLUMNS, S). Those that read the same tokens come together.

    Args:
        tokens: (T,) int64 or int32, contiguous.
        grad: (T, H) in any float dtype of at most 32 bits, rows ``grad_row`` apart.
        parts: (S, V, H) float32, contiguous, written.
        num_rows, num_columns: V and H.
        num_chunks: products for each part, of TOKENS tokens.
        DTYPE: what the gradients are rounded to before the product.
        FACTORS: in which both sides of the product are, DTYPE or wider.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    part = tl.program_id(2).to(tl.int64)
    is_column = column < num_columns
    index = tl.arange(0, TOKENS)
    place = index[:, None] * grad_row + column[None, :]
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for chunk in range(num_chunks):
        start = (part * num_chunks + chunk) * TOKENS
        is_there = index < num_tokens - start
        # Beyond the last token there is a token that no row has.
        token = tl.load(tokens + start + index, mask=is_there, other=-1).to(tl.int32)
        mask = is_there[:, None] & is_column[None, :]
        tile = tl.load(grad + start * grad_row + place, mask=mask, other=0.0).to(DTYPE)
        one_hot = (row[:, None] == token[None, :]).to(FACTORS)
        total = tl.dot(one_hot, tile.to(FACTORS), total, input_precision="ieee")
    own = (part * num_rows + row.to(tl.int64))[:, None] * num_columns + column[None, :]
    tl.store(parts + own, total, mask=(row < num_rows)[:, None] & is_column[None, :])


def embedding_gradient(
    tokens: Tensor, grad_TH: Tensor, vocab_size: int, dtype: torch.dtype
) -> Tensor:
    """The sum of the gradients of each token, (V, H) float32.

    Args:
        tokens: (T,) int64 or int32, T at least 1.
        grad_TH: (T, H) float32, float16 or bfloat16.
        vocab_size: V.
        dtype: one of those three; what the gradients are rounded to before they are added.
    """
    tokens = tokens.contiguous()
    if grad_TH.stride(1) != 1:
        grad_TH = grad_TH.contiguous()
    num_tokens, num_columns = grad_TH.shape
    options = launch_options(vocab_size, num_columns, dtype)
    num_blocks = (
        triton.cdiv(vocab_size, options["ROWS"]),
        triton.cdiv(num_columns, options["COLUMNS"]),
    )
    all_chunks = triton.cdiv(num_tokens, options["TOKENS"])
    resident = resident_programs(
        grad_TH.device, EXACT_PROGRAMS if dtype == torch.float32 else PROGRAMS
    )
    num_chunks = triton.cdiv(all_chunks, max(resident // (num_blocks[0] * num_blocks[1]), 1))
    num_parts = triton.cdiv(all_chunks, num_chunks)
    # The interpreter would multiply bfloat16 as whole numbers, those that its bits spell.
    factors = dtype if grad_TH.is_cuda else torch.float32
    parts_SVH = grad_TH.new_empty(num_parts, vocab_size, num_columns, dtype=torch.float32)
    with current(grad_TH.device):
        embedding_backward_kernel[(*num_blocks, num_parts)](
            tokens,
            grad_TH,
            parts_SVH,
            num_tokens,
            vocab_size,
            num_columns,
            num_chunks,
            grad_TH.stride(0),
            **options,
            DTYPE=_DTYPES[dtype],
            FACTORS=_DTYPES[factors],
            num_warps=WARPS,
            num_stages=STAGES,
        )
    return parts_SVH.sum(0)


def launch_options(vocab_size: int, num_columns: int, dtype: torch.dtype) -> dict[str, int]:
    """The sizes of a program's blocks: no larger than what there is, and than a product needs."""
    is_exact = dtype == torch.float32
    return {
        "ROWS": _block(ROWS, vocab_size),
        "COLUMNS": _block(EXACT_COLUMNS if is_exact else COLUMNS, num_columns),
        "TOKENS": EXACT_TOKENS if is_exact else TOKENS,
    }


def _block(most: int, count: int) -> int:
    return min(most, max(16, triton.next_power_of_2(count)))
