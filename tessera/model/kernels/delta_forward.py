"""The gated delta rule, chunk by chunk; beside ``tessera.model.scans.delta``.

A program holds a block of columns of one head's state of one game, in registers, and walks through
the game's chunks. Everything that is a product is one of small matrices on tensor cores.
"""

from __future__ import annotations

import triton
import triton.language as tl

from tessera.model.kernels.delta_chunk import (
    decay_between,
    inverse_length,
    load_vectors,
    store_vectors,
    sum_of_later,
    unit_triangular_inverse,
)


@triton.jit(do_not_specialize=["length"])
def delta_forward_kernel(
    q,
    k,
    v,
    fade,
    beta,
    state,
    o,
    last,
    kept,
    length,
    num_heads,
    key_dim,
    value_dim,
    q_game,
    q_row,
    k_game,
    k_row,
    v_game,
    v_row,
    KEYS: tl.constexpr,
    VALUES: tl.constexpr,
    STEPS: tl.constexpr,
    LEVELS: tl.constexpr,
    HAS_STATE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write the outputs, the last state, and the state before each chunk; see ``delta_rule``.

    Programs: one for each game, head and block of VALUES values, the blocks of a head side by side.

    Args:
        q, k: (B, L, K, N) in any float dtype of at most 32 bits; v likewise, (B, L, K, P).
        fade, beta: (B, L, K) float32, contiguous.
        state: (B, K, P, N) float32, contiguous, read if HAS_STATE; last likewise, written.
        o: (B, L, K, P), contiguous, written.
        kept: (B, K, S, N, P) of S chunks, contiguous, written.
        q_game, q_row, …: elements from one game and one position to the next.
        KEYS: ``key_dim`` rounded up to a power of two, at least 16.
        STEPS: Q, 2 ** LEVELS, at least 16.
        PRECISION: of what is read; what is written is always as exact as float32.
    """
    blocks = tl.cdiv(value_dim, VALUES)
    program = tl.program_id(0)
    pair = (program // blocks).to(tl.int64)
    game, head = pair // num_heads, pair % num_heads
    value = program % blocks * VALUES + tl.arange(0, VALUES)
    key = tl.arange(0, KEYS)
    index = tl.arange(0, STEPS)
    is_element = (key < key_dim)[:, None] & (value < value_dim)[None, :]
    q += game * q_game + head * key_dim
    k += game * k_game + head * key_dim
    v += game * v_game + head * value_dim
    o += (game * length * num_heads + head) * value_dim
    fade += game * length * num_heads + head
    beta += game * length * num_heads + head
    num_chunks = tl.cdiv(length, STEPS)
    kept += pair * num_chunks * key_dim * value_dim
    lies = pair * value_dim * key_dim + value[None, :] * key_dim + key[:, None]

    held = tl.zeros([KEYS, VALUES], tl.float32)
    if HAS_STATE:
        held = tl.load(state + lies, mask=is_element, other=0.0)
    for chunk in range(num_chunks):
        before = kept + chunk * key_dim * value_dim + key[:, None] * value_dim + value[None, :]
        tl.store(before, held.to(kept.dtype.element_ty), mask=is_element)
        at = chunk * STEPS + index
        fade_now = tl.load(fade + at * num_heads, mask=at < length, other=0.0)
        beta_now = tl.load(beta + at * num_heads, mask=at < length, other=0.0)
        q_now = load_vectors(q, q_row, at, length, key, key_dim)
        k_now = load_vectors(k, k_row, at, length, key, key_dim)
        v_now = load_vectors(v, v_row, at, length, value, value_dim)
        q_now *= inverse_length(q_now)[:, None]
        k_now *= inverse_length(k_now)[:, None]

        between, since = decay_between(fade_now, index)
        begin = tl.exp(since)[:, None]
        products = tl.dot(k_now, tl.trans(k_now), input_precision="tf32x3")
        strict = beta_now[:, None] * between * products
        inverse = unit_triangular_inverse(strict, index, LEVELS, "tf32x3")
        missing = v_now - begin * tl.dot(k_now, held, input_precision="tf32x3")
        u = tl.dot(inverse, beta_now[:, None] * missing, input_precision="tf32x3")

        weights = between + (index[:, None] == index[None, :]).to(tl.float32)
        weights *= tl.dot(q_now, tl.trans(k_now), input_precision=PRECISION)
        read = begin * tl.dot(q_now, held, input_precision=PRECISION)
        read += tl.dot(weights, u, input_precision=PRECISION)
        store_vectors(o, num_heads * value_dim, at, length, value, value_dim, read)
        stored = tl.exp(sum_of_later(fade_now, index))[:, None] * k_now
        held *= tl.exp(tl.sum(fade_now, 0))
        held += tl.dot(tl.trans(stored), u, input_precision="tf32x3")
    tl.store(last + lies, held, mask=is_element)
