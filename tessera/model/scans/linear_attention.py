"""Causal linear attention in chunks: running sums of keys times values.

Shape suffixes: B games, L positions, K heads, P width of a head, V width of a value, C chunks, S
positions of a chunk.
Source: Katharopoulos et al., "Transformers are RNNs" (arXiv:2006.16236), section 3.3.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.model.scans.sums import running_sums

_CHUNK = 64  # positions that see each other at once


def linear_attention(
    q_BLKP: Tensor, k_BLKP: Tensor, v_BLKV: Tensor, before_BKPV: Tensor, chunk: int = _CHUNK
) -> tuple[Tensor, Tensor]:
    """``q_t Σ_{s ≤ t} k_s v_sᵀ`` (B, L, K, V), and the sum after the last position.

    Args:
        q_BLKP, k_BLKP: features of queries and keys, float32 at least; k is zero at PAD.
        v_BLKV: values of the same dtype.
        before_BKPV: the sum before the first position.
        chunk: S; any gives the same but for rounding.
    """
    length = q_BLKP.shape[1]

    def chunked(x: Tensor) -> Tensor:
        """(B, K, C, S, …)."""
        padded = F.pad(x, (0, 0, 0, 0, 0, -length % chunk))
        return padded.unflatten(1, (-1, chunk)).permute(0, 3, 1, 2, 4)

    q, k, v = map(chunked, (q_BLKP, k_BLKP, v_BLKV))
    own = k.transpose(-1, -2) @ v
    through = running_sums(own, 2) + before_BKPV[:, :, None]
    before = torch.cat([before_BKPV[:, :, None], through[:, :, :-1]], 2)
    within = (q @ k.transpose(-1, -2)).tril() @ v
    found = (q @ before + within).permute(0, 2, 3, 1, 4).flatten(1, 2)[:, :length]
    return found, through[:, :, -1]
