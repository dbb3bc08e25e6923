"""Launching the kernels of one ply on an engine's tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tessera.accelerator import current
from tessera.go.kernels.games import KO_CODES
from tessera.go.kernels.ply import legal_kernel, play_kernel, score_kernel
from tessera.go.position import Position
from tessera.go.rules import Rules


@dataclass(frozen=True, slots=True)
class Plies:
    """The tensors of B games as the engine and its superko hold them, and the games' rules.

    Attributes:
        position: sets (n, B) int32 that lie in memory as (B, n).
        superko: what ``Superko.kernel_arguments`` returns; None under simple ko.
    """

    position: Position
    turn: Tensor
    move_number: Tensor
    passes: Tensor
    last_captures: Tensor
    captured: Tensor
    history: Tensor
    ko_point: Tensor
    superko: tuple[Tensor, ...] | None
    rules: Rules

    def play(self, moves: Tensor) -> None:
        """Play one move (B,) int64 in every game that is not over, in place."""
        superko = self.superko or (self.turn,) * 8
        with current(self.turn.device):
            play_kernel[self._grid](
                moves.contiguous(),
                *self._sets,
                self.turn,
                self.move_number,
                self.passes,
                self.last_captures,
                self.captured,
                self.history,
                self.ko_point,
                *superko,
                self.history.shape[1],
                **self._options,
            )

    def legal_rows(self) -> Tensor:
        """The legal points as row bitboards (n, B)."""
        rows = torch.empty_like(self.position.own)
        self._legal(rows, rows, as_mask=False)
        return rows

    def legal_mask(self) -> Tensor:
        """The legal moves (B, n² + 1) bool, pass last."""
        size, batch_size = self.position.own.shape
        mask = torch.empty(batch_size, size**2 + 1, dtype=torch.bool, device=self.turn.device)
        self._legal(self.position.own, mask.view(torch.uint8), as_mask=True)
        return mask

    def score(self, komi: float) -> Tensor:
        """Black's area minus white's minus komi, (B,) float32."""
        scores = torch.empty(self.turn.shape, dtype=torch.float32, device=self.turn.device)
        self._score(scores, self.turn, komi, as_ownership=False)
        return scores

    def ownership(self) -> Tensor:
        """Who owns each point, (B, n, n) int64."""
        size, batch_size = self.position.own.shape
        owners = self.turn.new_empty(batch_size, size, size)
        self._score(self.turn, owners, 0.0, as_ownership=True)
        return owners

    @property
    def _grid(self) -> tuple[int]:
        return (self.turn.shape[0],)

    @property
    def _sets(self) -> tuple[Tensor, Tensor, Tensor]:
        position = self.position
        assert position.own.t().is_contiguous()
        return position.own, position.opponent, position.atari

    @property
    def _options(self) -> dict[str, int | bool]:
        """The launch options; the fusion of multiply and add is every version's default."""
        return {
            "SIZE": self.position.own.shape[0],
            "KO": KO_CODES[self.rules.ko],
            "SINGLE": self.rules.capture == "single",
            "num_warps": 1,
            "enable_fp_fusion": True,
        }

    def _legal(self, rows: Tensor, mask: Tensor, as_mask: bool) -> None:
        lost, _, exposed, _, *others = self.superko or (self.turn,) * 8
        with current(self.turn.device):
            legal_kernel[self._grid](
                *self._sets,
                self.turn,
                self.move_number,
                self.ko_point,
                lost,
                exposed,
                *others,
                rows,
                mask,
                self.history.shape[1],
                SUICIDE=self.rules.suicide,
                AS_MASK=as_mask,
                **self._options,
            )

    def _score(self, scores: Tensor, owners: Tensor, komi: float, as_ownership: bool) -> None:
        own, opponent, _ = self._sets
        with current(self.turn.device):
            score_kernel[self._grid](
                own,
                opponent,
                self.turn,
                scores,
                owners,
                komi,
                SIZE=own.shape[0],
                AS_OWNERSHIP=as_ownership,
                num_warps=1,
                enable_fp_fusion=True,
            )
