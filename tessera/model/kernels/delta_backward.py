"""The gradients of the gated delta rule, chunk by chunk from the last; beside ``delta_forward``.

A program holds the gradient of a block of columns of one head's state of one game. What a chunk
computed is computed again from the state before it, which was kept.
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


@triton.jit
def _grad_of_direction(grad, unit, inverse):
    """The gradient of vectors, of that of what they are divided by their lengths."""
    return inverse[:, None] * (grad - unit * tl.sum(grad * unit, 1)[:, None])


@triton.jit(do_not_specialize=["length", "num_games"])
def delta_backward_kernel(
    q,
    k,
    v,
    fade,
    beta,
    kept,
    grad_o,
    grad_last,
    grad_q,
    grad_k,
    grad_v,
    grad_fade,
    grad_beta,
    grad_state,
    num_games,
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
    HAS_GRAD_LAST: tl.constexpr,
    HAS_STATE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write the gradients of the arguments of ``delta_forward_kernel``, which says what they are.

    Args:
        grad_o: (B, L, K, P), contiguous; grad_last as ``last``, read if HAS_GRAD_LAST.
        grad_q, grad_k: a part of the gradient for each block of values, (blocks, B, L, K, N),
            contiguous, written; grad_fade and grad_beta likewise, (blocks, B, L, K).
        grad_v: (B, L, K, P), contiguous, written.
        grad_state: as ``state``, written if HAS_STATE.
        PRECISION: of all products.
    """
    blocks = tl.cdiv(value_dim, VALUES)
    program = tl.program_id(0)
    block = program % blocks
    pair = (program // blocks).to(tl.int64)
    game, head = pair // num_heads, pair % num_heads
    value = block * VALUES + tl.arange(0, VALUES)
    key = tl.arange(0, KEYS)
    index = tl.arange(0, STEPS)
    is_element = (key < key_dim)[:, None] & (value < value_dim)[None, :]
    q += game * q_game + head * key_dim
    k += game * k_game + head * key_dim
    v += game * v_game + head * value_dim
    first = game * length * num_heads + head
    part = block.to(tl.int64) * num_games * length * num_heads + first
    grad_q += part * key_dim
    grad_k += part * key_dim
    grad_fade += part
    grad_beta += part
    fade += first
    beta += first
    grad_o += first * value_dim
    grad_v += first * value_dim
    num_chunks = tl.cdiv(length, STEPS)
    kept += pair * num_chunks * key_dim * value_dim
    lies = pair * value_dim * key_dim + value[None, :] * key_dim + key[:, None]
    itself = (index[:, None] == index[None, :]).to(tl.float32)
    is_earlier = index[:, None] > index[None, :]

    grad_held = tl.zeros([KEYS, VALUES], tl.float32)
    if HAS_GRAD_LAST:
        grad_held = tl.load(grad_last + lies, mask=is_element, other=0.0)
    for number in range(num_chunks):
        chunk = num_chunks - 1 - number
        at = chunk * STEPS + index
        is_there = at < length
        before = kept + chunk * key_dim * value_dim + key[:, None] * value_dim + value[None, :]
        held = tl.load(before, mask=is_element, other=0.0).to(tl.float32)
        fade_now = tl.load(fade + at * num_heads, mask=is_there, other=0.0)
        beta_now = tl.load(beta + at * num_heads, mask=is_there, other=0.0)
        q_now = load_vectors(q, q_row, at, length, key, key_dim)
        k_now = load_vectors(k, k_row, at, length, key, key_dim)
        v_now = load_vectors(v, v_row, at, length, value, value_dim)
        grad_out = load_vectors(grad_o, num_heads * value_dim, at, length, value, value_dim)
        q_inverse, k_inverse = inverse_length(q_now), inverse_length(k_now)
        q_now *= q_inverse[:, None]
        k_now *= k_inverse[:, None]

        between, since = decay_between(fade_now, index)
        begin = tl.exp(since)
        end = tl.exp(sum_of_later(fade_now, index))
        left = tl.exp(tl.sum(fade_now, 0))
        products = tl.dot(k_now, tl.trans(k_now), input_precision=PRECISION)
        strict = beta_now[:, None] * between * products
        inverse = unit_triangular_inverse(strict, index, LEVELS, PRECISION)
        read_k = tl.dot(k_now, held, input_precision=PRECISION)
        missing = v_now - begin[:, None] * read_k
        u = tl.dot(inverse, beta_now[:, None] * missing, input_precision=PRECISION)
        scores = tl.dot(q_now, tl.trans(k_now), input_precision=PRECISION)
        weights = (between + itself) * scores
        stored = end[:, None] * k_now

        grad_u = tl.dot(tl.trans(weights), grad_out, input_precision=PRECISION)
        grad_u += tl.dot(stored, grad_held, input_precision=PRECISION)
        grad_written = tl.dot(tl.trans(inverse), grad_u, input_precision=PRECISION)
        grad_missing = beta_now[:, None] * grad_written
        store_vectors(grad_v, num_heads * value_dim, at, length, value, value_dim, grad_missing)
        beta_grad = tl.sum(grad_written * missing, 1)
        of_u = tl.trans(u)
        grad_strict = -tl.dot(grad_written, of_u, input_precision=PRECISION)
        grad_strict = tl.where(is_earlier, grad_strict, 0.0)
        grad_weights = tl.dot(grad_out, of_u, input_precision=PRECISION)

        faded_out = begin[:, None] * grad_out
        read_q = tl.dot(q_now, held, input_precision=PRECISION)
        since_grad = tl.sum(faded_out * read_q, 1) - begin * tl.sum(grad_missing * read_k, 1)
        grad_read_k = -begin[:, None] * grad_missing
        grad_stored = end[:, None] * tl.dot(u, tl.trans(grad_held), input_precision=PRECISION)
        end_grad = tl.sum(grad_stored * k_now, 1)
        left_grad = left * tl.sum(tl.sum(held * grad_held, 1), 0)
        q_grad = tl.dot(faded_out, tl.trans(held), input_precision=PRECISION)
        k_grad = grad_stored + tl.dot(grad_read_k, tl.trans(held), input_precision=PRECISION)
        grad_held *= left
        grad_held += tl.dot(tl.trans(q_now), faded_out, input_precision=PRECISION)
        grad_held += tl.dot(tl.trans(k_now), grad_read_k, input_precision=PRECISION)

        grad_scores = (between + itself) * grad_weights
        q_grad += tl.dot(grad_scores, k_now, input_precision=PRECISION)
        k_grad += tl.dot(tl.trans(grad_scores), q_now, input_precision=PRECISION)
        beta_grad += tl.sum(grad_strict * between * products, 1)
        grad_products = beta_now[:, None] * between * grad_strict
        grad_products += tl.trans(grad_products)
        k_grad += tl.dot(grad_products, k_now, input_precision=PRECISION)
        pairs = between * (grad_weights * scores + beta_now[:, None] * grad_strict * products)
        since_grad += tl.sum(pairs, 1) - tl.sum(pairs, 0)

        # A fade counts in what is left at its position and later ones, and of what came earlier.
        fade_grad = tl.sum(tl.where(is_earlier, since_grad[:, None], 0.0), 0) + since_grad
        fade_grad += tl.sum(tl.where(is_earlier, end_grad[None, :], 0.0), 1) + left_grad
        store_vectors(
            grad_q,
            num_heads * key_dim,
            at,
            length,
            key,
            key_dim,
            _grad_of_direction(q_grad, q_now, q_inverse),
        )
        store_vectors(
            grad_k,
            num_heads * key_dim,
            at,
            length,
            key,
            key_dim,
            _grad_of_direction(k_grad, k_now, k_inverse),
        )
        tl.store(grad_fade + at * num_heads, fade_grad, mask=is_there)
        tl.store(grad_beta + at * num_heads, beta_grad, mask=is_there)
    if HAS_STATE:
        tl.store(grad_state + lies, grad_held, mask=is_element)
