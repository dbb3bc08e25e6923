"""A tensor-train embedding: a token's vector is made of a part for its row and one for its column.

Shape suffixes: T tokens, I rows, J columns, R ranks, P and Q the two factors of a vector, H
``d_model``, V ``vocab_size``.
Source: the Holographic Tensor Train (HTT) of MUSE, phase 1; Hrinchuk et al., "Tensorized Embedding
Layers" (arXiv:1901.10787), section 3.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.contract import check_sizes
from tessera.model.embeddings import Embedding, TokenEmbedding, look_up
from tessera.model.parts import PartSettings
from tessera.setting_errors import Problem, SettingError, one_of
from tessera.vocabulary import board_size_of, num_tokens

_PHASE = 0.1  # spread of new phases
_OTHERS = 2  # PASS and EOS


class TensorTrainEmbedding(Embedding):
    """A vector of P·Q numbers as the matrix ``Σ_r cos θ_r · rows[i, r, :]ᵀ columns[j, r, :]``.

    Tokens of one row i share its R left factors, tokens of one column j its R right ones, and the
    matrix has a rank of at most R. No table of all tokens is kept, only its two cores. New vectors
    have the variance of a new table's, 1.

    Args:
        vocab_size: tokens.
        d_model: width of a position's vector; P and Q are the two whole numbers around its root.
        pad_token: the token whose vector is zero; with ``board`` as in ``Vocabulary``.
        rank: R.
        factors: ``board``, the rows and columns of the board, and vectors of their own for PASS and
            EOS; or ``square``, as published: the two whole numbers around √V, all tokens in order.
        phase: whether there is an angle θ for each rank, HTT's "holographic" one. A real factor
            that the cores could hold as well; without it cos θ is 1.

    Raises:
        SettingError: if ``rank`` is not a whole number of at least 1, ``factors`` is none of the
            two, or ``board`` and the vocabulary is none of a board.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("rows", "columns")
    can_be_tied: ClassVar[bool] = True

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        pad_token: int,
        rank: int = 16,
        factors: str = "board",
        phase: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(d_model=d_model, rank=rank)
        one_of("board", "square")("factors", factors)
        if factors == "board" and num_tokens(board_size_of(vocab_size)) != vocab_size:
            must = f"be square where there is no board, of {vocab_size} tokens"
            raise SettingError(Problem("factors", factors, must))
        self.vocab_size, self.d_model, self.pad_token = vocab_size, d_model, pad_token
        (num_rows, num_columns), self.sides = _factored(vocab_size, factors), _square(d_model)
        # Of cores with the deviation s the sum over the ranks has the variance s⁴ · Σ cos² θ.
        theta_R = torch.randn(rank) * _PHASE if phase else torch.zeros(rank)
        deviation = theta_R.cos().square().sum() ** -0.25
        self.rows = nn.Parameter(torch.randn(num_rows, rank, self.sides[0]) * deviation)
        self.columns = nn.Parameter(torch.randn(num_columns, rank, self.sides[1]) * deviation)
        self.phase = nn.Parameter(theta_R) if phase else None
        self.others = TokenEmbedding(_OTHERS, d_model) if factors == "board" else None

    @property
    def num_points(self) -> int:
        """Tokens whose vectors the cores make; the others have their own."""
        return self.vocab_size if self.others is None else len(self.rows) * len(self.columns)

    def forward(self, tokens: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """See ``Embedding.forward``; float32 sums under autocast too.

        Of fewer tokens than there are in the vocabulary only theirs are computed.
        """
        if tokens.numel() < self.vocab_size:
            with _without_autocast(tokens.device):
                return self._vectors(tokens).to(dtype or self.rows.dtype)
        with _without_autocast(tokens.device):
            table_VH = self.table()
        return look_up(tokens, table_VH, self.pad_token, dtype)

    def table(self) -> Tensor:
        """The vectors (V, H) of all tokens."""
        matrices_IJPQ = torch.einsum("irp,jrq->ijpq", self._turned_rows(), self.columns)
        made = matrices_IJPQ.flatten(2).flatten(0, 1)[: self.num_points, : self.d_model]
        if self.others is not None:
            pass_1H, eos_1H = self.others.weight.split(1)
            return torch.cat([made, pass_1H, torch.zeros_like(pass_1H), eos_1H])
        is_pad_V = torch.arange(self.vocab_size, device=made.device) == self.pad_token
        return made.masked_fill(is_pad_V[:, None], 0.0)

    def products(self, hidden: Tensor) -> Tensor:
        """See ``Embedding.products``: by the two cores, one after the other, without a table."""
        hidden_TH = hidden.flatten(0, -2)
        p, q = self.sides
        hidden_TPQ = F.pad(hidden_TH, (0, p * q - self.d_model)).unflatten(1, (p, q))
        rows_IRP, columns_JRQ = self._turned_rows(), self.columns
        # That core first which leaves less between the two.
        if len(rows_IRP) * q <= len(columns_JRQ) * p:
            half = torch.einsum("tpq,irp->tirq", hidden_TPQ, rows_IRP)
            made_TIJ = torch.einsum("tirq,jrq->tij", half, columns_JRQ)
        else:
            half = torch.einsum("tpq,jrq->tjrp", hidden_TPQ, columns_JRQ)
            made_TIJ = torch.einsum("tjrp,irp->tij", half, rows_IRP)
        made_TV = made_TIJ.flatten(1)[:, : self.num_points]
        if self.others is not None:
            own_T2 = self.others.products(hidden_TH)
            made_TV = torch.cat(
                [made_TV, own_T2[:, :1], torch.zeros_like(own_T2[:, :1]), own_T2[:, 1:]], 1
            )
        else:
            is_pad_V = torch.arange(self.vocab_size, device=hidden.device) == self.pad_token
            made_TV = made_TV.masked_fill(is_pad_V, 0.0)
        return made_TV.view(*hidden.shape[:-1], self.vocab_size)

    def _turned_rows(self) -> Tensor:
        """The rows' core (I, R, P), each rank times its phase's cosine."""
        return self.rows if self.phase is None else self.rows * self.phase.cos()[:, None]

    def _vectors(self, tokens: Tensor) -> Tensor:
        """The vectors (…, H) of these tokens alone."""
        row, column = tokens // len(self.columns), tokens % len(self.columns)
        factors = []
        for core, place in ((self._turned_rows(), row), (self.columns, column)):
            chosen = look_up(place.clamp(max=len(core) - 1), core.flatten(1))
            factors.append(chosen.unflatten(-1, core.shape[1:]))
        made = torch.einsum("...rp,...rq->...pq", *factors).flatten(-2)[..., : self.d_model]
        if self.others is not None:
            own = self.others((tokens > self.pad_token).long())
            made = torch.where((tokens < self.num_points)[..., None], made, own)
        return made.masked_fill((tokens == self.pad_token)[..., None], 0.0)


def _square(size: int) -> tuple[int, int]:
    """Two whole numbers around the root, whose product is at least the size."""
    first = math.isqrt(size - 1) + 1
    return first, -(-size // first)


def _factored(vocab_size: int, factors: str) -> tuple[int, int]:
    """Rows and columns of the tokens."""
    board_size = board_size_of(vocab_size)
    return (board_size, board_size) if factors == "board" else _square(vocab_size)


def _without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Float32 products; on a device that knows no autocast nothing is done."""
    if device.type not in ("cpu", "cuda"):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


@dataclass(frozen=True)
class TensorTrainSettings(PartSettings):
    """Settings of ``TensorTrainEmbedding``.

    Args:
        rank: highest rank of a vector as a matrix.
        factors: board, rows and columns of the board; or square, the published factors of the
            number of tokens.
        phase: whether each rank has an angle, whose cosine it is multiplied by.
    """

    rank: int = 16
    factors: str = "board"
    phase: bool = False

    part: ClassVar[type[nn.Module]] = TensorTrainEmbedding

    def num_parameters(self, vocab_size: int, d_model: int, pad_token: int) -> int:
        """Of the embedding."""
        (rows, columns), (p, q) = _factored(vocab_size, self.factors), _square(d_model)
        others = _OTHERS * d_model if self.factors == "board" else 0
        return self.rank * (rows * p + columns * q) + self.phase * self.rank + others
